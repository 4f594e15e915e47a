// From a sample of the data set to what the network sees: resizing, flips, scale-and-crop, colour. Every choice is a
// pure function of (seed, epoch, sample), so that there is no random state to save.
#pragma once
#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "data/draw.h"

namespace fovea {

struct AugmentOptions {
  // Size: the short side becomes one of these (several: multi-scale, one is chosen per sample), unless the long side
  // would exceed long_side (0: no limit). No short sides: the size stays.
  std::vector<int> short_sides = {320};
  int long_side = 0;
  double flip = 0;           // probability to mirror left and right
  double flip_vertical = 0;  // probability to mirror top and bottom
  // Scale-and-crop: a factor log-uniform in [scale_min, scale_max] on top of that size; what is larger than without
  // the factor is cropped at a random place, what is smaller stands at a random place before the fill colour.
  double scale_min = 1, scale_max = 1;
  double min_visible = 0.25;  // boxes of which less is left become ignore regions
  // Colour jitter: factors uniform in [1 - v, 1 + v]; hue turns by up to v of a full turn, either way.
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;
  double grey = 0;                // probability to lose all colour
  Colour fill = {124, 116, 104};  // what is around the picture: ImageNet's mean

  AugmentOptions without_random() const;  // for evaluation: no dice, and of several short sides the largest
};

// x' = ax * x + bx, y' = ay * y + by: from pixels of the picture to pixels of the network's input. ax < 0 mirrors.
struct Transform {
  double ax = 1, bx = 0, ay = 1, by = 0;
  int width = 0, height = 0;  // of the result

  Box<float> operator()(const Box<float>& box) const;
  Box<float> inverse(const Box<float>& box) const;  // detections back to the picture
};

struct Transformed {
  Sample sample;
  Transform transform;
};
// Boxes are transformed exactly and cut to the result.
Transformed augment(const Sample& sample, const AugmentOptions& options, uint64_t seed, uint64_t epoch, uint64_t index);

// The parts. choose_transform() is all geometry; warp() resamples bilinearly (over the whole area of a pixel when
// shrinking, so that nothing aliases), exactly where the scale is 1.
Transform choose_transform(int width, int height, const AugmentOptions& options, uint64_t seed, uint64_t epoch,
                           uint64_t index);
Image warp(const Image& image, const Transform& transform, Colour fill = {});
Image resize(const Image& image, int width, int height);
void transform_boxes(Sample& sample, const Transform& transform, double min_visible);
void jitter_colours(Image& image, const AugmentOptions& options, uint64_t seed, uint64_t epoch, uint64_t index);

}  // namespace fovea
