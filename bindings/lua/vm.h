// What the parts of the Lua binding know of a state.
//
//   ace_lua.cpp     the allocator, the heap's beginning and end
//   phases.cpp      what its collector does, as the heap is told of it
//   collector.cpp   where a VM keeps that
//   soft_limit.cpp  a limit that makes a VM collect which fails otherwise
//   close.cpp       a state's end without freeing block by block
//   take_over.cpp   a state that began on another allocator
#pragma once
#include <setjmp.h>
#include <stdint.h>

#include "ace_lua.h"
#include "lua/collector.h"

namespace ace::lua {
using Allocator = void *(*)(void *ud, void *block, size_t old_size, size_t size);
}

// What a userdata of ours holds the address of, and so what its finalizer learns.
struct ace_lua_mark {
  ace_lua_vm *vm;
  void *block;  // the userdata's
};

struct ace_lua_vm {
  ace_heap *heap;
  void *first_block;  // the state itself: allocated first, and freed last
  int frees;          // in a row; kUntouched: nothing was allocated or freed since a mark was armed

  size_t size_mask;  // 0: what the VM says of a block's size is not told to the heap

  // phases.cpp. An allocation takes the longer way where the collector's state is not what was seen last.
  const uint8_t *collector;  // the VM's own where its place is known, else `no_collector`
  uint8_t seen;              // kNoState: it always takes that way
  uint8_t no_collector;      // 0
  const ace::lua::CollectorLayout *layout;
  ace::lua::Stage stage;
  bool told;  // the end of a collection, since the last sentinel was made
  // Where the place is not known:
  bool sweeping;       // a collection has begun, and its end was not yet told
  bool may_be_over;    // an end was told, but the sweep may go on
  bool ends_by_quiet;  // no finalizer will tell the end of this sweep
  size_t quiet_bytes;  // allocated during this sweep since the last frees in a row

  bool has_kinds;
  bool shares;    // the heap is the host's, and may hold other states
  bool attached;  // lua_newstate is over
  bool closing;
  bool jumps;         // ace_lua_vm_close waits at `out`
  size_t first_size;  // of the first block
  ace_lua_api api;
  lua_State *state;  // the main thread
  ace_lua_mark sentinel, end;
  ace_lua_close_fn on_close;
  void *on_close_context;
  int calm_rounds;
  jmp_buf out;

  void *recorder;  // of a stock program's state, where it is recorded

  // take_over.cpp
  ace::lua::Allocator former;
  void *former_ud;

  // soft_limit.cpp
  size_t limit;                 // what was asked for; 0: none
  size_t cap;                   // the same, or more for a cycle where that is less than the state holds
  size_t armed;                 // what the heap has been given of it
  uintptr_t *threshold;         // the VM's own: so much memory is to be allocated for its collector's next step
  uintptr_t stopped_threshold;  // what it is while the program has stopped the collector
  bool urged;                   // its collector was told to do a whole cycle at once
  bool urged_midway;            // while it was in one
  int step_multiplier;          // what it had before
};

namespace ace::lua {

constexpr int kUntouched = -1;
constexpr uint8_t kNoState = 0xff;

// ---- ace_lua.cpp

// The kind that the type tag of a new block means, which 5.2 and newer pass as its old size.
ace_kind kind_of_tag(size_t tag);

// The state has ended: says so, and destroys the vm, and the heap where it is the state's own.
void end_heap(ace_lua_vm &vm);

// ---- phases.cpp

constexpr int kFreesOfASweep = 3;

// Learns where the collector's state is. Before the state is used.
void begin_phases(ace_lua_vm &vm);
// Whether an allocation takes the longer way may have changed.
void update_watch(ace_lua_vm &vm);
// So many bytes are allocated.
void note_growth(ace_lua_vm &vm, size_t size);
// There were kFreesOfASweep frees in a row; where that is no sweep they are counted anew.
void note_frees(ace_lua_vm &vm);
// An allocation has failed: the VM may collect, and run no finalizer then.
void note_failure(ace_lua_vm &vm);
// The state ends: on a heap that goes on no collection may stay open.
void end_phases(ace_lua_vm &vm);

// Pushes a userdata that holds `mark`, whose finalizer calls ace_lua_collected with it.
void push_mark(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark);
// Within the finalizer of one, which is at index 1: it is called once more, when the next collection ends.
void arm_mark_again(ace_lua_vm &vm, lua_State *L, ace_lua_mark &mark);

// ---- soft_limit.cpp

// Learns how this VM's collector is stopped. Before the state is used.
void learn_how_it_stops(ace_lua_vm &vm);
// Sets the heap's limit anew: to what was asked for, or below it, where the VM would not collect there by
// itself.
void arm_limit(ace_lua_vm &vm);
// The heap's ace_limit_fn.
int near_limit(ace_heap *heap, size_t missing, void *vm);
// A collection is over: the VM's own pace counts again.
void after_collection(ace_lua_vm &vm);

// ---- close.cpp

// Puts the mark into the state whose finalizer is the last that its end calls. Before any other userdata is
// made.
void anchor_end(ace_lua_vm &vm, lua_State *L);
// What that finalizer does.
void reach_end(ace_lua_vm &vm, lua_State *L);

// ---- take_over.cpp

// The lua_Alloc for a state that has blocks of `former`, with `vm` as its ud. Before the vm is attached.
Allocator take_over(ace_lua_vm &vm, Allocator former, void *former_ud);
// What stands before ace_lua_alloc in a stock program that is recorded (record.cpp); elsewhere null.
extern Allocator g_recorded_alloc;
// Is it one of these?
bool is_ours(Allocator allocator);

}  // namespace ace::lua
