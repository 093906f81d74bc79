// Runs one command and writes down what it took:
//
//   launch [--core N] [--env NAME=VALUE]... [--pid-fd FD] --record FILE -- COMMAND...
//
// The harness is written in Python and is itself large: what wait4 says of the peak of a child of it counts the
// harness's own memory, from before the command took its place. So a small program stands between. It attaches
// to the command as a debugger does, and stops it once: when it is about to end, but its memory is still there.
// At that moment /proc tells the peak, the address space and which libraries are loaded, exactly and at no cost
// to the run.
//
// `--env` is for the command alone (LD_PRELOAD). FD receives the command's process id. Ends with 0 where the
// command was run, however it ended; 2 where that was not possible.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

namespace {

struct Request {
  int core = -1;
  int pid_fd = -1;
  const char *record = nullptr;
  std::vector<const char *> environment;
  char **command = nullptr;
};

// What is read at the command's end. Kilobytes, as the kernel tells them; -1: not seen.
struct Last {
  long peak_kb = -1, address_space_kb = -1, resident_kb = -1;
  std::set<std::string> files;
};

[[noreturn]] void fail(const char *what, const char *why) {
  fprintf(stderr, "launch: %s: %s\n", what, why);
  exit(2);
}

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Request parse(int argc, char **argv) {
  Request request;
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
    if (i + 1 >= argc) fail(argv[i], "needs a value");
    const char *value = argv[i + 1];
    if (strcmp(argv[i], "--core") == 0) {
      request.core = atoi(value);
    } else if (strcmp(argv[i], "--pid-fd") == 0) {
      request.pid_fd = atoi(value);
    } else if (strcmp(argv[i], "--record") == 0) {
      request.record = value;
    } else if (strcmp(argv[i], "--env") == 0) {
      request.environment.push_back(value);
    } else {
      fail(argv[i], "no such option");
    }
  }
  if (request.record == nullptr || i + 1 >= argc) {
    fail("usage", "launch [--core N] [--env NAME=VALUE]... [--pid-fd FD] --record FILE -- COMMAND...");
  }
  request.command = argv + i + 1;
  return request;
}

// Waits until it is attached to, then becomes the command.
[[noreturn]] void become(const Request &request, int gate) {
  char byte;
  if (read(gate, &byte, 1) != 1) _exit(126);
  if (request.core >= 0) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(request.core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0) fail("--core", strerror(errno));
  }
  for (const char *setting : request.environment) putenv(const_cast<char *>(setting));
  execvp(request.command[0], request.command);
  fprintf(stderr, "launch: %s: %s\n", request.command[0], strerror(errno));
  _exit(127);
}

void read_last(pid_t pid, Last &last) {
  char path[64], line[4096];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  if (FILE *file = fopen(path, "r"); file != nullptr) {
    while (fgets(line, sizeof line, file) != nullptr) {
      sscanf(line, "VmHWM: %ld", &last.peak_kb);
      sscanf(line, "VmPeak: %ld", &last.address_space_kb);
      sscanf(line, "VmRSS: %ld", &last.resident_kb);
    }
    fclose(file);
  }
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  if (FILE *file = fopen(path, "r"); file != nullptr) {
    while (fgets(line, sizeof line, file) != nullptr) {
      if (const char *name = strchr(line, '/'); name != nullptr) last.files.emplace(name, strcspn(name, "\n"));
    }
    fclose(file);
  }
}

void write_string(FILE *file, const std::string &text) {
  fputc('"', file);
  for (char c : text) {
    if (c == '"' || c == '\\') fputc('\\', file);
    if (static_cast<unsigned char>(c) >= ' ') fputc(c, file);
  }
  fputc('"', file);
}

double seconds(const timeval &time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

void write_record(const char *path, int status, double wall, const rusage &usage, const Last &last) {
  FILE *file = fopen(path, "w");
  if (file == nullptr) fail(path, strerror(errno));
  fprintf(file,
          "{\"exit\":%d,\"signal\":%d,\"wall_seconds\":%.6f,\"user_seconds\":%.6f,\"system_seconds\":%.6f,",
          WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0, wall,
          seconds(usage.ru_utime), seconds(usage.ru_stime));
  fprintf(file, "\"minor_faults\":%ld,\"major_faults\":%ld,\"peak_kb\":%ld,\"address_space_kb\":%ld,",
          usage.ru_minflt, usage.ru_majflt, last.peak_kb, last.address_space_kb);
  fprintf(file, "\"resident_kb\":%ld,\"files\":[", last.resident_kb);
  const char *separator = "";
  for (const std::string &name : last.files) {
    fputs(separator, file);
    write_string(file, name);
    separator = ",";
  }
  fputs("]}\n", file);
  if (ferror(file) != 0 || fclose(file) != 0) fail(path, strerror(errno));
}

// Passes on to the command what a debugger is shown first, until it has ended.
int follow(pid_t pid, Last &last, rusage &usage, double &aside) {
  int status = 0;
  for (;;) {
    if (wait4(pid, &status, __WALL, &usage) != pid) fail("wait4", strerror(errno));
    if (WIFEXITED(status) || WIFSIGNALED(status)) return status;
    const int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_EXIT) {
      const double start = now();
      read_last(pid, last);
      aside = now() - start;
      ptrace(PTRACE_CONT, pid, nullptr, nullptr);
    } else if (event == PTRACE_EVENT_STOP) {
      // Stopped by SIGSTOP and its like: it shall stay so until it is continued.
      const bool group = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      ptrace(group ? PTRACE_LISTEN : PTRACE_CONT, pid, nullptr, nullptr);
    } else {
      ptrace(PTRACE_CONT, pid, nullptr, event == 0 ? signal : 0);
    }
  }
}

}  // namespace

int main(int argc, char **argv) {
  const Request request = parse(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // where the harness is killed, nothing of it runs on
  int gate[2];
  if (pipe2(gate, O_CLOEXEC) != 0) fail("pipe", strerror(errno));
  const pid_t pid = fork();
  if (pid < 0) fail("fork", strerror(errno));
  if (pid == 0) become(request, gate[0]);
  if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) != 0) {
    kill(pid, SIGKILL);
    fail(
        "cannot attach to the command (a container needs the capability SYS_PTRACE, and "
        "kernel.yama.ptrace_scope must be below 3)",
        strerror(errno));
  }
  if (request.pid_fd >= 0) dprintf(request.pid_fd, "%d\n", pid);
  const double start = now();
  if (write(gate[1], "g", 1) != 1) fail("pipe", strerror(errno));
  Last last;
  rusage usage{};
  double aside = 0;
  const int status = follow(pid, last, usage, aside);
  write_record(request.record, status, now() - start - aside, usage, last);
  return 0;
}
