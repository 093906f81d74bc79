/* The fast paths alone: each function below makes one kind of call and nothing else, so that its mean is exact.
 */
#include <stddef.h>
#include <stdio.h>

#include "ace/ace.h"
#include "ace_lua.h"

enum { kBlocks = 64, kRounds = 500, kSize = 64 };

static void *blocks[kBlocks];

/* Each under its own name in the counts. */
#define CALLS __attribute__((noipa)) static void

CALLS alloc(ace_heap *heap) {
  for (int i = 0; i < kBlocks; ++i) blocks[i] = ace_heap_alloc(heap, kSize);
}

CALLS alloc_kind(ace_heap *heap) {
  for (int i = 0; i < kBlocks; ++i) blocks[i] = ace_heap_alloc_kind(heap, kSize, 0);
}

CALLS free_unsized(ace_heap *heap) {
  for (int i = kBlocks; i-- > 0;) ace_heap_free(heap, blocks[i]);
}

CALLS free_sized(ace_heap *heap) {
  for (int i = kBlocks; i-- > 0;) ace_heap_free_sized(heap, blocks[i], kSize);
}

CALLS try_free(ace_heap *heap) {
  for (int i = kBlocks; i-- > 0;) ace_heap_try_free(heap, blocks[i]);
}

/* Down by a few bytes, within the block's class: nothing moves. */
CALLS shrink_in_place(ace_heap *heap) {
  for (int i = 0; i < kBlocks; ++i) ace_heap_realloc(heap, blocks[i], kSize - 4, 0);
}

CALLS lua_shrink_in_place(ace_lua_vm *vm) {
  for (int i = 0; i < kBlocks; ++i) ace_lua_alloc(vm, blocks[i], kSize, kSize - 4);
}

/* PUC Lua does it for every table without an array part. */
CALLS lua_free_null(ace_lua_vm *vm) {
  for (int i = 0; i < kBlocks; ++i) ace_lua_alloc(vm, NULL, 0, 0);
}

int main(void) {
  ace_lua_vm *vm = ace_lua_vm_create(NULL);
  if (vm == NULL) return 1;
  ace_heap *heap = ace_lua_vm_heap(vm);
  for (int round = 0; round < kRounds; ++round) {
    alloc(heap);
    free_unsized(heap);
    alloc_kind(heap);
    free_sized(heap);
    alloc(heap);
    try_free(heap);
    alloc(heap);
    shrink_in_place(heap);
    lua_shrink_in_place(vm);
    lua_free_null(vm);
    free_unsized(heap);
  }
  ace_lua_vm_destroy(vm);
  puts("done");
  return 0;
}
