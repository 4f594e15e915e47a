// Terminal output: colours only where a person looks, tables, progress.
#include "tools/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

namespace fovea {

bool is_terminal(Stream stream) { return isatty(stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO) != 0; }

static bool is_dumb() {
  const char* term = std::getenv("TERM");
  return term && std::string(term) == "dumb";
}

bool has_colour(Stream stream) {
  const char* off = std::getenv("NO_COLOR");
  return is_terminal(stream) && !(off && *off) && !is_dumb();
}

std::string styled(Style style, const std::string& text, Stream stream) {
  if (style == Style::plain || !has_colour(stream)) return text;
  const char* codes[] = {"0", "1", "2", "31", "32", "33", "36"};
  return std::string("\033[") + codes[static_cast<int>(style)] + "m" + text + "\033[0m";
}

namespace {

// Columns of the character of UTF-8 that begins at s[i]: none for accents that join the one before, two for those of
// East Asia and for pictograms.
size_t width_at(const std::string& s, size_t i) {
  const auto byte = [&](size_t k) { return i + k < s.size() ? uint32_t(uint8_t(s[i + k])) & 0x3F : 0; };
  const uint32_t first = uint8_t(s[i]);
  const uint32_t c = first < 0xE0   ? (first & 0x1F) << 6 | byte(1)
                     : first < 0xF0 ? (first & 0x0F) << 12 | byte(1) << 6 | byte(2)
                                    : (first & 0x07) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3);
  const auto in = [c](uint32_t low, uint32_t high) { return c >= low && c <= high; };
  if (first < 0x80) return 1;
  if (in(0x300, 0x36F) || in(0x200B, 0x200D) || in(0xFE00, 0xFE0F)) return 0;
  const bool wide = in(0x1100, 0x115F) || in(0x2E80, 0xA4CF) || in(0xAC00, 0xD7A3) || in(0xF900, 0xFAFF) ||
                    in(0xFE30, 0xFE6F) || in(0xFF00, 0xFF60) || in(0xFFE0, 0xFFE6) || in(0x1F300, 0x1F64F) ||
                    in(0x1F900, 0x1F9FF) || in(0x20000, 0x3FFFD);
  return wide ? 2 : 1;
}

// Columns as seen: UTF-8 continuation bytes and colour codes take no room.
size_t width(const std::string& s) {
  size_t n = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\033')
      while (i < s.size() && s[i] != 'm') ++i;
    else if (begins_character(s[i])) n += width_at(s, i);
  }
  return n;
}

bool numeric(const std::string& s) {
  static const std::string allowed = "0123456789.,+-e% x/";
  return !s.empty() && s.find_first_of("0123456789") != std::string::npos &&
         s.find_first_not_of(allowed) == std::string::npos;
}

std::string pad(const std::string& s, size_t to, bool right) {
  const size_t have = width(s);
  const std::string space(to > have ? to - have : 0, ' ');
  return right ? space + s : s + space;
}

// A line can be drawn over, as long as it does not wrap.
bool redraws() { return is_terminal(Stream::err) && !is_dumb(); }

size_t terminal_columns(Stream stream) {
  winsize size{};
  const int file = stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
  return ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// As many characters of s as there is room for, which they take.
std::string cut(const std::string& s, size_t& room) {
  size_t end = 0;
  for (; end < s.size() && (room > 0 || !begins_character(s[end])); ++end)
    if (begins_character(s[end])) --room;
  return s.substr(0, end);
}

// The same, but of parts that two blanks divide only whole ones: half of a number is another number.
std::string whole_parts(const std::string& s, size_t& room) {
  std::string all = cut(s, room);
  if (all.size() < s.size() && s.compare(all.size(), 2, "  ") != 0) all.resize(std::min(all.rfind("  "), all.size()));
  return all;
}

// A cell's lines, none wider than `room` but for a longer word. One with colours stays whole.
std::vector<std::string> folded(const std::string& cell, size_t room) {
  if (width(cell) <= room || cell.find('\033') != cell.npos) return {cell};
  std::vector<std::string> lines;
  for (auto& word : split(cell, ' '))
    if (!lines.empty() && width(lines.back()) + 1 + width(word) <= room) lines.back() += " " + word;
    else lines.push_back(word);
  return lines;
}

struct Column {
  std::vector<std::string> cells;  // the head first
  size_t width = 0, least = 0;     // of its longest cell, and of what is not folded: a word, a short cell
  bool right = false;              // of numbers, which are not folded either
  size_t lines(size_t room) const {
    size_t n = 0;
    for (auto& cell : cells) n += folded(cell, room).size();
    return n;
  }
};

Column column_of(std::vector<std::string> cells) {
  Column column{std::move(cells)};
  bool any = false, numbers = true;
  for (size_t i = 1; i < column.cells.size(); ++i) {
    const std::string& cell = column.cells[i];
    const bool blank = cell.empty() || cell == "n/a" || cell == "-";
    any = any || !blank, numbers = numbers && (blank || numeric(cell));
  }
  column.right = any && numbers;
  for (auto& cell : column.cells) {
    const size_t whole = width(cell);
    column.width = std::max(column.width, whole);
    for (auto& word : folded(cell, column.right ? whole : 12)) column.least = std::max(column.least, width(word));
  }
  return column;
}

// Makes columns narrower, always the one that then has the fewest lines, until they fit or none can give way.
void narrow(std::vector<Column>& columns, size_t room) {
  size_t all = 2 * (columns.size() - 1);
  for (auto& c : columns) all += c.width;
  for (; all > room; --all) {
    Column* best = nullptr;
    for (size_t fewest = 0; auto& c : columns)
      if (const size_t n = c.width > c.least ? c.lines(c.width - 1) : 0; n > 0 && (!best || n < fewest))
        best = &c, fewest = n;
    if (!best) return;
    --best->width;
  }
}

std::string bar(double share, size_t cells) {
  const size_t eighths = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(cells * 8));
  static const char* parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  std::string s;
  for (size_t i = 0; i < eighths / 8; ++i) s += "█";
  return pad(s + parts[eighths % 8], cells, false);
}

}  // namespace

