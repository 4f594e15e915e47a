// What experiments train on: the data of the chosen profile, and the configuration that a setting changes.
#pragma once
#include <optional>

#include "data/dataset.h"
#include "tools/lab/lab.h"

namespace fovea::lab {

class Bench {
 public:
  explicit Bench(LabOptions options) : options(std::move(options)) {}
  const LabOptions options;
  std::string profile() const;  // "quick shapes", "full /photos": part of the name of a cell
  int classifier_steps() const { return options.quick ? 250 : 1500; }
  // Data, network and schedule in a sentence; the optimiser is that of a setting with these keys.
  std::string described(const Keys& keys) const;
  Config config(const Keys& keys, uint64_t seed) const;
  // With kRareScenes among the keys: 8 kinds of shape instead of 3, at most one in a picture, and some without.
  const Dataset& train(const Keys& keys) { return open(keys, false); }
  const Dataset& val(const Keys& keys) { return open(keys, true); }
  // For classifiers: the rare class and the common one. Of folders that are gone, whose cells are finished, the places.
  std::vector<std::string> classes() const;
  // Whole pictures [n][32 x 32 rgb] of one of them. Of --format folders, DIR/train and DIR/test hold the same two
  // folders, one a class, in the order of their names; of the shapes, circles and squares.
  using Pictures = std::vector<Image>;
  const Pictures& pictures(bool test, int label);

 private:
  const Dataset& open(const Keys& keys, bool val);
  std::optional<Dataset> data_[2][2];  // [rare][val]
  Pictures pictures_[2][2];
};

}  // namespace fovea::lab
