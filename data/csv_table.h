// A CSV file as pictures and objects: quotes, columns by name, numbers checked one by one. Internal to data/.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/coco_eval.h"

namespace fovea::detail {

struct CsvTable {
  struct Object {
    size_t line;
    const std::string* label;  // one of the set that read_csv_table() adds to
    CocoBox box;
  };
  struct Picture {
    size_t line;  // the first that names it
    std::vector<Object> objects;
  };
  std::map<std::string, Picture> pictures;  // by their paths as they are written
};

// Why the file is none of boxes, by its first line; empty where it is. is_picture(name): whether there is one that is
// called so, which tells where a name has no picture's ending.
using IsPicture = std::function<bool(const std::string& name)>;
std::string csv_table_fault(const std::filesystem::path& path, const IsPicture& is_picture);
// By a column "split", "set" or "subset" whose words are those of splits (train, valid, TEST); empty without one.
std::vector<std::string> csv_table_splits(const std::filesystem::path& path);
// All of it, or the lines of one of its splits.
CsvTable read_csv_table(const std::filesystem::path& path, const std::string& split, std::set<std::string>& labels);
// Of lines "name,number", in the order of the numbers.
std::vector<std::string> read_csv_classes(const std::filesystem::path& path);

}  // namespace fovea::detail
