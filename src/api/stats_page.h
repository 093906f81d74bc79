// The process's statistics page (wire/stats_page.h; option `stats_page`), and the thread that fills it when it
// is asked.
#pragma once
#include <atomic>

#include "ace/ace.h"

namespace ace {

// Makes the page and starts its thread, where the option wants them and they are not there. Called when a heap
// has been made. What stands in the way is said on standard error, once, and the process goes on without. Any
// thread, with no lock held.
void serve_page();

// A fork ended the thread, or this is its child, without a page of its own: one of the next hints has it served
// again. Not at once: whoever looks just after a fork shall find no other thread.
extern std::atomic<bool> g_page_waits;
inline bool is_page_due(ace_hint_code hint) {
  return g_page_waits.load(std::memory_order_relaxed) && hint != ACE_HINT_FORK_BEFORE &&
         hint != ACE_HINT_FORK_CHILD;
}

// Who the host is: "CPython 3.11.2"; where nobody says so, the program's name. The text stays.
void name_host(const char *host);

// Around fork. Before it the thread ends, and until after it the lock is held.
void pause_page();
void resume_page();
void forget_page();

}  // namespace ace
