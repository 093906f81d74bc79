// What the parts of the CPython hook know of each other.
//
//   enter.cpp    is this CPython, may it be entered, and with what
//   domains.cpp  its three allocator domains, served from two heaps
//   phases.cpp   its collector, heard through gc.callbacks
//   report.cpp   how it stands at exit
#pragma once
#include "ace/ace.h"

namespace ace::python {

// CPython's own numbers for its allocator domains.
enum Domain : int { kRaw = 0, kMem = 1, kObj = 2 };
constexpr int kDomains = 3;

// ---- domains.cpp

struct Plan {
  unsigned domains;       // a bit for each Domain, as ace_option_number gives them
  bool segregate;         // mem and obj live in different slabs
  size_t limit;           // of the heap for mem and obj; bytes, 0: none
  bool own_gils;          // interpreters with a GIL of their own can exist: listen for them
  bool assume_many_gils;  // they cannot be detected reliably: lock from the start
};

// Makes the heaps and puts our functions into CPython's domains. False where there is no memory: nothing has
// changed then. Before CPython's first allocation.
bool install(const Plan &plan);

// From now on mem and obj go straight to their heap, unless several GILs exist. Under the GIL.
void go_straight();

// Passes a hint of the collector on to the heaps. Under the GIL of the main interpreter.
void hint(ace_hint_code code, uint64_t value, bool full_collection);

// How the domains stand; for the report.
struct Standing {
  ace_heap *vm_heap;   // mem and obj; null where neither was taken
  ace_heap *raw_heap;  // null where raw was not taken
  bool used;           // CPython allocated from us after it was initialised
  bool replaced;       // another allocator has taken our place
  bool many_gils;
};
Standing standing();

// ace_heap_report under the lock that the heap needs; a null heap has nothing to report. No thread may be
// inside mem or obj.
void report_heap(ace_heap *heap, int fd, const char *format);

// ---- phases.cpp

// To be called when mem or obj are used, until it returns true: asks the main thread to attach to the
// collector as soon as CPython is initialised. Under a GIL.
bool ask_to_attach();

// True once collections are heard.
bool attached();

// ---- enter.cpp

// What was found, for the report. Static texts.
struct Found {
  const char *version;  // "3.11.2"; "" where it is not CPython
  const char *domains;  // "raw,mem,obj": those taken over; "" where none
  const char *refusal;  // why nothing was taken over; "" where something was
  bool debug_hooks;
};
const Found &found();

}  // namespace ace::python
