// The nearest of several names to a mistyped one.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

namespace fovea {

// By the fewest insertions, deletions and replacements of letters; the first of equals. Empty where there are none.
inline std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = ~size_t{0};
  for (const std::string& candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);  // distances of name[0, i) to every prefix of the candidate
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= name.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); ++j) {
        const size_t replaced = diagonal + (name[i - 1] != candidate[j - 1]);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < least) least = row.back(), best = candidate;
  }
  return best;
}

}  // namespace fovea
