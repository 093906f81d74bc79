#include "loop.h"

#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "decide/loop.h"
#include "decide/playbook.h"

namespace py = pybind11;
using namespace ace;

namespace {

Occasion occasion_named(const std::string &name) {
  for (unsigned i = 0; i < kOccasions; ++i) {
    if (name == kOccasionNames[i]) return static_cast<Occasion>(i);
  }
  throw py::value_error("there is no occasion '" + name + "'; there are full, partial and idle");
}

uint16_t checked(unsigned index, unsigned count, const char *what) {
  if (index >= count) throw py::index_error(std::string("there is no ") + what + " " + std::to_string(index));
  return static_cast<uint16_t>(index);
}

Prices checked_prices(uint64_t release_ns, uint64_t refault_ns, uint64_t byte_seconds, uint64_t whole_ns = 0) {
  if (release_ns == 0 || refault_ns == 0 || byte_seconds < kMiBytes)
    throw py::value_error("prices must be positive, and byte_seconds at least a MiB");
  return {release_ns, refault_ns, byte_seconds, whole_ns};
}

// A learner with its prices.
class PyLearner {
 public:
  PyLearner(uint64_t release_ns, uint64_t refault_ns, uint64_t byte_seconds)
      : prices_(checked_prices(release_ns, refault_ns, byte_seconds)) {}
  unsigned context_of(const std::string &occasion, uint64_t slack, uint64_t live) const {
    return learner_.context_of(occasion_named(occasion), slack, live);
  }
  unsigned choose(unsigned context, bool may_defer) const {
    return learner_.choose(checked(context, kContexts, "context"), may_defer);
  }
  void learn(unsigned context, unsigned chosen, uint64_t slack, uint64_t length, uint64_t reused,
             bool may_defer) {
    learner_.learn(prices_, {checked(context, kContexts, "context"), checked(chosen, kExperts, "expert"),
                             may_defer, false, slack, slack, length, reused, length, 0});
  }
  uint64_t cost(uint64_t slack, uint64_t length, uint64_t reused, uint64_t delay) const {
    return cost_of(prices_, {0, 0, true, false, slack, slack, length, reused, length, 0}, delay);
  }
  uint64_t least_cost(uint64_t slack, uint64_t length, uint64_t reused) const {
    return ace::least_cost(prices_, {0, 0, true, false, slack, slack, length, reused, length, 0});
  }
  uint64_t break_even() const { return break_even_ns(prices_); }
  uint64_t delay(unsigned expert, bool may_defer) const {
    return delay_of(break_even(), checked(expert, kExperts, "expert"), may_defer);
  }
  std::vector<uint32_t> weights(unsigned context) const {
    const Context &c = learner_.context(checked(context, kContexts, "context"));
    return {c.weights, c.weights + kExperts};
  }
  std::string playbook(uint64_t page_size) const {
    Context contexts[kContexts];
    for (unsigned c = 0; c < kContexts; ++c) contexts[c] = learner_.context(c);
    char text[kPlaybookMax];
    return {text, format_playbook(text, sizeof text, {page_size, prices_.byte_seconds}, contexts)};
  }
  void load_playbook(const std::string &text, uint64_t page_size) {
    start(learner_, text, {page_size, prices_.byte_seconds});
  }
  static void start(Learner &learner, const std::string &text, const PlaybookFit &fit) {
    Context contexts[kContexts];
    for (unsigned c = 0; c < kContexts; ++c) contexts[c] = Learner().context(c);
    unsigned line;
    if (text.find('\0') != std::string::npos) throw py::value_error("the playbook has a zero in it");
    if (const char *wrong = parse_playbook(text.c_str(), fit, contexts, &line))
      throw py::value_error(std::string("the playbook ") + wrong + " (line " + std::to_string(line) + ")");
    for (unsigned c = 0; c < kContexts; ++c) start_from(learner.context(c), contexts[c]);
  }

