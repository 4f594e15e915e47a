// A data set made from nothing: scenes of shapes with light, texture, noise and occlusion, to learn and test on.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace fovea {

struct ShapesOptions {
  int train = 1600, val = 200;  // pictures
  int size = 160;               // of a picture's long side; some are wider than tall, some taller than wide
  int classes = 4;              // the first of shape_names(), 1..8
  double imbalance = 1;         // the most common class has this many times the objects of the rarest
  double empty = 0.05;          // part of the pictures without any object
  int max_objects = 6;          // 1..max_objects in each other picture
  double hidden = 0.7;          // objects that are covered by more than this part are left out of the picture
  uint64_t seed = 1;
};

std::vector<std::string> shape_names();  // circle, square, triangle, star, ring, cross ...

// Picture `index` of a split (0 train, 1 val): a pure function of its arguments. A box is the tight extent of the whole
// shape before occlusion, cut to the picture.
Sample make_scene(const ShapesOptions& options, uint64_t split, uint64_t index);

// Writes DIR/train and DIR/val, each with annotations.json (COCO) and images/. The same options give the same bytes.
// Throws Code::usage where one of them exists already. `progress` hears how many pictures of all are done.
void make_shapes(const std::string& dir, const ShapesOptions& options,
                 const std::function<void(int64_t done, int64_t all)>& progress = {});

}  // namespace fovea
