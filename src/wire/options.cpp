#include "wire/options.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cstddef>

#include "base/kept_errno.h"
#include "base/say.h"

namespace ace {
namespace {

// ---- parsers: false where the text is no value of theirs. `options` may be a trial copy. They call nothing of
// libc that asks for the locale: every process reads its options, and the tables for that are some 200 KB that
// many have no other use for.

// A whole number, and one of the units or none; false where there is another character or it overflows.
bool parse_number(const char *text, const char *const units[], const uint64_t factors[], uint64_t *number) {
  if (*text < '0' || *text > '9') return false;
  uint64_t n = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    const auto digit = static_cast<unsigned>(*text - '0');
    if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, digit, &n)) return false;
  }
  const auto is_unit = [&](const char *unit) {
    const char *p = text;
    while (*p != '\0' && (*p == *unit || (*p >= 'A' && *p <= 'Z' && *p + ('a' - 'A') == *unit))) ++p, ++unit;
    return *p == '\0' && *unit == '\0';
  };
  for (unsigned i = 0; units[i] != nullptr; ++i) {
    if (is_unit(units[i])) return !__builtin_mul_overflow(n, factors[i], number);
  }
  return false;
}

bool parse_bytes(const char *text, Setting<size_t> Options::*field, Options &options) {
  static constexpr const char *kUnits[] = {"", "k", "m", "g", nullptr};
  static constexpr uint64_t kFactors[] = {1, 1u << 10, 1u << 20, 1u << 30};
  uint64_t n;
  if (!parse_number(text, kUnits, kFactors, &n)) return false;
  options.*field = n;
  return true;
}

bool parse_duration(const char *text, Setting<uint64_t> Options::*field, Options &options) {
  static constexpr const char *kUnits[] = {"us", "ms", "s", nullptr};
  static constexpr uint64_t kFactors[] = {1'000, 1'000'000, 1'000'000'000};
  constexpr uint64_t kLongest = uint64_t{1} << 58;  // nine years: what is added to the time stays in range
  uint64_t n;
  if (!parse_number(text, kUnits, kFactors, &n) || n > kLongest) return false;
  options.*field = n;
  return true;
}

bool parse_switch(const char *text, Setting<bool> Options::*field, Options &options) {
  bool on = strcmp(text, "on") == 0 || strcmp(text, "1") == 0;
  if (!on && strcmp(text, "off") != 0 && strcmp(text, "0") != 0) return false;
  options.*field = on;
  return true;
}

// The seed paper's profiles, for throughput and for memory, are prices.
bool parse_price(const char *text, Setting<size_t> Options::*field, Options &options) {
  if (strcmp(text, "full") == 0) text = "8g";
  if (strcmp(text, "conservative") == 0) text = "128m";
  Options trial;
  if (!parse_bytes(text, field, trial) || trial.*field < size_t{1} << 20 || trial.*field > size_t{1} << 50)
    return false;
  options.*field = static_cast<size_t>(trial.*field);
  return true;
}

bool parse_mode(const char *text, Setting<Mode> Options::*field, Options &options) {
  static constexpr const char *kNames[] = {"off", "static", "observe", "learn"};
  for (unsigned i = 0; i < 4; ++i) {
    if (strcmp(text, kNames[i]) != 0) continue;
    options.*field = static_cast<Mode>(i);
    return true;
  }
  return false;
}

bool parse_worker(const char *text, Setting<WorkerOption> Options::*field, Options &options) {
  static constexpr const char *kNames[] = {"off", "on", "tick"}, *kNumbers[] = {"0", "1"};  // as a switch has
  for (unsigned i = 0; i < 3; ++i) {
    if (strcmp(text, kNames[i]) != 0 && (i == 2 || strcmp(text, kNumbers[i]) != 0)) continue;
    options.*field = static_cast<WorkerOption>(i);
    return true;
  }
  return false;
}

bool parse_bad_pointer(const char *text, Setting<bool> Options::*field, Options &options) {
  bool aborts = strcmp(text, "abort") == 0;
  if (!aborts && strcmp(text, "report") != 0) return false;
  options.*field = aborts;
  return true;
}

bool parse_domains(const char *text, Setting<unsigned> Options::*field, Options &options) {
  static constexpr const char *kNames[] = {"raw", "mem", "obj"};
  unsigned domains = 0;
  for (const char *word = text; *word != '\0';) {
    size_t length = 0;
    while (word[length] != '\0' && word[length] != ',') ++length;
    unsigned i = 0;
    while (i < 3 && (strlen(kNames[i]) != length || strncmp(word, kNames[i], length) != 0)) ++i;
    if (i == 3) return false;
    domains |= 1u << i;
    word += length;
    if (*word == ',' && *++word == '\0') return false;
  }
  if (domains == 0) return false;
  options.*field = domains;
  return true;
}

// Kept as its text alone.
bool parse_text(const char *text, std::nullptr_t, Options &) {
  return *text != '\0' && strlen(text) < kOptionTextMax;
}

// ---- the table

struct Row {
  ace_option_info info;
  bool (*parse)(const char *text, Options &options);
  uint64_t (*number)(const Options &options);
};

