// A RetinaNet that is small enough for tests, and images of noise for it.
#pragma once
#include "core/random.h"
#include "models/retinanet.h"

namespace fovea::test {

inline RetinaNetOptions tiny(int classes = 3) {
  return {.backbone = "tiny",
          .classes = classes,
          .backbone_norm = "batch",
          .freeze_stages = 0,
          .channels = 16,
          .tower_depth = 1,
          .anchors = {.base = 2}};
}

inline Tensor noise(const Shape& shape, uint64_t seed) {  // N(0,1)
  Tensor t(shape);
  const Philox random{seed, 0};
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = float(random.normal(uint64_t(i)));
  return t;
}

}  // namespace fovea::test
