// The painter of made pictures: outlines as signed distances, backgrounds from noise. Internal to data/shapes.cpp.
#pragma once
#include <array>
#include <vector>

#include "core/box.h"
#include "data/image.h"

namespace fovea::detail {

using Rgb = std::array<float, 3>;  // linear enough: 0..1

struct Point {
  float x, y;
};

// An outline: a polygon, or where it has no points a disc (hole 0) or a ring.
struct Outline {
  std::vector<Point> points;
  Point centre{};
  float radius = 0, hole = 0;

  float distance(float x, float y) const;  // in pixels, negative inside
  Box<float> extent() const;
};

enum class Pattern { plain, stripes, dots, marble };

struct Thing {  // something in a scene, ready to paint
  Outline outline;
  int label = 0;
  Rgb colour{}, second{};
  Pattern pattern = Pattern::plain;
  float angle = 0, period = 8;
  uint32_t noise = 0;  // seed of its texture
};

enum class Ground { clouds, wood, cloth, tiles, gradient };

struct Scene {
  int width = 0, height = 0;
  Ground ground = Ground::clouds;
  Rgb first{}, second{};  // of the background
  uint32_t noise = 0;
  float angle = 0, period = 16;
  Point light{};              // unit vector towards the light
  float contrast = 0.2f;      // of the light over the picture
  float grain = 0.02f;        // deviation of the sensor's noise
  std::vector<Thing> things;  // from back to front
};

// The outline of class `label` (see shape_names()) around `centre`, turned by `angle`.
Outline shape_outline(int label, Point centre, float radius, float angle);
Image paint(const Scene& scene);
// The part of each thing that no other one covers and that lies in the picture, 0..1.
std::vector<float> visible_parts(const Scene& scene);

}  // namespace fovea::detail
