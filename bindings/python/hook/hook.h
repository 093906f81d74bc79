// What the parts of the CPython hook know of each other.
//
//   enter.cpp    is this CPython, may it be entered, and with what
//   domains.cpp  its three allocator domains, served from two heaps
//   fork.cpp     what they do around a fork
//   limit.cpp    how much they may take; reserve.h: and beyond that, once something was refused
//   phases.cpp   its collector, heard through gc.callbacks
//   builtin.cpp  the module _ace, for the program itself
//   census.cpp   what the memory consists of
//   interpreters.cpp  the heaps of interpreters with a GIL of their own
//   report.cpp   how it stands at exit; in the preloaded library only
//   record.cpp   what it asks for, for a trace; in the preloaded library only
//   embed.cpp    for those who embed CPython (ace_python.h); not in the preloaded library
#pragma once
#include <pthread.h>

#include "ace/ace.h"

namespace ace::python {

class Census;
class Reserve;

// CPython's own numbers for its allocator domains.
enum Domain : int { kRaw = 0, kMem = 1, kObj = 2 };
constexpr int kDomains = 3;

// ---- domains.cpp

struct Plan {
  unsigned domains;       // a bit for each Domain, as ace_option_number gives them
  bool segregate;         // mem and obj live in different slabs
  size_t limit;           // of the heap for mem and obj; bytes, 0: none
  bool own_gils;          // interpreters with a GIL of their own can exist: listen for them
  bool assume_many_gils;  // they cannot be detected reliably: look for the interpreter from the start
};

// Makes the heaps and puts our functions into CPython's domains. False where there is no memory: nothing has
// changed then. Before CPython's first allocation.
bool install(const Plan &plan);

// Puts them there once more, for another initialisation of CPython after its end.
void install_again();

// From now on mem and obj go straight to their heap, unless several GILs exist. Under the GIL.
void go_straight();

// Passes a hint on to the heap of mem and obj; `also_raw`: and to that of raw, as that of a full collection.
// Under the GIL of the main interpreter.
void hint(ace_hint_code code, uint64_t value, bool also_raw);

// One to that of raw alone. Any thread.
void hint_raw(ace_hint_code code, uint64_t value);

// How the domains stand; for the report.
struct Standing {
  ace_heap *vm_heap;   // mem and obj; null where neither was taken
  ace_heap *raw_heap;  // null where raw was not taken
  bool used;           // CPython allocated from us after it was initialised
  bool replaced;       // another allocator has taken our place
  bool many_gils;
};
Standing standing();

// For the built-in module, under a GIL. Each takes the lock that its heap needs.
size_t trim();  // bytes given back
// Fills `stats` and returns the heap's name; nullptr where this domain was not taken.
const char *read_stats(Domain domain, ace_stats &stats);
// Looks at some of the heaps; false once all were looked at.
bool step_census(Census &census);

// ace_heap_report under the lock that the heap needs; a null heap has nothing to report. No thread may be
// inside mem or obj. False, with errno, where not all was written.
bool report_heap(ace_heap *heap, int fd, const char *format);

// A heap as that of mem and obj, for one interpreter more; nullptr where there is no memory.
ace_heap *make_interpreter_heap();

// Around fork.
void lock_domains();
void unlock_domains();

// ---- fork.cpp

// Once there are heaps. After ACE's own handlers, which are there from the start: these then run before them,
// in the order in which the locks are taken elsewhere.
void watch_forks_of_python();

// In the child of a fork: has it asked for memory? Else always.
bool has_worked_since_fork();

// ---- limit.cpp

// The heap that is limited, as it was made.
void begin_limit(ace_heap *heap, size_t limit);

// What all heaps are made with: the ace_limit_fn, and for it a reserve. main_reserve is the limited heap's;
// make_reserve makes one for another interpreter's heap, whose limit never changes, or gives nullptr where
// there is no memory. Neither is ever freed.
int near_limit(ace_heap *heap, size_t missing, void *reserve);
Reserve *main_reserve();
Reserve *make_reserve(size_t limit);

// A collection is over, or who was told has done what it could: where clearly less is in use now, they are told
// again. Under a GIL.
void arm_limit_after_collection();
void arm_limit_after_telling();

// For the built-in module, under a GIL: the most resident bytes of the heap for mem and obj (of raw, where that
// alone was taken); 0: none.
// What is in force; the heap's own may be less or more for a while.
size_t present_limit();
// A limit for as long as something lasts: of those in force the one entered last counts, and at the end of the
// last what begin_limit set. They may end in any order.
struct EnteredLimit {
  pthread_t thread;
  size_t limit, reserve_begin;
  EnteredLimit *before;
  bool is_in_force;
};
// nullptr where there is no memory; else to be freed, once it was left.
EnteredLimit *enter_limit(size_t limit);
// A second call does nothing.
void leave_limit(EnteredLimit &entered);
// In the child of a fork: those of threads that are not there any more end.
void leave_limits_of_other_threads();
// CPython has ended: nobody is left to end them, or to be told.
void forget_limits();

// From now on `tell` is called, within an allocation, when seven eighths of the limit are in use; again only
// once clearly less was, or, where it returns false, when some more is that is below the limit. nullptr: nobody
// is told.
void tell_near_limit(bool (*tell)());

// ---- interpreters.cpp

// Does this build have what is needed?
bool can_tell_interpreters();

// Does the calling thread run the main interpreter, and hold its GIL?
bool runs_main_interpreter();

// The heap of the interpreter that the calling thread runs, made where it has none yet; `main_heap` is the main
// interpreter's. nullptr: the thread runs none, or there is no memory.
ace_heap *heap_of_this_interpreter(ace_heap *main_heap);

// A block of raw memory was made that may hold an interpreter's state, which is told nowhere else.
void note_state_block(const void *block, size_t size);

// The block of an interpreter's state is freed; any pointer will do.
void end_interpreter(const void *block);

// All heaps but the main interpreter's.
void visit_interpreter_heaps(void (*visit)(ace_heap *heap, void *context), void *context);

// Around a fork.
void lock_interpreters();
void unlock_interpreters();

// ---- phases.cpp

// To be called when mem or obj are used, until it returns true: asks the main thread to attach to the
// collector as soon as CPython is initialised. Under a GIL.
bool ask_to_attach();

// After CPython's end: what was attached has gone with it.
void ask_to_attach_anew();

// Attaches at once. Under the GIL of the main interpreter, which is initialised.
void attach_now();

// True once collections are heard.
bool attached();

// ---- builtin.cpp

// Before CPython is initialised: adds the module _ace. False where this build lacks what it needs.
bool add_builtin();

// CPython has ended, and what the program has left here with it.
void forget_program();

// In the child of a fork: a census of another thread is over.
void forget_census();

// ---- enter.cpp

// Enters an interpreter that runs already: what it has allocated goes back to where it came from. Under the
// GIL. nullptr, or why that cannot be and what to do about it.
const char *enter_running();

// What was found, for the report. Static texts.
struct Found {
  const char *version;  // "3.11.2"; "" where it is not CPython
  int minor;            // 11
  const char *domains;  // "raw,mem,obj": those taken over; "" where none
  const char *refusal;  // why nothing was taken over; "" where something was
  bool debug_hooks;
};
const Found &found();

}  // namespace ace::python
