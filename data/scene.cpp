// Paints back to front: the background, then for each thing its soft shadow and its body with anti-aliased edges and a
// lit rim; then the light over the picture and the noise of a sensor.
#include "data/scene.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/random.h"

namespace fovea::detail {
namespace {

constexpr float kPi = 3.14159265f;

uint32_t hash(uint32_t x, uint32_t y, uint32_t seed) {
  uint32_t h = x * 0x9E3779B1u ^ y * 0x85EBCA77u ^ seed * 0xC2B2AE3Du;
  h = (h ^ h >> 15) * 0x2C1B3C6Du;
  h = (h ^ h >> 12) * 0x297A2D39u;
  return h ^ h >> 15;
}
float lattice(int x, int y, uint32_t seed) { return float(hash(uint32_t(x), uint32_t(y), seed) >> 8) * 0x1p-24f; }
float mix(float a, float b, float t) { return a + (b - a) * t; }
float smooth(float t) {
  t = std::clamp(t, 0.f, 1.f);
  return t * t * (3 - 2 * t);
}

// Value noise in [0, 1]: random numbers on a grid, smoothly joined.
float noise(float x, float y, uint32_t seed) {
  const float fx = std::floor(x), fy = std::floor(y);
  const int ix = int(fx), iy = int(fy);
  const float tx = smooth(x - fx), ty = smooth(y - fy);
  return mix(mix(lattice(ix, iy, seed), lattice(ix + 1, iy, seed), tx),
             mix(lattice(ix, iy + 1, seed), lattice(ix + 1, iy + 1, seed), tx), ty);
}
float clouds(float x, float y, uint32_t seed) {  // four octaves, about 0..1
  float sum = 0, weight = 0.53f;
  for (uint32_t i = 0; i < 4; ++i, weight *= 0.5f, x *= 2.03f, y *= 2.03f) sum += weight * noise(x, y, seed + i);
  return sum;
}

Rgb mix(const Rgb& a, const Rgb& b, float t) { return {mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)}; }

// How much of the second colour the background has at a pixel.
float ground_at(const Scene& s, float x, float y) {
  const float c = std::cos(s.angle), n = std::sin(s.angle);
  const float u = (c * x + n * y) / s.period, v = (c * y - n * x) / s.period;
  switch (s.ground) {
    case Ground::clouds: return smooth(1.6f * clouds(u, v, s.noise) - 0.3f);
    case Ground::wood: {
      const float ring = 0.25f * u + 1.1f * v + 1.5f * noise(0.12f * u, 0.5f * v, s.noise);
      const float fibre = noise(0.3f * u, 6 * v, s.noise + 7);
      return 0.65f * std::abs(2 * (ring - std::floor(ring)) - 1) + 0.35f * fibre;
    }
    case Ground::cloth: {
      const float thread = 0.5f + 0.25f * std::sin(6 * kPi * u) * std::cos(6 * kPi * v) +
                           0.12f * (std::sin(6 * kPi * u) + std::cos(6 * kPi * v));
      return 0.55f * thread + 0.45f * clouds(0.4f * u, 0.4f * v, s.noise);
    }
    case Ground::tiles: {
      const float a = u / 2 - std::floor(u / 2), b = v / 2 - std::floor(v / 2);
      const float joint = std::min(std::min(a, 1 - a), std::min(b, 1 - b));
      const float tint = lattice(int(std::floor(u / 2)), int(std::floor(v / 2)), s.noise);
      return mix(1, 0.15f + 0.35f * tint + 0.2f * clouds(2 * u, 2 * v, s.noise), smooth(joint / 0.06f));
    }
    case Ground::gradient: break;
  }
  return smooth(0.5f + 0.5f * (c * (x - 0.5f * s.width) + n * (y - 0.5f * s.height)) / (0.5f * s.width)) * 0.8f +
         0.2f * clouds(u, v, s.noise);
}

Rgb body_at(const Thing& t, float x, float y) {
  const float c = std::cos(t.angle), n = std::sin(t.angle);
  const float u = (c * (x - t.outline.centre.x) + n * (y - t.outline.centre.y)) / t.period;
  const float v = (c * (y - t.outline.centre.y) - n * (x - t.outline.centre.x)) / t.period;
  float part = 0;
  if (t.pattern == Pattern::stripes) {
    part = smooth(0.5f + 0.5f * t.period * (std::abs(2 * (u - std::floor(u)) - 1) - 0.5f));
  } else if (t.pattern == Pattern::dots) {
    const float a = u - std::floor(u) - 0.5f, b = v - std::floor(v) - 0.5f;
    part = smooth(0.5f + t.period * (0.3f - std::sqrt(a * a + b * b)));
  } else if (t.pattern == Pattern::marble) {
    part = smooth(0.5f + 0.9f * std::sin(2.2f * u + 5 * clouds(u, v, t.noise)));
  }
  Rgb colour = mix(t.colour, t.second, part);
  const float rough = 0.9f + 0.2f * clouds(x / 5, y / 5, t.noise + 11);
  for (float& k : colour) k *= rough;
  return colour;
}

struct Canvas {
  int width, height;
  std::vector<Rgb> pixels;
  Rgb& at(int x, int y) { return pixels[size_t(y) * width + x]; }
};

struct Span {  // the pixels that something within `margin` of an extent may touch
  int x1, y1, x2, y2;
};
Span span_of(const Box<float>& e, float margin, int width, int height) {
  return {std::max(0, int(e.x1 - margin)), std::max(0, int(e.y1 - margin)), std::min(width, int(e.x2 + margin) + 2),
          std::min(height, int(e.y2 + margin) + 2)};
}

void paint_shadow(Canvas& canvas, const Thing& thing, Point light) {
  const float size = thing.outline.extent().width(), shift = 0.07f * size, soft = 0.08f * size + 1;
  Box<float> e = thing.outline.extent();
  e = {e.x1 - light.x * shift, e.y1 - light.y * shift, e.x2 - light.x * shift, e.y2 - light.y * shift};
  const Span s = span_of(e, soft, canvas.width, canvas.height);
  for (int y = s.y1; y < s.y2; ++y)
    for (int x = s.x1; x < s.x2; ++x) {
      const float d = thing.outline.distance(x + 0.5f + light.x * shift, y + 0.5f + light.y * shift);
      const float keep = 1 - 0.5f * smooth(0.5f - 0.5f * d / soft);
      for (float& k : canvas.at(x, y)) k *= keep;
    }
}

void paint_thing(Canvas& canvas, const Thing& thing, Point light) {
  const Span s = span_of(thing.outline.extent(), 1, canvas.width, canvas.height);
  const int w = s.x2 - s.x1 + 1, h = s.y2 - s.y1 + 1;
  if (w <= 1 || h <= 1) return;
  std::vector<float> distance(size_t(w) * h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) distance[size_t(y) * w + x] = thing.outline.distance(s.x1 + x + 0.5f, s.y1 + y + 0.5f);
  const float rim = 0.04f * thing.outline.extent().width() + 1.2f;
  for (int y = s.y1; y < s.y2; ++y)
    for (int x = s.x1; x < s.x2; ++x) {
      const float* d = &distance[size_t(y - s.y1) * w + (x - s.x1)];
      const float cover = std::clamp(0.5f - *d, 0.f, 1.f);
      if (cover <= 0) continue;
      Rgb colour = body_at(thing, x + 0.5f, y + 0.5f);
      const float slope = (d[1] - d[0]) * light.x + (d[w] - d[0]) * light.y;  // of the rim towards the light
      const float lit = 1 + 0.35f * slope * smooth(1 + *d / rim);
      for (float& k : colour) k *= lit;
      canvas.at(x, y) = mix(canvas.at(x, y), colour, cover);
    }
}

}  // namespace

