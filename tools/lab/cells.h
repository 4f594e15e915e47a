// Finished cells (setting x seed) in a CSV file that survives a kill: a line a cell, written at once.
#pragma once
#include <map>
#include <string>

#include "tools/lab/lab.h"

namespace fovea::lab {

class CellFile {
 public:
  // Reads what is there. A line that a kill cut off does not parse, and its cell is trained again.
  explicit CellFile(std::string path);
  const Metrics* find(const std::string& cell, uint64_t seed) const;
  // Throws Code::failure where the file cannot be written.
  void add(const std::string& cell, uint64_t seed, const Metrics& metrics);
  size_t size() const { return cells_.size(); }

 private:
  std::string path_;
  bool open_end_ = false;  // the last line has no end: the next one starts a new line
  std::map<std::pair<std::string, uint64_t>, Metrics> cells_;
};

// "gamma=2 alpha=0.25": the name of a cell for ever.
std::string cell_name(const std::string& profile, const Keys& keys);
// One line: cell,seed,"ap=0.4","histogram=1 2 3",end. Quotes inside are doubled.
std::string cell_line(const std::string& cell, uint64_t seed, const Metrics& metrics);
bool parse_cell(const std::string& line, std::string& cell, uint64_t& seed, Metrics& metrics);
std::string csv_field(const std::string& text);  // quoted where it must be

}  // namespace fovea::lab
