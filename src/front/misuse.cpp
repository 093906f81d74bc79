#include "front/misuse.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/kept_errno.h"
#include "base/size_signal.h"
#include "base/text.h"
#include "base/uncancelled.h"
#include "heap/heap.h"
#include "heap/red_zone.h"
#include "wire/options.h"

namespace ace {
namespace {

// The present one is that of the number's parity; the next is written beside it. Whoever reads it starts over
// where the number has changed meanwhile, and never waits.
struct Handler {
  std::atomic<ace_error_fn> call;
  std::atomic<void *> context;
};
Handler g_handlers[2];
std::atomic<unsigned> g_handler_number{0};

const char *message_of(int code) {
  switch (code) {
    case ACE_ERROR_DOUBLE_FREE:
      return "the block is free already";
    case ACE_ERROR_INTERIOR:
      return "the pointer does not point to the start of a block";
    case ACE_ERROR_FOREIGN:
      return "the pointer is not from this allocator, or its heap was destroyed";
    case ACE_ERROR_SIZE_MISMATCH:
      return "the size given cannot belong to the block";
    case ACE_ERROR_ENDED_HEAP:
      return "the heap was destroyed";
    case ACE_ERROR_OVERFLOW:
      return "what follows the block's last byte was overwritten";
    case ACE_ERROR_WRITE_AFTER_FREE:
      return "the block was written to while it was free";
    default:
      return "no block was ever handed out at this address";
  }
}

ace_block_state state_of(int code, const Route &way) {
  if (way.block == nullptr) return ACE_BLOCK_UNKNOWN;
  if (code == ACE_ERROR_DOUBLE_FREE || code == ACE_ERROR_WRITE_AFTER_FREE) return ACE_BLOCK_FREE;
  return is_free(way, way.block) ? ACE_BLOCK_FREE : ACE_BLOCK_LIVE;
}

ace_error describe(int code, const char *function, const void *p, const Route &way) {
  ace_error error{};
  error.code = static_cast<ace_error_code>(code);
  error.message = message_of(code);
  error.function = function;
  error.pointer = p;
  error.block_size = way.size;
  error.owner = static_cast<const ace_heap *>(way.owner);
  error.block = way.block;
  error.state = state_of(code, way);
  if (way.block == nullptr) return error;
  error.offset = address_of(p) - address_of(way.block);
  if (way.pool == Pool::kTiny) error.kind_group = way.row->prefix.kind_group;
  if (way.owner->nature != Nature::kHardened || error.state != ACE_BLOCK_LIVE) return error;
  const size_t asked = read_seal(*way.owner, way.block, way.size);
  error.asked_size = asked == kBroken ? 0 : asked;
  return error;
}

// For example: ace: free(0x7f..28): the pointer does not point to the start of a block; block size 64, live, 8
// bytes from its start, heap "lua"
void print(const ace_error &error) {
  const KeptErrno kept;
  const Uncancelled whole;
  const WithoutSizeSignal quiet;
  char text[400];
  TextBuffer line(text, sizeof text - 1);
  line.add("ace: %s(%p): %s", error.function, error.pointer, error.message);
  if (error.block_size != 0) line.add("; block size %zu", error.block_size);
  if (error.state != ACE_BLOCK_UNKNOWN) line.add(", %s", error.state == ACE_BLOCK_LIVE ? "live" : "free");
  if (error.asked_size != 0) line.add(", %zu bytes were asked for", error.asked_size);
  if (error.block != nullptr && error.offset != 0) line.add(", %zu bytes from its start", error.offset);
  if (error.kind_group != 0) line.add(", kind group %u", error.kind_group);
  if (error.owner != nullptr) line.add(", heap \"%s\"", error.owner->name);
  text[line.length()] = '\n';  // cut off where there was too much
  (void)!write(STDERR_FILENO, text, line.length() + 1);
}

}  // namespace

void set_misuse_handler(ace_error_fn handler, void *context) {
  const unsigned next = g_handler_number.load(std::memory_order_relaxed) + 1;
  g_handlers[next % 2].call.store(handler, std::memory_order_release);
  g_handlers[next % 2].context.store(context, std::memory_order_release);
  g_handler_number.store(next, std::memory_order_release);
}

void report_misuse(int code, const char *function, const void *p, const Route &route) {
  const ace_error error = describe(code, function, p, route);
  ace_error_fn handler;
  void *context;
  unsigned number;
  do {
    number = g_handler_number.load(std::memory_order_acquire);
    handler = g_handlers[number % 2].call.load(std::memory_order_acquire);
    context = g_handlers[number % 2].context.load(std::memory_order_acquire);
  } while (g_handler_number.load(std::memory_order_relaxed) != number);
  if (handler != nullptr) return handler(&error, context);
  print(error);
  if (options().abort_on_bad_pointer) abort();
}

void report_late(int code, const void *block) {
  report_misuse(code, code == ACE_ERROR_DOUBLE_FREE ? "free" : "alloc", block, route(block));
}

}  // namespace ace
