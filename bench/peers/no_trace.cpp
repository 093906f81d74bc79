// Rivals are not recorded.
#include "lua/record.h"
#include "preload/hosts.h"
#include "trace/recorder.h"

namespace ace {

lua::Allocator lua::record_vm(ace_lua_vm &, const char *) { return ace_lua_alloc; }
void lua::end_record(ace_lua_vm &) {}
void python::record_cpython(const char *) {}
void trace::end_recording() {}

}  // namespace ace
