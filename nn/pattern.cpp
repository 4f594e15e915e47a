// Name patterns with '*', '?' and commas.
#include "nn/pattern.h"

#include <string_view>

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
  std::string_view rest = pattern;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (glob(rest.substr(0, comma), name)) return true;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace fovea
