#include "decide/playbook.h"

#include <string.h>

#include "base/text.h"

namespace ace {
namespace {

using Number = unsigned long long;

// More experience than this weighs no more: what is new must be able to change what is old.
constexpr uint64_t kSamplesMax = 100;

// Reads a decimal number behind `name`; false where it is not there. Moves `at` behind it.
bool read_number(const char *&at, const char *name, uint64_t *number, bool *negative = nullptr) {
  const size_t length = strlen(name);
  if (strncmp(at, name, length) != 0) return false;
  at += length;
  const bool minus = negative != nullptr && *at == '-';
  at += minus;
  if (negative != nullptr) *negative = minus;
  if (*at < '0' || *at > '9') return false;
  uint64_t n = 0;
  for (; *at >= '0' && *at <= '9'; ++at) {
    if (__builtin_mul_overflow(n, uint64_t{10}, &n) || __builtin_add_overflow(n, uint64_t(*at - '0'), &n))
      return false;
  }
  *number = n;
  return true;
}

bool read_context_name(const char *&at, uint16_t *context) {
  for (uint16_t c = 0; c < kContexts; ++c) {
    const ContextName name = name_of(c);
    const size_t length = strlen(name.text);
    if (strncmp(at, name.text, length) != 0 || at[length] != ':') continue;
    at += length + 1;
    *context = c;
    return true;
  }
  return false;
}

bool read_weights(const char *&at, Context &context) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < kExperts; ++i) {
    uint64_t weight;
    if (!read_number(at, i == 0 ? " weights=" : ",", &weight) || weight > kOne) return false;
    context.weights[i] = static_cast<uint32_t>(weight);
    sum += weight;
  }
  return sum != 0;
}

void give_all_weight(Context &context, unsigned expert) {
  for (unsigned i = 0; i < kExperts; ++i) context.weights[i] = i == expert ? kOne : 0;
}

// One line, without its end. nullptr or what is wrong.
const char *read_line(const char *at, Context (&contexts)[kContexts]) {
  Context read{};
  read.pinned = strncmp(at, "pin ", 4) == 0;
  if (read.pinned) at += 4;
  uint16_t context;
  if (!read_context_name(at, &context)) return "has a line of an unknown context";
  uint64_t hold, gained;
  bool lost;
  if (!read_number(at, " hold=", &hold)) return "has a line without hold=NUMBER";
  unsigned expert = 0;
  while (expert < kExperts && kDelayEighths[expert] != hold) ++expert;
  if (expert == kExperts) return "has a hold that is no delay (0, 1, 2, 4, 8, 12, 16 or 32 eighths)";
  if (read.pinned) {
    give_all_weight(read, expert);  // whatever else the line says
  } else {
    if (!read_number(at, " samples=", &read.samples) || !read_number(at, " helpful=", &read.helpful) ||
        !read_number(at, " harmful=", &read.harmful) || !read_number(at, " gained_us=", &gained, &lost) ||
        !read_weights(at, read) || *at != '\0')
      return "has a line that is damaged";
    gained = std::min(gained, uint64_t{INT64_MAX} / 1000);
    read.gained_ns = static_cast<int64_t>(gained) * (lost ? -1000 : 1000);
  }
  contexts[context] = read;
  return nullptr;
}

unsigned heaviest(const Context &context) {
  unsigned best = 0;
  for (unsigned i = 1; i < kExperts; ++i)
    if (context.weights[i] > context.weights[best]) best = i;
  return best;
}

}  // namespace

size_t format_playbook(char *text, size_t size, const PlaybookFit &fit, const Context (&contexts)[kContexts]) {
  TextBuffer page(text, size);
  page.add("ace-playbook 1 page=%llu byte_seconds=%llu\n", Number{fit.page_size}, Number{fit.byte_seconds});
  for (uint16_t c = 0; c < kContexts; ++c) {
    const Context &context = contexts[c];
    if (context.samples == 0 && !context.pinned) continue;
    page.add("%s%s: hold=%llu samples=%llu helpful=%llu harmful=%llu gained_us=%lld weights=",
             context.pinned ? "pin " : "", name_of(c).text, Number{kDelayEighths[heaviest(context)]},
             Number{context.samples}, Number{context.helpful}, Number{context.harmful},
             static_cast<long long>(context.gained_ns / 1000));
    for (unsigned i = 0; i < kExperts; ++i) page.add("%s%u", i == 0 ? "" : ",", context.weights[i]);
    page.add("\n");
  }
  return page.fits() ? page.length() : 0;
}

const char *parse_playbook(const char *text, const PlaybookFit &fit, Context (&contexts)[kContexts],
                           unsigned *line) {
  Context read[kContexts];
  memcpy(read, contexts, sizeof read);
  *line = 1;
  const char *at = text;
  uint64_t version, page, price;
  if (!read_number(at, "ace-playbook ", &version)) return "does not begin with 'ace-playbook 1'";
  if (version != 1) return "is of another version";
  if (!read_number(at, " page=", &page) || !read_number(at, " byte_seconds=", &price) || *at != '\n')
    return "has a damaged first line";
  if (page != fit.page_size) return "was learned with another page size";
  if (price != fit.byte_seconds) return "was learned with another price of memory";
  for (++at; *at != '\0';) {
    ++*line;
    const char *end = strchr(at, '\n');
    if (end == nullptr) return "is cut off";
    char copy[512];
    const auto length = static_cast<size_t>(end - at);
    if (length >= sizeof copy) return "has a line that is damaged";
    memcpy(copy, at, length);
    copy[length] = '\0';
    at = end + 1;
    if (copy[0] == '\0' || copy[0] == '#') continue;
    if (const char *wrong = read_line(copy, read)) return wrong;
  }
  memcpy(contexts, read, sizeof read);
  return nullptr;
}

void start_from(Context &fresh, const Context &known) {
  if (known.samples == 0 && !known.pinned) return;
  for (unsigned i = 0; i < kExperts; ++i) {
    const uint64_t mixed = (uint64_t{known.weights[i]} * 7 + fresh.weights[i]) / 8;
    fresh.weights[i] = known.pinned ? known.weights[i] : static_cast<uint32_t>(mixed);
  }
  fresh.pinned = known.pinned;
  fresh.begun = true;
}

void add_context(Context &sum, const Context &more) {
  if (sum.pinned || more.samples == 0) return;
  const uint64_t old = std::min(sum.samples, kSamplesMax), fresh = std::min(more.samples, kSamplesMax);
  for (unsigned i = 0; i < kExperts; ++i) {
    sum.weights[i] = static_cast<uint32_t>((sum.weights[i] * old + more.weights[i] * fresh) / (old + fresh));
  }
  sum.samples += more.samples;
  sum.helpful += more.helpful;
  sum.harmful += more.harmful;
  if (__builtin_add_overflow(sum.gained_ns, more.gained_ns, &sum.gained_ns)) sum.gained_ns = more.gained_ns;
}

}  // namespace ace
