// What the readers of the formats hand to open_dataset(). Internal to data/.
#pragma once
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace fovea::detail {

struct Source {
  std::string name;                     // of what was opened, for messages
  std::vector<std::string> classes;     // 0..K-1
  std::vector<int64_t> class_ids;       // what the truths call them
  std::vector<Annotation> annotations;  // path, id, size and truths
};

// Each folder or file that may be a split, by name. The empty name is a data set without splits.
std::vector<std::string> coco_splits(const std::filesystem::path& dir);
Source read_coco(const DatasetOptions& options);
bool is_voc(const std::filesystem::path& dir);
std::vector<std::string> voc_splits(const std::filesystem::path& dir);
Source read_voc(const DatasetOptions& options);
bool is_yolo(const std::filesystem::path& dir);
std::vector<std::string> yolo_splits(const std::filesystem::path& dir);
Source read_yolo(const DatasetOptions& options);
bool is_csv(const std::filesystem::path& dir);
std::string csv_fault(const std::filesystem::path& dir);  // why a .csv file there holds no boxes; "" without such
std::vector<std::string> csv_splits(const std::filesystem::path& dir);
Source read_csv(const DatasetOptions& options);

// Also behind a link. False, too, where this user may not look, as into a disk's lost+found.
inline bool is_folder(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}
inline bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}
std::string ending_of(const std::filesystem::path& path);     // ".jpg" of a.JPG
std::string without_folders(const std::string& path);         // c.jpg of a/b/c.jpg, also of a\b\c.jpg
std::vector<std::string> spellings(const std::string& path);  // as it is, then with / for Windows' backslashes
// The entry of `dir` with one of these names (in small letters), in any case; empty where there is none.
std::filesystem::path entry_named(const std::filesystem::path& dir, std::initializer_list<const char*> names);
// Whether a folder holds a file or folder, not a hidden one, of which is(path) holds; false where there is no folder.
template <class Is> bool any_entry(const std::filesystem::path& dir, Is is) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error))
    if (!is_hidden(entry.path().string()) && is(entry.path())) return true;
  return false;
}
// By name, without hidden ones; none where there is no folder.
std::vector<std::filesystem::path> entries(const std::filesystem::path& dir);
// The text of a file, or of its beginning, whose lines end in '\n', also where they do in '\r' alone (old Macs'),
// without the mark that Windows puts before UTF-8.
std::string read_text(const std::filesystem::path& path, size_t most = ~size_t{0});
std::vector<std::string> read_lines(const std::filesystem::path& path);  // of a text file, each trimmed

std::string at_line(const std::filesystem::path& path, size_t line, const std::string& what);  // "path:line: what"
// Throws Code::data: at_line().
[[noreturn]] void reject(const std::filesystem::path& path, size_t line, const std::string& what);

// Pictures that a data set names and that are not there: how many tells a wrong folder from a download that was cut
// off.
class Missing {
 public:
  void add(std::string what) {  // "X does not exist"; the first is told
    if (count_++ == 0) first_ = std::move(what);
  }
  // Throws Code::data where there are any: "X does not exist (4 of 10 pictures are missing); hint".
  void check_none(size_t found, const std::string& hint) const;

 private:
  std::string first_;
  size_t count_ = 0;
};

// Keeps the pictures of "train" or "val" where the data has no splits: by a hash of the file's name, so that adding
// pictures moves none of the others (but for a few pictures: where all fall on one side, the nearest goes to the
// other).
void keep_fraction(Source& source, const std::string& split, double val_fraction);
// Puts the classes into the wanted order (options.classes); nothing to do where that is empty.
void order_classes(Source& source, const std::vector<std::string>& wanted);
[[noreturn]] void unknown_split(const std::string& split, const std::string& dir,
                                const std::vector<std::string>& known);

}  // namespace fovea::detail
