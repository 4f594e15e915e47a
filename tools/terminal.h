// What people see: colours, tables, a progress bar, durations.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/words.h"

namespace fovea {

using Clock = std::chrono::steady_clock;
inline double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

enum class Stream { out, err };  // stdout carries data, stderr messages
bool is_terminal(Stream stream);
bool has_colour(Stream stream);  // a terminal, NO_COLOR unset or empty, TERM not "dumb"

enum class Style { plain, bold, dim, red, green, yellow, cyan };
std::string styled(Style style, const std::string& text, Stream stream = Stream::out);

using Rows = std::vector<std::vector<std::string>>;

// Columns line up; cells that read as numbers go to the right. Widths count characters, not bytes or colour codes. On a
// terminal, texts are folded to its width; elsewhere a row stays a line, for grep.
class Table {
 public:
  explicit Table(std::vector<std::string> heads) : heads_(std::move(heads)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string str() const;  // for stdout

 private:
  std::vector<std::string> heads_;
  Rows rows_;
};

// On a terminal: one line on stderr, redrawn, with bar and time left, never wider than the terminal. Elsewhere (also
// where TERM is "dumb"): a line every few seconds.
class Progress {
 public:
  Progress(std::string label, int64_t total, int64_t done = 0);  // done: where a resumed run starts
  ~Progress() { clear(); }
  void update(int64_t done, const std::string& note = {});
  void label(const std::string& label) { label_ = label; }
  void clear();  // before other lines are printed

 private:
  std::string label_;
  int64_t total_, first_;
  Clock::time_point start_, last_;
  bool drawn_ = false;
};

std::string duration(double seconds);              // "4.2s", "3m 05s", "2h 10m"
std::string bytes_text(double bytes);              // "1.5 GB"
std::string number(double value, int digits = 3);  // fixed digits; "n/a" for NaN
std::string scientific(double value);              // "1.5e-07"

}  // namespace fovea
