// Name patterns with '*', '?' and commas.
#include "nn/pattern.h"

#include <string_view>

#include "core/words.h"

namespace fovea {

// The classic walk with one restart point: linear in practice, no recursion.
static bool glob(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, restart = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++, restart = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1, n = ++restart;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool matches(const std::string& pattern, const std::string& name) {
  for (const std::string& one : split(pattern, ','))
    if (glob(one, name)) return true;
  return false;
}

}  // namespace fovea
