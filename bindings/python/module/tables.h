// The core's tables as Python values: options, statistics' fields, phases.
#pragma once

#include <pybind11/pybind11.h>

#include "ace/ace.h"

namespace acepy {

// Every field of the statistics by its name, then `phases` (name -> entries, ns, faulted_bytes,
// returned_bytes) and `kinds` (a list by kind group: live_bytes, live_blocks): the shape of a report's line.
pybind11::dict stats_as_dict(const ace_stats &stats);

void bind_tables(pybind11::module_ &module);

}  // namespace acepy
