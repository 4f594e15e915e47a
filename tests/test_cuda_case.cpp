// What `fovea parity` compares, on a device that is played: a small network's own step and detections as the case.
#include "core/autograd.h"
#include "core/error.h"
#include "core/gemm.h"
#include "core/random.h"
#include "nn/checkpoint.h"
#include "ops/shape.h"
#include "tests/boxes.h"
#include "tests/catch.h"
#include "tests/fake_device.h"
#include "tests/files.h"
#include "tools/device.h"
#include "tools/parity_case.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// Of a network of 8 channels with random weights; without what a reference expects.
ParityCase small_case(const std::string& path) {
  NamedTensors file;
  file.metadata = {{"arch", "resnet18"}, {"classes", "3"}};
  Tensor images({2, 3, 64, 96}, DType::f64);
  Dice dice(7);
  for (int64_t i = 0; i < images.size(); ++i) images.data<double>()[i] = dice.normal();
  file.add("input/images", images);
  file.add("target/0/boxes", Tensor::from<double>({2, 4}, {8, 8, 40, 40, 50, 20, 80, 60}));
  file.add("target/0/labels", Tensor::from<int64_t>({2}, {0, 2}));
  file.add("target/1/boxes", Tensor::from<double>({1, 4}, {30, 5, 90, 60}));
  file.add("target/1/labels", Tensor::from<int64_t>({1}, {1}));
  write_safetensors(path, file);
  ParityCase c(path);
  c.options.width = c.options.channels = 8, c.options.tower_depth = 1;
  const ParameterType f64(DType::f64);
  RetinaNet model(c.options, 3);
  for (const auto& [name, value] : weights_of(model).tensors) c.file.add("param/" + name, value.clone());
  model.eval();
  const NoGrad off;
  const auto out = model(c.images);
  c.file.add("expect/eval/cls_logits", concat(out.logits, 1));
  c.file.add("expect/eval/bbox_regression", concat(out.deltas, 1));
  return c;
}
ParityRun step(const ParityCase& c, const ParityCase& other, Device device) {
  ParityStep one(c, DType::f64, device);
  const ParityStep two(other, DType::f64, device);
  return finish(c, one, two);
}
void same(const ParityRun& a, const ParityRun& b) {
  REQUIRE(a.values.size() == b.values.size());
  for (size_t i = 0; i < a.values.size(); ++i) {
    INFO(a.values[i].first);
    CHECK(a.values[i].first == b.values[i].first);
    CHECK(difference(a.values[i].second, b.values[i].second) < 1e-9);
  }
}

}  // namespace

TEST_CASE("a case of parity gives on a device what it gives on the processor") {
  const Folder folder;
  ParityCase exact = small_case(folder / "case.safetensors"), moved = exact;
  moved.images = exact.images.clone();
  for (int64_t i = 0; i < moved.images.size(); ++i) moved.images.data<double>()[i] *= 1 + 1e-5 * double(i % 7);
  const ParityRun here = step(exact, moved, Device::cpu);
  ParityCase narrow = exact;  // of f32: as rounding would, `moved` decides which sides of ReLUs are open
  narrow.images = exact.images.to(DType::f32);
  for (const auto& [name, value] : step(moved, exact, Device::cpu).values) narrow.file.add("expect/" + name, value);
  const ParityRun sides = step(narrow, moved, Device::cpu);
  const auto found = evaluate(exact, DType::f64, Device::cpu).detections;
  CHECK(sides.near > 0);
  CHECK(sides.moved > 0);
  WithFakeDevice fake;
  same(step(exact, moved, Device::cuda), here);
  const ParityRun there = step(narrow, moved, Device::cuda);
  same(there, sides);
  CHECK(there.near == sides.near);
  CHECK(there.moved == sides.moved);
  const auto on_device = evaluate(exact, DType::f64, Device::cuda).detections;
  REQUIRE(on_device.size() == found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    REQUIRE(on_device[i].size() == found[i].size());
    for (size_t d = 0; d < found[i].size(); ++d) {
      CHECK(on_device[i][d].label == found[i][d].label);
      CHECK(std::fabs(on_device[i][d].score - found[i][d].score) < 1e-6f);
      CHECK(same_box(on_device[i][d].box, found[i][d].box, 1e-4));
    }
  }
}

TEST_CASE("tf32 and bf16 are refused by a GPU that has no instructions for them, and tf32 by the processor") {
  WithFakeDevice fake;
  const auto refuses = [](const char* precision, Device device) {
    try {
      use_precision(precision, device);
      return std::string();
    } catch (const Error& e) {
      CHECK(e.code == Code::impossible);
      return std::string(e.what());
    }
  };
  for (const char* precision : {"tf32", "bf16"}) {
    fake.device->major = 7;
    const std::string words = refuses(precision, Device::cuda);
    CHECK(words.find(std::string(precision) + " needs a GPU of compute capability 8.0 or newer") == 0);
    CHECK(words.find("hint: ") != std::string::npos);
    CHECK(factors() == Factors::f32);
    fake.device->major = 8;
    CHECK(refuses(precision, Device::cuda).empty());
    CHECK(factors() == (precision[0] == 't' ? Factors::tf32 : Factors::bf16));
    CHECK(refuses("f32", Device::cuda).empty());
    CHECK(factors() == Factors::f32);
  }
  CHECK(refuses("tf32", Device::cpu).find("tf32 is a precision of GPUs") == 0);
}
