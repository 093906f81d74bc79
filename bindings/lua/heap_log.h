// What the report needs to know of the heaps of a stock program's states, whenever they end.
#pragma once
#include "ace/ace.h"
#include "lua/ace_lua.h"

namespace ace::lua {

// One state that is open. Any thread may call these; each entry has one owner.
struct OpenHeap {
  ace_heap *heap;
  OpenHeap *before;
  OpenHeap *after;
};

// A heap for a state, as the options say, and its entry, which it passes to log_closed_heap. nullptr where
// there is no memory.
ace_lua_vm *make_logged_vm(const char *name, OpenHeap *&entry);
// The state was not made after all.
void drop_logged_vm(ace_lua_vm *vm, OpenHeap *entry);
// The state was made.
void log_open_heap(OpenHeap *entry, ace_heap *heap);
// An ace_lua_close_fn: the state was closed. Its heap is written where the option `report` says.
void log_closed_heap(ace_heap *heap, void *entry);

struct HeapCounts {
  unsigned long long opened;
  unsigned long long closed;
  unsigned long long foreign;  // pointers of other allocators that were passed to closed states
  unsigned long long leaked;   // blocks that closed states left behind
};
HeapCounts heap_counts();

// Writes the heaps of the states that were never closed, as os.exit leaves them. False, with errno, where not
// all was written.
bool report_open_heaps(int fd, bool json);

}  // namespace ace::lua
