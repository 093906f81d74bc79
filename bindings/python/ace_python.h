/* ACE-Alloc for those who embed CPython (3.8 and later): its allocator domains served by ACE, and its collector
 * heard. C99 and C++; needs no Python.h. Link with -lace-python -lace and your libpython.
 *
 *     PyPreConfig preconfig;
 *     PyPreConfig_InitPythonConfig(&preconfig);
 *     Py_PreInitialize(&preconfig);
 *     const char *why = ace_python_install();
 *     if (why != NULL) fprintf(stderr, "on Python's own allocator: %s\n", why);
 *     ... Py_InitializeFromConfig(&config) ...
 *
 * What the preloaded library gives a stock interpreter is here, too: the built-in module _ace, on which the
 * package acealloc stands (phases, limits, a census of objects), and the options of the environment (ACE_LIMIT,
 * ACE_DOMAINS, ...; or ace_option_set before).
 */
#ifndef ACE_PYTHON_H
#define ACE_PYTHON_H

#include "ace/ace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Puts ACE's heaps under the domains that the option `domains` names. Between Py_PreInitialize and the
 * initialisation, by the thread that makes both; again before each further initialisation after Py_FinalizeEx,
 * since CPython 3.12 and later then have their own allocators back. The heaps are made once and live until the
 * process ends: CPython never frees some of its blocks.
 *
 * NULL where CPython allocates from ACE from now on; else a static text that says why not, and nothing has
 * changed: it is older than 3.8, a free-threaded build, lacks a function, or there is no memory. */
ACE_API const char *ace_python_install(void) ACE_NOEXCEPT;

/* The heap of the mem and obj domains, for ace_heap_set_limit, ace_hint, ace_heap_stats and the like, under the
 * GIL; NULL where neither domain was taken. */
ACE_API ace_heap *ace_python_heap(void) ACE_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* ACE_PYTHON_H */