 private:
  Prices prices_;
  Learner learner_;
};

// A loop that is given what another one saw.
class PyLoop {
 public:
  PyLoop(uint64_t release_ns, uint64_t refault_ns, uint64_t byte_seconds, uint64_t whole_ns)
      : prices_(checked_prices(release_ns, refault_ns, byte_seconds, whole_ns)) {}
  void load_playbook(const std::string &text, uint64_t page_size) {
    PyLearner::start(loop_.learner(), text, {page_size, prices_.byte_seconds});
  }
  std::string step(int process, unsigned id, const std::string &heap, uint64_t now, const std::string &occasion,
                   bool may_defer, bool is_short, uint64_t slack, uint64_t whole, uint64_t live, uint64_t taken,
                   uint64_t reused_at, uint64_t quiet, uint64_t quiet_at) {
    LoopView view{};
    view.now = now;
    view.occasion = occasion_named(occasion);
    view.may_defer = may_defer;
    view.is_short = is_short;
    view.slack = slack;
    view.whole = whole;
    view.live = live;
    view.taken = taken;
    view.reused_at = reused_at;
    view.quiet = quiet;
    view.quiet_at = quiet_at;
    const LoopStep step = loop_.at(prices_, view);
    char line[1024];
    return {line, format_step(line, sizeof line, process, id, heap.c_str(), view, step)};
  }

 private:
  Prices prices_;
  Loop loop_;
};

}  // namespace

void acepy::bind_loop(py::module_ &module) {
  py::class_<PyLearner>(
      module, "Learner",
      "What decides in mode learn, for experiments. Times are in nanoseconds, sizes in bytes;\n"
      "prices are what a MiB takes to release and to fault in again, and how many bytes, held for\n"
      "a second, are worth a second of processor time.")
      .def(py::init<uint64_t, uint64_t, uint64_t>(), py::kw_only(), py::arg("release_ns") = Prices{}.release_ns,
           py::arg("refault_ns") = Prices{}.refault_ns, py::arg("byte_seconds") = Prices{}.byte_seconds)
      .def("context_of", &PyLearner::context_of, py::arg("occasion"), py::arg("slack"), py::arg("live"),
           "The context of memory that falls free now; occasion: full, partial or idle.")
      .def("choose", &PyLearner::choose, py::arg("context"), py::arg("may_defer") = true,
           "The expert to follow: an index; see delay().")
      .def("learn", &PyLearner::learn, py::arg("context"), py::arg("chosen"), py::arg("slack"),
           py::arg("length"), py::arg("reused"), py::arg("may_defer") = true,
           "An interval is over: `slack` was free for `length`, then `reused` of it was needed.")
      .def("cost", &PyLearner::cost, py::arg("slack"), py::arg("length"), py::arg("reused"), py::arg("delay"),
           "What holding for `delay` costs in such an interval.")
      .def("least_cost", &PyLearner::least_cost, py::arg("slack"), py::arg("length"), py::arg("reused"),
           "The least that anyone can pay in it.")
      .def("delay", &PyLearner::delay, py::arg("expert"), py::arg("may_defer") = true,
           "How long an expert holds free memory; where nobody comes back later not at all, or for ever (2**64 "
           "- 1).")
      .def("weights", &PyLearner::weights, py::arg("context"), "The experts' weights; together about 2**24.")
      .def("playbook", &PyLearner::playbook, py::arg("page_size") = 4096,
           "What was learned, as the playbook's text.")
      .def("load_playbook", &PyLearner::load_playbook, py::arg("text"), py::arg("page_size") = 4096,
           "Begins with what a playbook says; ValueError says what is wrong with it.")
      .def_property_readonly("break_even", &PyLearner::break_even,
                             "After so long holding has cost as much as giving back and taking again.");
  py::class_<PyLoop>(module, "Loop", "The loop of one heap, to replay a decision log.")
      .def(py::init<uint64_t, uint64_t, uint64_t, uint64_t>(), py::kw_only(), py::arg("release_ns"),
           py::arg("refault_ns"), py::arg("byte_seconds"), py::arg("whole_ns") = 0)
      .def("load_playbook", &PyLoop::load_playbook, py::arg("text"), py::arg("page_size") = 4096,
           "Begins with what a playbook says.")
      .def("step", &PyLoop::step, py::kw_only(), py::arg("pid"), py::arg("id"), py::arg("heap"), py::arg("t"),
           py::arg("occasion"), py::arg("defer"), py::arg("short"), py::arg("slack"), py::arg("whole"),
           py::arg("live"), py::arg("taken"), py::arg("reused_at"), py::arg("quiet"), py::arg("quiet_at"),
           "What it decides, as the log's line.");
  module.attr("EXPERTS") = kExperts;
  module.attr("CONTEXTS") = [] {
    std::vector<std::string> names;
    for (uint16_t c = 0; c < kContexts; ++c) names.push_back(name_of(c).text);
    return names;
  }();
}
