// The lines of CSV files: RFC 4180's quotes, the columns that are called or placed as several programs do, classes.csv.
#include "data/csv_table.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/words.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea::detail {
namespace {

namespace fs = std::filesystem;

// --- records ---

// By RFC 4180: a field in quotes may hold separators, line breaks and, doubled, quotes. Spaces around a field are none
// of it, and blank lines no records.
struct Records {
  const fs::path path;
  std::vector<std::string> fields;
  size_t line = 0;  // where the record begins

  explicit Records(const fs::path& path, size_t most = ~size_t{0}) : path(path), text_(read_text(path, most)) {
    const size_t begin = std::min(text_.find_first_not_of(" \t\r\n"), text_.size());
    const std::string first = text_.substr(begin, text_.find('\n', begin) - begin);
    for (const char c : {'\t', ';', ','})
      if (first.find(c) != first.npos) ends_[0] = c;
  }
  bool next() {  // false at the end
    do {
      if (at_ >= text_.size()) return false;
      fields.clear(), line = here_;
      for (bool more = true; more; ++at_) {
        fields.push_back(field());
        more = at_ < text_.size() && text_[at_] == ends_[0];
      }
      ++here_;
    } while (fields.size() == 1 && fields[0].empty());
    return true;
  }
  [[noreturn]] void refuse(const std::string& what) const { reject(path, line, what); }

 private:
  std::string field() {
    const size_t begin = text_.find_first_not_of(' ', at_), from = here_;
    if (begin == text_.npos || text_[begin] != '"') return plain();
    std::string all;
    for (at_ = begin + 1; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"' && (++at_ == text_.size() || text_[at_] != '"')) {
        if (!plain().empty())
          reject(path, from, "a field goes on after its closing quote; double a quote inside of it");
        return all;
      }
      all += text_[at_], here_ += text_[at_] == '\n';
    }
    reject(path, from, "a quote is never closed; close it, or double a quote inside of a field");
  }
  std::string plain() {
    const size_t begin = at_;
    at_ = std::min(text_.find_first_of(ends_, at_), text_.size());
    return trimmed(text_.substr(begin, at_ - begin));
  }

  std::string text_, ends_ = ",\n";
  size_t at_ = 0, here_ = 1;  // `here_` is the line of `at_`
};

// --- columns ---

struct Columns {
  bool header = true, corners = true;
  size_t count = 0;
  int picture = -1, label = -1;  // no label: all objects are of one class
  int split = -1;
  std::vector<int> sides{};          // four, or one that is a list of four
  std::vector<std::string> names{};  // of these, for messages
  std::string fault{};               // why these are no columns of boxes
};

using Words = std::vector<const char*>;
const std::vector<std::string> kSides{"x1", "y1", "x2", "y2"};

bool is_number(const std::string& word, double& number) {
  return read_number(std::string_view(word).substr(word.starts_with('+')), number);
}

std::string plain_name(const std::string& name) {  // X_min: xmin
  std::string s = lowered(name);
  std::erase_if(s, [](char c) { return c == '_' || c == '-' || c == ' '; });
  return s;
}

// Why a first line without names of columns is none of a box or of a picture without objects: tables of other things
// have rows of numbers, too.
std::string row_fault(const std::vector<std::string>& row, const IsPicture& is_picture) {
  const std::string &name = row[0], quoted = "\"" + brief(name) + "\"";
  if (row.size() != 6 && row.size() != 8) return text("has ", counted(int64_t(row.size()), "column"));
  if (!is_image_name(name) && !is_unread_image_name(name) && (name.empty() || !is_picture(name)))
    return "begins with " + quoted + ", which is no picture";
  if (std::count(&row[1], &row[5], "") == 4) return "";
  double v[4];
  for (size_t i = 0; i < 4; ++i)
    if (!is_number(row[i + 1], v[i])) return text(kSides[i], " \"", brief(row[i + 1]), "\" is no number");
  for (size_t i = 0; i < 2; ++i)
    if (v[i + 2] < v[i]) return text(kSides[i + 2], " ", row[i + 3], " is below ", kSides[i], " ", row[i + 1]);
  return row[5].empty() ? "has a box without a class" : "";
}