std::string Table::str() const {
  std::vector<Column> columns;
  for (size_t c = 0; c < heads_.size(); ++c) {
    std::vector<std::string> cells{heads_[c]};
    for (auto& row : rows_) cells.push_back(c < row.size() ? row[c] : "");
    columns.push_back(column_of(std::move(cells)));
  }
  if (is_terminal(Stream::out)) narrow(columns, terminal_columns(Stream::out));
  std::string all;
  for (size_t row = 0; row <= rows_.size(); ++row)
    for (size_t line = 0, lines = 1; line < lines; ++line) {
      std::string s;
      for (auto& c : columns) {
        const auto cell = folded(c.cells[row], c.width);
        lines = std::max(lines, cell.size());
        s += (&c == columns.data() ? "" : "  ") +
             styled(row == 0 ? Style::bold : Style::plain, pad(line < cell.size() ? cell[line] : "", c.width, c.right));
      }
      while (!s.empty() && s.back() == ' ') s.pop_back();
      all += s + "\n";
    }
  return all;
}

Progress::Progress(std::string label, int64_t total, int64_t done)
    : label_(std::move(label)), total_(total), first_(done), start_(Clock::now()), last_(start_) {}

void Progress::update(int64_t done, const std::string& note) {
  const bool terminal = redraws();
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  const double run = std::chrono::duration<double>(now - start_).count();
  if (terminal ? drawn_ && since < 0.1 : since < std::clamp(run / 20, 5.0, 60.0)) return;
  last_ = now, drawn_ = true;
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
  std::string left;
  if (done > first_ && done < total_)
    left = "  " + duration(run * static_cast<double>(total_ - done) / static_cast<double>(done - first_)) + " left";
  const std::string after = text(done, "/", total_, note.empty() ? "" : "  ", note);
  if (!terminal) {
    std::fprintf(stderr, "%s  %s%s\n", label_.c_str(), after.c_str(), left.c_str());
    return;
  }
  size_t room = terminal_columns(Stream::err) - 1;
  const size_t others = width(label_ + "   " + after + left), cells = room < others + 4 ? 0 : room - others;
  const std::string first = cut(label_ + "  ", room);
  const std::string middle = cut(cells > 0 ? bar(share, std::min<size_t>(cells, 24)) + " " : "", room);
  const std::string second = whole_parts(after, room), last = whole_parts(left, room);
  std::fprintf(stderr, "\r\033[2K%s%s%s%s", first.c_str(), styled(Style::cyan, middle, Stream::err).c_str(),
               second.c_str(), styled(Style::dim, last, Stream::err).c_str());
  std::fflush(stderr);
}

void Progress::clear() {
  if (drawn_ && redraws()) std::fprintf(stderr, "\r\033[2K"), std::fflush(stderr);
  drawn_ = false;
}

std::string duration(double seconds) {
  char s[64];
  const int64_t whole = std::llround(seconds);
  if (seconds < 59.95) std::snprintf(s, sizeof s, "%.1fs", seconds);
  else if (whole < 3600) std::snprintf(s, sizeof s, "%dm %02ds", int(whole / 60), int(whole % 60));
  else std::snprintf(s, sizeof s, "%lldh %02dm", static_cast<long long>(whole / 3600), int(whole % 3600 / 60));
  return s;
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 4) bytes /= 1000, ++unit;
  char s[32];
  std::snprintf(s, sizeof s, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return s;
}

std::string number(double value, int digits) {
  if (std::isnan(value)) return "n/a";
  return fixed(value, digits);
}

std::string scientific(double value) {
  char s[16];
  return {s, std::to_chars(s, s + sizeof s, value, std::chars_format::scientific, 1).ptr};
}

}  // namespace fovea
