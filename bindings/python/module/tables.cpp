#include "tables.h"

#include <cstring>

namespace py = pybind11;

namespace acepy {
namespace {

py::list options() {
  py::list rows;
  ace_option_info row;
  for (unsigned i = 0; ace_option_describe(i, &row) == 0; ++i) rows.append(py::cast(row));
  return rows;
}

[[noreturn]] void no_such_option(const char *name) {
  std::string message = std::string("there is no option '") + name + "'; there are ";
  ace_option_info row;
  for (unsigned i = 0; ace_option_describe(i, &row) == 0; ++i) {
    message += i ? ", " : "";
    message += row.name;
  }
  throw py::value_error(message);
}

std::string option_get(const char *name) {
  const char *value = ace_option_get(name);
  if (value == nullptr) no_such_option(name);
  return value;
}

void option_set(const char *name, const char *value) {
  int status = ace_option_set(name, value);
  if (status == 0) return;
  ace_option_info row;
  for (unsigned i = 0; status == -2 && ace_option_describe(i, &row) == 0; ++i)
    if (std::strcmp(row.name, name) == 0)
      throw py::value_error(std::string("option ") + name + " cannot be '" + value + "': it takes " +
                            row.values);
  no_such_option(name);
}

py::list stats_fields() {
  py::list rows;
  ace_field_info field;
  for (unsigned i = 0; ace_stats_field(i, &field) == 0; ++i)
    rows.append(py::make_tuple(field.name, field.type, field.unit, field.description));
  return rows;
}

py::list phases() {
  py::list names;
  for (unsigned i = 0; ace_phase_name(i) != nullptr; ++i) names.append(ace_phase_name(i));
  return names;
}

}  // namespace

py::dict stats_as_dict(const ace_stats &stats) {
  py::dict all;
  ace_field_info field;
  for (unsigned i = 0; ace_stats_field(i, &field) == 0; ++i) all[field.name] = ace_stats_value(&stats, &field);
  py::dict by_phase;
  for (unsigned i = 0; i < ACE_PHASES; ++i) {
    py::dict phase;
    phase["entries"] = stats.phase_entries[i];
    phase["ns"] = stats.phase_ns[i];
    phase["faulted_bytes"] = stats.phase_faulted_bytes[i];
    phase["returned_bytes"] = stats.phase_returned_bytes[i];
    by_phase[ace_phase_name(i)] = phase;
  }
  all["phases"] = by_phase;
  py::list kinds;
  for (uint64_t group = 0; group < stats.kind_groups && group < ACE_KIND_GROUPS_MAX; ++group) {
    py::dict kind;
    kind["live_bytes"] = stats.kind_live_bytes[group];
    kind["live_blocks"] = stats.kind_live_blocks[group];
    kinds.append(kind);
  }
  all["kinds"] = kinds;
  return all;
}

void bind_tables(py::module_ &module) {
  py::class_<ace_option_info>(module, "Option", "One row of the options table.")
      .def_readonly("name", &ace_option_info::name)
      .def_readonly("environment", &ace_option_info::environment, "the variable that sets it at start")
      .def_readonly("default", &ace_option_info::default_value)
      .def_readonly("values", &ace_option_info::values, "what is accepted, for people")
      .def_readonly("description", &ace_option_info::description)
      .def("__repr__", [](const ace_option_info &row) {
        return std::string("<Option ") + row.name + "=" + row.default_value + ">";
      });
  module.def("options", options, "The options table, in its order.");
  module.def("option_get", option_get, py::arg("name").none(false),
             "The option's present value. ValueError where there is no such option.");
  module.def("option_set", option_set, py::arg("name").none(false), py::arg("value").none(false),
             "Sets an option of this module's heaps, from then on; `hardened`, of those made later.\n"
             "ValueError for an unknown option or value; it names what there is.");
  module.def("stats_fields", stats_fields,
             "(name, type, unit, description) of each field of the statistics; type: gauge, or counter, which "
             "only grows.");
  module.def("phases", phases, "The names of a runtime's phases.");
}

}  // namespace acepy
