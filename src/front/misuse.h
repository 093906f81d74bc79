// What is said of a misuse, and what follows it.
#pragma once
#include "front/gate.h"

namespace ace {

// To the host's handler, else to standard error; aborts where the policy says so. `route` is that of `p`.
void report_misuse(int code, const char *function, const void *p, const Route &route);

void set_misuse_handler(ace_error_fn handler, void *context);

}  // namespace ace