template <typename T>
uint64_t number_of(Setting<T> Options::*field, const Options &options) {
  return static_cast<uint64_t>(static_cast<T>(options.*field));
}
uint64_t number_of(std::nullptr_t, const Options &) { return 0; }

constexpr const char *environment_name(const char *name, char (&buffer)[32]) {
  const char prefix[] = "ACE_";
  unsigned n = 0;
  for (; prefix[n] != '\0'; ++n) buffer[n] = prefix[n];
  for (; *name != '\0'; ++name)
    buffer[n++] = *name >= 'a' && *name <= 'z' ? static_cast<char>(*name - 32) : *name;
  buffer[n] = '\0';
  return buffer;
}

constexpr Row kRows[] = {
#define ACE_OPTION(name, field, default_value, parser, values, description)         \
  {{#name, nullptr, default_value, values, description},                            \
   [](const char *text, Options &options) { return parser(text, field, options); }, \
   [](const Options &options) { return number_of(field, options); }},
#include "wire/options.def"
#undef ACE_OPTION
};
constexpr unsigned kRowCount = sizeof kRows / sizeof kRows[0];
static_assert(kRowCount <= 20, "at most 20 options");

pthread_once_t g_read_once = PTHREAD_ONCE_INIT;
pthread_mutex_t g_options_lock = PTHREAD_MUTEX_INITIALIZER;
Options g_options;
char g_given[kRowCount][kOptionTextMax];
const char *g_texts[kRowCount];  // what was given, or the default
char g_environment_names[kRowCount][32];

int find_row(const char *name) {
  for (unsigned i = 0; i < kRowCount; ++i) {
    if (strcmp(kRows[i].info.name, name) == 0) return static_cast<int>(i);
  }
  return -1;
}

bool set_row(unsigned i, const char *text) {
  if (strlen(text) >= kOptionTextMax || !kRows[i].parse(text, g_options)) return false;
  g_texts[i] = strcpy(g_given[i], text);
  return true;
}

void set_default(unsigned i) {
  g_texts[i] = kRows[i].info.default_value;
  kRows[i].parse(g_texts[i], g_options);
}

void say_unknown_names() {
  for (char **entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (strncmp(*entry, "ACE_", 4) != 0) continue;
    size_t length = strcspn(*entry, "=");
    bool known = false;
    for (auto &name : g_environment_names)
      known |= strlen(name) == length && strncmp(*entry, name, length) == 0;
    if (!known)
      say("ace: there is no option %.*s; `ace options` lists them\n", static_cast<int>(length), *entry);
  }
}

// The environment's file, from the root on: a relative path means the folder in which the process is now, at
// its beginning, and programs go elsewhere. As it is where it would be too long, and where it is a word of the
// row's.
const char *whole_path(unsigned i, const char *text, char (&path)[kOptionTextMax]) {
  const bool is_file = strstr(kRows[i].info.values, "a file's path") != nullptr && strcmp(text, "none") != 0 &&
                       strcmp(text, "stderr") != 0;
  if (!is_file || text[0] == '/' || text[0] == '\0') return text;
  if (getcwd(path, sizeof path) == nullptr || path[0] != '/') return text;
  const size_t length = strlen(path);
  if (length + 1 + strlen(text) >= sizeof path) return text;
  path[length] = '/';
  strcpy(path + length + 1, text);
  return path;
}

void read_environment() {
  const KeptErrno kept;
  for (unsigned i = 0; i < kRowCount; ++i) {
    const char *name = environment_name(kRows[i].info.name, g_environment_names[i]);
    set_default(i);
    const char *text = secure_getenv(name);
    char path[kOptionTextMax];
    if (text == nullptr || set_row(i, whole_path(i, text, path))) continue;
    say("ace: %s=%s is no value of this option (%s); using %s\n", name, text, kRows[i].info.values,
        kRows[i].info.default_value);
  }
  if (g_options.verbose) say_unknown_names();
}

}  // namespace

const Options &options() {
  pthread_once(&g_read_once, read_environment);
  return g_options;
}

bool describe_option(unsigned index, ace_option_info *info) {
  if (index >= kRowCount) return false;
  options();
  *info = kRows[index].info;
  info->environment = g_environment_names[index];
  return true;
}

int set_option(const char *name, const char *value) {
  options();
  int i = find_row(name);
  if (i < 0) return -1;
  lock_options();
  bool taken = set_row(static_cast<unsigned>(i), value);
  unlock_options();
  return taken ? 0 : -2;
}

void lock_options() { pthread_mutex_lock(&g_options_lock); }
void unlock_options() { pthread_mutex_unlock(&g_options_lock); }

const char *option_text(const char *name) {
  options();
  int i = find_row(name);
  return i < 0 ? nullptr : g_texts[i];
}

bool copy_file_option(const char *name, char (&path)[kOptionTextMax]) {
  options();
  const int i = find_row(name);
  lock_options();
  strcpy(path, g_texts[i]);
  unlock_options();
  return strcmp(path, "none") != 0;
}

uint64_t option_number(const char *name) {
  const Options &all = options();
  int i = find_row(name);
  return i < 0 ? 0 : kRows[i].number(all);
}

}  // namespace ace