Columns columns_of(const std::vector<std::string>& first, const IsPicture& is_picture) {
  Columns c{.count = first.size()};
  const std::string format = "; without names of columns, a line is path,x1,y1,x2,y2,class";
  const auto is_side = [number = 0.0](const std::string& s) mutable { return s.empty() || is_number(s, number); };
  const bool placed = (first.size() == 6 || first.size() == 8) && std::all_of(&first[1], &first[5], is_side);
  if (placed || is_image_name(first[0])) {
    const std::string fault = row_fault(first, is_picture);
    return {false, true, first.size(), 0, 5, -1, {1, 2, 3, 4}, kSides, fault.empty() ? "" : fault + format};
  }
  const auto find = [&](const Words& words) {  // the first of the words that is there
    for (const std::string word : words)
      for (size_t i = 0; i < first.size(); ++i)
        if (plain_name(first[i]) == word) return int(i);
    return -1;
  };
  const auto sides = [&](bool corners, const std::vector<Words>& wanted) {
    c.sides.clear(), c.names.clear(), c.corners = corners;
    for (const Words& words : wanted)
      if (const int i = find(words); i >= 0) c.sides.push_back(i), c.names.push_back(first[size_t(i)]);
    return c.sides.size() == wanted.size();
  };
  c.picture = find({"filename", "image", "imagepath", "imagename", "imageid", "path", "file"});
  c.label = find({"class", "label", "classname", "name", "category", "labelname", "categoryname", "classid", "labelid",
                  "categoryid"});
  c.split = find({"split", "set", "subset"});
  const bool boxes = sides(true, {{"xmin", "x1"}, {"ymin", "y1"}, {"xmax", "x2"}, {"ymax", "y2"}}) ||
                     sides(false, {{"x", "bboxx"}, {"y", "bboxy"}, {"w", "bboxwidth"}, {"h", "bboxheight"}}) ||
                     sides(false, {{"bbox"}}) ||  // before width and height, which are then the picture's
                     sides(false, {{"x"}, {"y"}, {"width"}, {"height"}});
  if (!boxes) c.fault = "has no columns of a box: xmin, ymin, xmax and ymax; x, y, w and h; or bbox";
  else if (c.picture < 0) c.fault = "has no column of the picture, such as filename, image_id or path";
  if (!c.fault.empty()) c.fault += format;
  return c;
}

// --- lines ---

// The four numbers of a box; none where the picture has no objects.
std::vector<double> read_sides(const Records& record, const Columns& c) {
  std::vector<std::string> words;
  for (const int i : c.sides) words.push_back(record.fields[size_t(i)]);
  if (words.size() == 1) {
    const std::string list = words[0];
    const size_t begin = list.starts_with('['), end = list.size() - list.ends_with(']');
    words = split(trimmed(list.substr(begin, end - begin)), ',');
    if (!words.empty() && words.size() != 4)
      record.refuse(c.names[0] + " \"" + brief(list) + "\" is not four numbers: [x, y, width, height]");
  }
  std::vector<double> numbers;
  if (std::all_of(words.begin(), words.end(), [](const std::string& word) { return word.empty(); })) return numbers;
  for (size_t i = 0; i < 4; ++i) {
    numbers.push_back(0);
    if (!is_number(words[i], numbers[i]))
      record.refuse(c.names[c.sides.size() == 1 ? 0 : i] + " \"" + brief(words[i]) + "\" is no number; " +
                    (words[i].empty() ? "leave all four empty for a picture without objects" : "write it as 12.5"));
  }
  return numbers;
}

// "" of a word that names no split.
std::string split_called(const std::string& word) {
  std::string name = lowered(word);
  if (name == "training" || name == "testing") name.resize(name.size() - 3);
  for (const char* known : {"train", "val", "valid", "validation", "dev", "test"})
    if (name == known) return name;
  return "";
}

std::string read_label(const Records& record, int column) {
  const std::string label = column < 0 ? "object" : record.fields[size_t(column)];
  if (trimmed(label).empty()) record.refuse("the object has no class; add it, or leave its box empty, too");
  if (label.find('\n') != label.npos) record.refuse("the class holds a line break; remove it");
  if (!is_utf8(label)) record.refuse("the class is not UTF-8; save the file as UTF-8");
  return label;
}

}  // namespace

