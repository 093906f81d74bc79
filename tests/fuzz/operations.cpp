// Lists of operations, made of the fuzzer's bytes, against the model: the audit after each step, contents,
// counts.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/config.h"
#include "base/size_class.h"
#include "fuzz/bytes.h"
#include "model/model.h"
#include "unit/fake_os.h"

namespace ace::test {
namespace {

constexpr size_t kMostOps = 300;

// Around the edges of classes and pools as well as anywhere.
uint64_t size_of(unsigned how, unsigned n) {
  switch (how % 8) {
    case 0:
      return n % 600;
    case 1:
      return kClassSize[n % kClasses] + n / kClasses % 3 - 1;
    case 2:
      return n % (kTinyMax + 2);
    case 3:
      return kTinyMax - 2 + n % 5;
    case 4:
      return kPage * (2 + n % 20) + n / 20 % 3 - 1;
    case 5:
      return size_t{n} * 8 % (kMidMax + 1);
    case 6:
      return kMidMax - 2 + n % 5;
    default:
      return size_t{n} * 64;
  }
}

Op next_op(Bytes &bytes) {
  const unsigned kind = bytes.byte() % Op::kOverwrite, how = bytes.byte(), n = bytes.word(),
                 slot = bytes.word();
  const uint64_t size = size_of(how, n);
  switch (kind) {
    case Op::kAligned:
      return {Op::kAligned, slot, size, how / 8 % 21};
    case Op::kFill:
      return {Op::kFill, slot, 1 + n % 400u, 1 + size_of(how % 3, slot)};
    case Op::kFreeMost:
      return {Op::kFreeMost, slot, 1 + n % 1000u, 1 + how % 50u};
    case Op::kFreeElsewhere:
      return {Op::kFreeElsewhere, slot, 1 + n % 20u, 0};
    case Op::kHint:
      return {Op::kHint, 1 + how % 12, n % 3u, 0};
    case Op::kTrim:
    case Op::kTrimShared:
      return {static_cast<Op::Kind>(kind), 0, how % 2 == 0 ? UINT64_MAX : n * uint64_t{64}, 0};
    case Op::kLimit:
      return {Op::kLimit, 0, n % 3 == 0 ? (uint64_t{1} << 20) * (how % 24) : 0, 0};
    case Op::kAdvance:
      return {Op::kAdvance, 0, 1 + n % 500u, 0};
    case Op::kFailOs:
      return {Op::kFailOs, how % kOsCalls, 1 + n % 3u, n / 3 % 4u};
    default:
      return {static_cast<Op::Kind>(kind), slot, size, how / 8 % 6u};
  }
}

}  // namespace
}  // namespace ace::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using namespace ace::test;
  constexpr unsigned kPermille[] = {0, 0, 50, 400};
  Bytes bytes(data, size);
  Setup setup;
  const unsigned first = bytes.byte();
  setup.kind_groups = 1 + first % 4;
  setup.failing_permille = kPermille[first / 4 % 4];
  setup.failing_seed = first;
  setup.hardened = first / 16 % 2 != 0;
  Ops ops;
  while (!bytes.is_over() && ops.size() < kMostOps) {
    ops.push_back(next_op(bytes));
    setup.fails |= ops.back().kind == Op::kFailOs;
  }
  const std::string problem = replay(setup, ops);
  if (problem.empty()) return 0;
  fprintf(stderr, "%s\n", as_test(setup, ops, problem).c_str());
  abort();
}
