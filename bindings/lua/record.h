// Recording: what a stock program's state asks for, told to the trace.
#pragma once
#include "lua/ace_lua.h"

namespace ace::lua {

using Allocator = void *(*)(void *ud, void *block, size_t old_size, size_t size);

// The lua_Alloc for a state that is to be made: ace_lua_alloc, or what stands before it where the option says
// that there is something to record. `host` is the VM's name.
Allocator record_vm(ace_lua_vm &vm, const char *host);
// It could not be made.
void end_record(ace_lua_vm &vm);

}  // namespace ace::lua
