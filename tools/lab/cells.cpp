// The CSV of finished cells: a closing field "end" tells a whole line from one that was cut off.
#include "tools/lab/cells.h"

#include <fstream>

#include "core/error.h"
#include "core/words.h"

namespace fovea::lab {
namespace {

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> all(1);
  bool inside = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && inside && i + 1 < line.size() && line[i + 1] == '"') all.back() += '"', ++i;
    else if (c == '"') inside = !inside;
    else if (c == ',' && !inside) all.emplace_back();
    else all.back() += c;
  }
  return all;
}

}  // namespace

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string s = "\"";
  for (char c : text) s += c == '"' ? "\"\"" : std::string(1, c);
  return s + "\"";
}

std::string cell_name(const std::string& profile, const Keys& keys) {
  std::string s = profile;
  for (auto& [key, value] : keys) s += " " + key + "=" + value;
  return s;
}

// Of a list figures are drawn, and there are hundreds of numbers in a cell: six digits. A number alone is exact.
static std::string printed(double v, size_t of) {
  if (of == 1) return shortest(v);
  char s[32];
  return {s, std::to_chars(s, s + sizeof s, v, std::chars_format::general, 6).ptr};
}

std::string cell_line(const std::string& cell, uint64_t seed, const Metrics& metrics) {
  std::string s = csv_field(cell) + "," + std::to_string(seed);
  for (auto& [name, values] : metrics) {
    std::vector<std::string> words;
    for (double v : values) words.push_back(printed(v, values.size()));
    s += "," + csv_field(name + "=" + joined(words, " "));
  }
  return s + ",end\n";
}

bool parse_cell(const std::string& line, std::string& cell, uint64_t& seed, Metrics& metrics) {
  const std::vector<std::string> f = fields(line);
  if (f.size() < 4 || f.back() != "end" || !read_number(f[1], seed)) return false;
  cell = f[0], metrics.clear();
  for (size_t i = 2; i + 1 < f.size(); ++i) {
    const size_t equals = f[i].find('=');
    if (equals == std::string::npos) return false;
    std::vector<double>& list = metrics[f[i].substr(0, equals)];
    if (equals + 1 == f[i].size()) continue;
    for (const std::string& word : split(f[i].substr(equals + 1), ' '))
      if (!read_number(word, list.emplace_back())) return false;
  }
  return true;
}

CellFile::CellFile(std::string path) : path_(std::move(path)) {
  std::ifstream file(path_, std::ios::binary);
  std::string cell;
  uint64_t seed = 0;
  Metrics metrics;
  for (std::string line; std::getline(file, line);) {
    open_end_ = file.eof();
    if (line.ends_with('\r')) line.pop_back();  // saved by an editor of Windows
    if (parse_cell(line, cell, seed, metrics)) cells_[{cell, seed}] = metrics;
  }
}

const Metrics* CellFile::find(const std::string& cell, uint64_t seed) const {
  const auto it = cells_.find({cell, seed});
  return it == cells_.end() ? nullptr : &it->second;
}

void CellFile::add(const std::string& cell, uint64_t seed, const Metrics& metrics) {
  std::string line = cell_line(cell, seed, metrics);
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  (file << (open_end_ ? "\n" : "") << line).flush();
  check(file.good(), path_, ": cannot be written");
  open_end_ = false;
  line.pop_back();
  std::string name;
  parse_cell(line, name, seed, cells_[{cell, seed}]);  // as it will be read
}

}  // namespace fovea::lab
