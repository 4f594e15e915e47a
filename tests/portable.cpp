// Every row of the op table on a few shapes, without a test library: for builds on other machines and with other parts.
#include <cstdio>

#include "core/error.h"
#include "ops/gradcheck.h"
#include "ops/op_cases.h"

int main() {
  int passed = 0, failed = 0;
  for (const auto& row : fovea::op_cases()) {
    const auto result = fovea::gradcheck(row, 4);
    if (!result.ok()) std::printf("%s: %.1e %s\n", result.op.c_str(), result.worst, result.where.c_str());
    (result.ok() ? passed : failed)++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
