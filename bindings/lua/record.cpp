#include "lua/record.h"

#include "lua/vm.h"
#include "trace/recorder.h"

namespace ace::lua {
namespace {

// Tells the trace of what the state asks for. The kind is the type tag that 5.2 and newer give for a new block.
void *recorded_alloc(void *ud, void *block, size_t old_size, size_t size) {
  auto &vm = *static_cast<ace_lua_vm *>(ud);
  auto *stream = static_cast<trace::Stream *>(vm.recorder);
  if (size == 0) {
    if (block == nullptr) return nullptr;
    stream->note_free(block);
    if (block == vm.first_block && vm.attached) trace::close_stream(stream);
    return ace_lua_alloc(ud, block, old_size, 0);
  }
  void *made = ace_lua_alloc(ud, block, old_size, size);
  if (made == nullptr) return nullptr;
  if (block == nullptr) {
    stream->note_allocation(kind_of_tag(old_size), false, made, size);
  } else {
    stream->note_realloc(block, made, size);
  }
  return made;
}

}  // namespace

Allocator record_vm(ace_lua_vm &vm, const char *host) {
  trace::Stream *stream = trace::open_stream(host, vm.heap, false);
  if (stream == nullptr) return ace_lua_alloc;
  vm.recorder = stream;
  g_recorded_alloc = recorded_alloc;
  return recorded_alloc;
}

void end_record(ace_lua_vm &vm) {
  if (vm.recorder != nullptr) trace::close_stream(static_cast<trace::Stream *>(vm.recorder));
}

}  // namespace ace::lua
