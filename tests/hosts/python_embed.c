/* Embeds CPython on ACE by ace_python.h: initialises it three times, runs the code that is given each time, and looks
 * at the heap from outside. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdio.h>
#include <string.h>

#include "ace_python.h"

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

int main(int count, char **words) {
  ace_stats stats;
  int life;
  if (count != 2) fail("usage: python_embed CODE");
  if (ace_python_heap() != NULL) fail("a heap before the installation");
  for (life = 0; life < 3; ++life) {
    PyPreConfig preconfig;
    PyConfig config;
    const char *why;
    uint64_t hints, blocks;
    PyPreConfig_InitIsolatedConfig(&preconfig);
    if (PyStatus_Exception(Py_PreInitialize(&preconfig))) fail("Py_PreInitialize");
    why = ace_python_install();
    if (why != NULL) fail(why);
    ace_heap_stats(ace_python_heap(), &stats, sizeof stats);
    hints = stats.hints;
    blocks = stats.live_blocks;
    PyConfig_InitIsolatedConfig(&config);
    if (PyStatus_Exception(Py_InitializeFromConfig(&config))) fail("Py_InitializeFromConfig");
    PyConfig_Clear(&config);
    if (PyRun_SimpleString(words[1]) != 0) fail("the code");
    ace_heap_stats(ace_python_heap(), &stats, sizeof stats);
    if (stats.live_blocks < blocks + 1000) fail("CPython did not allocate from ACE");
    if (stats.hints < hints + 2) fail("its collections were not heard");
    if (Py_FinalizeEx() != 0) fail("Py_FinalizeEx");
    if (ace_heap_audit(ace_python_heap(), NULL, 0) != 0) fail("the audit");
  }
  ace_heap_stats(ace_python_heap(), &stats, sizeof stats);
  printf("all holds, %llu foreign pointers\n", (unsigned long long)stats.foreign_pointers);
  return 0;
}
