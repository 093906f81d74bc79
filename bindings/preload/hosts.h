// What the preloaded library asks of each host it knows. One constructor (entry.cpp) asks them in turn.
#pragma once

namespace ace::preload {

// What came of trying to enter one host. The texts are static and valid for ever.
struct Entry {
  enum Result {
    kNotThisHost,  // this process is something else: nothing was touched
    kEntered,      // the host allocates from ACE from now on
    kRefused       // it is this host, but it cannot be entered: it runs on as if we were not there
  };
  Result result = kNotThisHost;
  const char *host = "";    // "CPython 3.11.2", or the kind of host where it is not this one: "CPython"
  const char *detail = "";  // entered: what was taken over; refused: why, and what to do about it
  bool say = false;         // true: tell it even where the option `verbose` is off, as the user asked for us
};

}  // namespace ace::preload

// What each host gives. `enter` runs in the constructor, before main and before any other thread: no
// side effect and next to no time where it is not this host. `report` runs in the destructor, only where
// `enter` did not say kNotThisHost or the host was met later, or when a host's own code asks for it (`held`:
// under the GIL): it writes to `fd`, as JSON lines or as text, how the host stands and then (ace_heap_report)
// its heaps. The host's JSON line has the keys host, pid, version, active and reason, and whatever else it
// wants to tell; each line is written by one call. False, with errno, where something was not written whole.
// `record`, where there is one, runs when the host was entered: it has the trace told of what the host asks
// for, where the option says so.
namespace ace::python {
preload::Entry enter_cpython();
void record_cpython(const char *host);
bool report_cpython(int fd, bool json, bool held);

// Does Python code end the process, by os._exit? `caller` calls _exit: where it returns to. Not a child that
// never got to Python code, as it was to become another program.
bool ends_by_python(const void *caller);
// Does CPython end the process by a signal, as its last act? `caller` calls kill.
bool ends_after_python(const void *caller);
}  // namespace ace::python

namespace ace::lua {
preload::Entry enter_stock_lua();
bool report_stock_lua(int fd, bool json, bool held);

// Was a state opened, by a Lua that the program loaded after its start?
bool entered_later();
}  // namespace ace::lua
