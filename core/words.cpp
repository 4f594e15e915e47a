// Edit distance, hash and lists of words.
#include "core/words.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <numeric>
#include <sstream>

namespace fovea {

namespace {

// Levenshtein's distance, a swap of neighbours counting as one edit.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before = row, row = next;
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t fewest = std::max<size_t>(2, name.size() / 2) + 1;
  for (auto& candidate : candidates) {
    size_t edits = distance(name, candidate);
    // "lr" is meant by "train.lr", "--epoch" by "--epochs": the end or the beginning of a name counts as one edit.
    if (!name.empty() && (candidate.ends_with("." + name) || candidate.starts_with(name)))
      edits = std::min<size_t>(edits, 1);
    if (edits < fewest) fewest = edits, best = candidate;
  }
  return best;
}

std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string best = nearest(name, candidates);
  return best.empty() ? "" : " (did you mean '" + best + "'?)";
}

std::string count_text(int64_t n) {
  const std::string s = std::to_string(n);
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    out += s[i];
    const size_t after = s.size() - 1 - i;
    if (s[i] != '-' && after > 0 && after % 3 == 0) out += ',';
  }
  return out;
}

std::string counted(int64_t n, const std::string& thing) {
  const char* ending = n == 1 ? "" : thing.ends_with("s") || thing.ends_with("x") ? "es" : "s";
  return count_text(n) + " " + thing + ending;
}

std::string joined(const std::vector<std::string>& words, const std::string& between) {
  std::string all;
  for (auto& word : words) all += (&word == words.data() ? "" : between) + word;
  return all;
}

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

std::string lowered(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream rest(text);
  for (std::string part; std::getline(rest, part, at);) parts.push_back(trimmed(part));
  return parts;
}

std::string shortest(double v) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr};
}

std::string fixed(double v, int digits) {
  char buffer[400];  // the largest number has 309 digits before the point
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, v, std::chars_format::fixed, digits).ptr};
}

std::string escaped(const std::string& text) {
  std::string s;
  for (char c : text)
    s += c == '<'    ? "&lt;"
         : c == '>'  ? "&gt;"
         : c == '&'  ? "&amp;"
         : c == '"'  ? "&quot;"
         : c == '\'' ? "&#39;"
                     : std::string(1, c);
  return s;
}

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\', out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      constexpr char hex[] = "0123456789abcdef";
      out += "\\u00", out += hex[c >> 4], out += hex[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string shell_word(const std::string& text) {
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_-+=./,:@%", c); };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string s = "'";
  for (const char c : text) s += c == '\'' ? "'\\''" : std::string(1, c);
  return s + "'";
}

uint64_t hash64(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

}  // namespace fovea