float Outline::distance(float x, float y) const {
  if (points.empty()) {
    const float r = std::hypot(x - centre.x, y - centre.y);
    return hole > 0 ? std::max(r - radius, hole - r) : r - radius;
  }
  float nearest = std::numeric_limits<float>::max();
  bool inside = false;
  for (size_t i = 0, j = points.size() - 1; i < points.size(); j = i++) {
    const Point a = points[i], b = points[j];
    const float ex = b.x - a.x, ey = b.y - a.y, px = x - a.x, py = y - a.y;
    const float t = std::clamp((px * ex + py * ey) / (ex * ex + ey * ey), 0.f, 1.f);
    const float dx = px - t * ex, dy = py - t * ey;
    nearest = std::min(nearest, dx * dx + dy * dy);
    if ((a.y > y) != (b.y > y) && x < ex * (y - a.y) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside ? -std::sqrt(nearest) : std::sqrt(nearest);
}

Box<float> Outline::extent() const {
  if (points.empty()) return {centre.x - radius, centre.y - radius, centre.x + radius, centre.y + radius};
  Box<float> e{points[0].x, points[0].y, points[0].x, points[0].y};
  for (const Point& p : points)
    e = {std::min(e.x1, p.x), std::min(e.y1, p.y), std::max(e.x2, p.x), std::max(e.y2, p.y)};
  return e;
}

Outline shape_outline(int label, Point centre, float radius, float angle) {
  Outline o{{}, centre, radius, 0};
  const auto corner = [&](float x, float y) {
    const float c = std::cos(angle) * radius, n = std::sin(angle) * radius;
    o.points.push_back({centre.x + c * x - n * y, centre.y + n * x + c * y});
  };
  const auto polygon = [&](int corners, float inner) {  // inner < 1: a star, every second corner further in
    for (int i = 0; i < corners; ++i) {
      const float a = 2 * kPi * i / corners - kPi / 2, r = i % 2 && inner < 1 ? inner : 1;
      corner(r * std::cos(a), r * std::sin(a));
    }
  };
  switch (label) {
    case 0: break;  // circle
    case 1:
      for (int i = 0; i < 4; ++i) corner(i % 3 ? 0.8f : -0.8f, i < 2 ? -0.8f : 0.8f);
      break;                                 // square
    case 2: polygon(3, 1); break;            // triangle
    case 3: polygon(10, 0.42f); break;       // star
    case 4: o.hole = 0.58f * radius; break;  // ring
    case 5:                                  // cross
      for (int i = 0; i < 4; ++i) {
        const float c = i == 0 ? 1 : i == 2 ? -1 : 0, n = i == 1 ? 1 : i == 3 ? -1 : 0;
        for (const Point p : {Point{0.3f, -0.3f}, Point{0.95f, -0.3f}, Point{0.95f, 0.3f}})
          corner(c * p.x - n * p.y, n * p.x + c * p.y);
      }
      break;
    case 6:  // heart
      for (int i = 0; i < 40; ++i) {
        const float t = 2 * kPi * i / 40, s = std::sin(t);
        corner(0.95f * s * s * s, -(0.77f * std::cos(t) - 0.3f * std::cos(2 * t) - 0.12f * std::cos(3 * t)));
      }
      break;
    default:  // moon: an outer arc, and back along a flatter one
      for (int i = 0; i <= 24; ++i)
        corner(std::cos(kPi * (0.3f + 1.4f * i / 24)), std::sin(kPi * (0.3f + 1.4f * i / 24)));
      for (int i = 1; i < 20; ++i) {
        const float y = -0.809f + 1.618f * i / 20;
        corner(0.588f - 0.85f * std::sqrt(std::max(0.f, 1 - y * y / 0.6545f)), y);
      }
  }
  return o;
}

Image paint(const Scene& scene) {
  Canvas canvas{scene.width, scene.height, std::vector<Rgb>(size_t(scene.width) * scene.height)};
  for (int y = 0; y < scene.height; ++y)
    for (int x = 0; x < scene.width; ++x)
      canvas.at(x, y) = mix(scene.first, scene.second, ground_at(scene, x + 0.5f, y + 0.5f));
  for (const Thing& thing : scene.things) {
    paint_shadow(canvas, thing, scene.light);
    paint_thing(canvas, thing, scene.light);
  }
  Image image(scene.width, scene.height);
  const Philox grain{scene.noise, 0x6772'6169'6Eull};
  const float half = 0.5f * std::max(scene.width, scene.height);
  for (int y = 0; y < scene.height; ++y)
    for (int x = 0; x < scene.width; ++x) {
      const float u = (x - 0.5f * scene.width) / half, v = (y - 0.5f * scene.height) / half;
      const float light = 1 + scene.contrast * (u * scene.light.x + v * scene.light.y) - 0.12f * (u * u + v * v);
      const Philox::Block random = grain.block(uint64_t(y) * scene.width + x);
      for (int c = 0; c < 3; ++c) {
        const uint32_t b = random.v[c];  // the sum of four bytes is nearly normal, of deviation 147.8
        const float normal = (float((b & 255) + (b >> 8 & 255) + (b >> 16 & 255) + (b >> 24)) - 510) / 147.8f;
        const float value = canvas.at(x, y)[c] * light + scene.grain * normal;
        image.at(x, y)[c] = uint8_t(std::clamp(value * 255 + 0.5f, 0.f, 255.f));
      }
    }
  return image;
}

std::vector<float> visible_parts(const Scene& scene) {
  const size_t n = scene.things.size();
  std::vector<float> all(n), seen(n);
  std::vector<int> top(size_t(scene.width) * scene.height, -1);  // the front thing at each pixel
  for (size_t i = 0; i < n; ++i) {
    const Box<float> e = scene.things[i].outline.extent();
    for (int y = int(e.y1) - 1; y <= int(e.y2) + 1; ++y)
      for (int x = int(e.x1) - 1; x <= int(e.x2) + 1; ++x) {
        if (scene.things[i].outline.distance(x + 0.5f, y + 0.5f) > 0) continue;
        all[i] += 1;
        if (x >= 0 && y >= 0 && x < scene.width && y < scene.height) top[size_t(y) * scene.width + x] = int(i);
      }
  }
  for (int i : top)
    if (i >= 0) seen[size_t(i)] += 1;
  for (size_t i = 0; i < n; ++i) seen[i] = all[i] > 0 ? seen[i] / all[i] : 0;
  return seen;
}

}  // namespace fovea::detail