std::string csv_table_fault(const fs::path& path, const IsPicture& is_picture) {
  constexpr size_t kBeginning = 1 << 16;  // the first record of a stranger's file may be long
  Records records(path, kBeginning);
  if (!records.next()) return "is empty";
  return is_utf16(records.fields[0]) ? "is UTF-16; save it as UTF-8" : columns_of(records.fields, is_picture).fault;
}

std::vector<std::string> csv_table_splits(const fs::path& path) {
  std::set<std::string> splits;
  Records record(path);
  if (!record.next()) return {};
  const Columns columns = columns_of(record.fields, [](const std::string&) { return true; });
  if (columns.split < 0) return {};
  try {
    while (record.next())
      if (record.fields.size() == columns.count) splits.insert(split_called(record.fields[size_t(columns.split)]));
  } catch (const Error&) {}  // read_csv_table() meets it, too
  splits.erase("");
  return {splits.begin(), splits.end()};
}

CsvTable read_csv_table(const fs::path& path, const std::string& split, std::set<std::string>& labels) {
  CsvTable table;
  Records record(path);
  Columns columns;
  size_t normalised = 0;  // the line of the first box, until one is larger than 1
  bool pixels = false;
  for (bool first = true; record.next(); first = false) {
    if (first && (columns = columns_of(record.fields, [](const std::string&) { return true; })).header) continue;
    if (record.fields.size() != columns.count)
      record.refuse(text("has ", record.fields.size(), " columns, the first line has ", columns.count,
                         "; a name that holds a comma wants quotes, a picture without objects all its commas"));
    const std::string& name = record.fields[size_t(columns.picture)];
    if (name.empty()) record.refuse("names no picture; add its path, or remove the line");
    if (!split.empty()) {
      const std::string &word = record.fields[size_t(columns.split)], called = split_called(word);
      if (called.empty())
        record.refuse("the split \"" + brief(word) + "\" is none of train, val and test, as those of other lines are");
      if (called != split) continue;
    }
    CsvTable::Picture& picture = table.pictures.emplace(name, CsvTable::Picture{record.line, {}}).first->second;
    const std::vector<double> v = read_sides(record, columns);
    if (v.empty()) continue;
    if (normalised == 0) normalised = record.line;
    pixels = pixels || std::any_of(v.begin(), v.end(), [](double side) { return !(std::abs(side) <= 1); });
    picture.objects.push_back({record.line, &*labels.insert(read_label(record, columns.label)).first,
                               columns.corners ? coco_box(v[0], v[1], v[2], v[3]) : CocoBox{v[0], v[1], v[2], v[3]}});
  }
  if (normalised > 0 && !pixels)
    reject(path, normalised,
           "no box of the file reaches beyond 1; pixels are wanted, so multiply by the picture's width and height");
  return table;
}

std::vector<std::string> read_csv_classes(const fs::path& path) {
  std::map<int64_t, std::string> names;
  std::set<std::string> seen;
  Records record(path);
  for (bool first = true; record.next(); first = false) {
    const auto refuse = [&](const std::string& what) { record.refuse(what + "; a line is name,number"); };
    if (record.fields.size() != 2) refuse(text("has ", counted(int64_t(record.fields.size()), "column")));
    int64_t number = 0, other = 0;
    const std::string &name = record.fields[0], &word = record.fields[1];
    const bool numbered = read_number(word, number);
    if (first && !numbered && !read_number(name, other)) continue;  // a header
    if (!numbered) refuse("\"" + brief(word) + "\" is no number of a class");
    if (trimmed(name).empty() || !is_utf8(name)) refuse("the name is empty or not UTF-8");
    if (!seen.insert(name).second) refuse("a second class is called \"" + name + "\"");
    if (!names.emplace(number, name).second) refuse("a second class has the number " + word);
  }
  std::vector<std::string> all;
  for (auto& [number, name] : names) {
    check(Code::data, number == int64_t(all.size()), path.string(), ": class \"", name, "\" is number ", number,
          ", but none is ", all.size(), "; they are numbered from 0, without a gap");
    all.push_back(name);
  }
  check(Code::data, !all.empty(), path.string(), ": has no classes; a line is name,number");
  return all;
}

}  // namespace fovea::detail
