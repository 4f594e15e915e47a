// What the tests of COCO and VOC data sets share: a small COCO file, its pictures, and a text with a change.
#pragma once
#include "data/dataset.h"
#include "tests/files.h"

namespace fovea::test {

inline const char* const good_coco =
    R"({"images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30},
                   {"id": 3, "file_name": "b.png", "width": 20, "height": 10}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10.5, 20], "iscrowd": 0, "area": 50},
                        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 40, 30], "iscrowd": 1}]})";

inline std::string replaced(std::string text, const std::string& old, const std::string& now) {
  const size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), now);
}

inline void add_pictures(const Folder& folder, const std::string& dir) {
  std::filesystem::create_directories(folder.path / dir);
  write_png(folder / (dir + "/a.png"), Image(40, 30, 90));
  write_png(folder / (dir + "/b.png"), Image(20, 10, 90));
}

}  // namespace fovea::test
