// The device waist on a fake device: copies, streams, the allocator, and every op of the table against the processor.
#include "core/device.h"

#include <unistd.h>

#include <cstring>

#include "core/autograd.h"
#include "core/gemm.h"
#include "core/loops.h"
#include "models/presets.h"
#include "nn/checkpoint.h"
#include "nn/ema.h"
#include "nn/optim.h"
#include "ops/box_ops.h"
#include "ops/conv.h"
#include "ops/cuda/ladder.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/gradcheck.h"
#include "ops/norm.h"
#include "ops/op_cases.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "tests/boxes.h"
#include "tests/catch.h"
#include "tests/fake_device.h"
#include "tests/files.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

bool readable(const void* address) {  // by the host: the system looks, so that a fault is an answer
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const bool ok = write(ends[1], address, 1) == 1;
  close(ends[0]), close(ends[1]);
  return ok;
}

// Value and gradients of a sample whose inputs are on `device`, all brought to the processor.
std::vector<Tensor> run(const OpSample& sample, Device device) {
  std::vector<Tensor> in;
  for (const Tensor& x : sample.inputs) {
    Tensor t = x.to(device).detach();
    in.push_back(is_float(t.dtype()) ? t.set_requires_grad() : t);
  }
  const Tensor y = sample.run(in);
  CHECK(y.device() == device);
  std::vector<Tensor> all{y.to(Device::cpu)};
  if (!y.requires_grad()) return all;
  Tensor seed(y.shape(), y.dtype());
  for (int64_t i = 0; i < seed.size(); ++i)
    dispatch_float(seed.dtype(), [&]<class T>() { seed.data<T>()[i] = T(1 + 0.25 * double(i % 7)); });
  backward(y, seed.to(device));
  for (const Tensor& x : in)
    if (x.grad()) all.push_back(x.grad().to(Device::cpu));
  return all;
}

}  // namespace

TEST_CASE("without a device the message says what to do") {
  if (has_device()) return;
  const std::string message = message_of([] { Tensor({2}, DType::f32, Device::cuda); }, Code::resource);
  CHECK(message.find("hint: ") != std::string::npos);
  CHECK(message.find("--device cpu") != std::string::npos);
}

TEST_CASE("the fake device keeps the host out, and runs nothing before it must") {
  WithFakeDevice fake;
  const Tensor here = Tensor::from<float>({3}, {1, 2, 3}), there = here.to(Device::cuda);
  CHECK(there.device() == Device::cuda);
  CHECK(readable(here.raw()));
  CHECK_FALSE(readable(there.raw()));
  CHECK(there.values<float>() == std::vector<float>{1, 2, 3});
  CHECK_FALSE(readable(there.raw()));
  CHECK(there.at(1) == 2);
  CHECK(there.rows(2, 3).item() == 3);
  CHECK(there.to(Device::cuda).shares_storage(there));
}

TEST_CASE("the fake device finds memory of the host in what it is to do") {
  WithFakeDevice fake;
  struct Twice {
    const double* x;
    double* y;
    bool flag;
    HD void operator()(int64_t i) const { y[i] = 2 * x[i]; }
  };
  const Tensor there = Tensor::full({3}, 1.5, DType::f64, Device::cuda), here = there.to(Device::cpu);
  static constexpr double kStatic[3] = {1, 2, 3};
  const double on_stack[3] = {1, 2, 3};
  const std::vector<double> in_heap(3, 1.0);
  double* y = Tensor({3}, DType::f64, Device::cuda).data<double>();
  for (const double* x : std::vector<const double*>{here.data<double>(), kStatic, on_stack, in_heap.data()}) {
    if (FOVEA_CLEARS_PADDING) CHECK_THROWS_AS(for_each(Device::cuda, 3, Twice{x, y, true}), Error);
    CHECK_THROWS_AS(
        gemm(Device::cuda, Gemm<double>{.m = 1, .n = 1, .k = 3, .a = {x, 3}, .b = {y, 1}, .c = y, .ldc = 1}), Error);
    CHECK_THROWS_AS(fake.device->copy(y, x, 8, Runtime::Way::within, Runtime::Stream::compute), Error);
  }
  Tensor result({3}, DType::f64, Device::cuda);
  for_each(Device::cuda, 3, Twice{there.data<double>(), result.data<double>(), true});
  CHECK(result.values<double>() == std::vector<double>(3, 3.0));
}

TEST_CASE("tensors on two devices are an error that says which") {
  WithFakeDevice fake;
  const auto made = [](const Shape& shape, Device device) { return Tensor::full(shape, 1, DType::f64, device); };
  const Tensor x = made({2, 3, 3, 4}, Device::cuda), c = made({4}, Device::cuda), w = made({1, 1, 4, 4}, Device::cuda),
               here = made({4}, Device::cpu), boxes = made({5, 4}, Device::cuda);
  const auto says = [&](const char* what, auto call) {
    INFO(what);
    CHECK(message_of(call).find(what) == 0);
    CHECK(message_of(call).find(".to(device)") != std::string::npos);
  };
  says("add: an input [2, 3, 3, 4] is on cuda, another one [4] on cpu", [&] { x + here; });
  says("concat: an input [4] is on cpu, another one [4] on cuda", [&] { concat({here, c}, 0); });
  says("frozen_batch_norm: x is on cuda, var on cpu", [&] { frozen_batch_norm(x, c, c, c, here, 0.1, false); });
  says("batch_norm: x is on cuda, running_mean on cpu", [&] { batch_norm(x, c, c, here, here, {.training = true}); });
  says("layer_norm: an input [2, 3, 3, 4] is on cuda, another one [4] on cpu", [&] { layer_norm(x, c, here, 0.1); });
  says("conv2d: an input [2, 3, 3, 4] is on cuda, another one [4] on cpu", [&] { conv2d(x, w, here, {}); });
  says("conv2d_norm: scale is on cpu, weight on cuda", [&] { conv2d_norm(x, w, here, c, {}, {}); });
  says("decode_boxes: an input [5, 4]", [&] { decode_boxes(boxes, boxes.to(Device::cpu), {}); });
  Tensor leaf = c.clone().set_requires_grad();
  says("backward: the seed is on cpu, the loss on cuda", [&] { backward(leaf * 2, here); });
  CHECK(message_of([&] { leaf.set_grad(here); }) == "set_grad: the gradient is on cpu, the tensor on cuda");
  CHECK(embedding(boxes, Tensor::from<int64_t>({1}, {3})).device() == Device::cuda);  // the processor reads an index
}

TEST_CASE("what is made of nothing is on the device, too") {
  WithFakeDevice fake;
  const Tensor none({0, 3}, DType::f64, Device::cuda);
  for (const Tensor& y : {sum(none), mean(none), mean(none, {0}), sum(none, {1})}) CHECK(y.device() == Device::cuda);
  CHECK(std::isnan(mean(none).item()));
  RetinaNetOptions options = preset("toy").model;
  options.width = 8, options.channels = 8, options.tower_depth = 1;
  const ParameterType f64(DType::f64);
  RetinaNet model(options, 1);
  model.move_to(Device::cuda);
  model.eval();
  const NoGrad off;
  CHECK(model.detect(model(Tensor({0, 64, 64, 3}, DType::f64, Device::cuda)), {}).empty());
}

TEST_CASE("an optimiser and an average that were made on another device say so") {
  WithFakeDevice fake;
  const ParameterType f64(DType::f64);
  struct Net : Module {
    Tensor w = parameter("w", Tensor::full({2}, 1, DType::f64));
  } net;
  AdamW adam(decay_groups(net, 0));
  Ema ema(net);
  net.move_to(Device::cuda);
  net.w.set_grad(Tensor::full({2}, 1, DType::f64, Device::cuda));
  CHECK(
      message_of([&] { adam.step(0.1); }).starts_with("optimizer: the parameter w is on cuda, what a step remembers"));
  CHECK(message_of([&] { ema.update(0); }).starts_with("ema: the weight w is on cuda, its average is not\n  hint"));
}

TEST_CASE("fills, conversions and copies work on the device, and only reading waits") {
  WithFakeDevice fake;
  Tensor x = Tensor::full({5}, 2.5, DType::f64, Device::cuda);
  const Tensor as_i64 = x.to(DType::i64), as_u8 = as_i64.to(DType::u8), copy = x.clone();
  Tensor i64({5}, DType::i64, Device::cuda);
  i64.copy_from(Tensor::full({5}, 7.0));  // from the processor, with a conversion
  x.fill(-1);
  Tensor empty({0, 4}, DType::f64, Device::cuda);
  empty.fill(1), empty.clone();
  CHECK(fake.device->counts.synchronizations == 0);
  CHECK(fake.device->counts.to_host == 0);
  CHECK(as_i64.values<int64_t>() == std::vector<int64_t>(5, 2));
  CHECK(as_u8.values<uint8_t>() == std::vector<uint8_t>(5, 2));
  CHECK(copy.values<double>() == std::vector<double>(5, 2.5));
  CHECK(i64.values<int64_t>() == std::vector<int64_t>(5, 7));
  CHECK(x.values<double>() == std::vector<double>(5, -1));
  CHECK(empty.to(Device::cpu).size() == 0);
  CHECK(fake.device->counts.synchronizations == 5);
}

TEST_CASE("streams are ordered by wait() alone") {
  WithFakeDevice fake;
  FakeDevice& device = *fake.device;
  std::vector<int> seen;
  Tensor on_device({1}, DType::f64, Device::cuda);
  const double one = 1, two = 2;
  device.copy(on_device.raw(), &one, 8, Runtime::Way::to_device, Runtime::Stream::copy);
  double early = -1, late = -1;
  on_device.fill(0);
  device.copy(&early, on_device.raw(), 8, Runtime::Way::to_host, Runtime::Stream::compute);
  device.wait(Runtime::Stream::compute, Runtime::Stream::copy);
  device.copy(on_device.raw(), &two, 8, Runtime::Way::to_device,
              Runtime::Stream::copy);  // after the wait: not waited for
  device.copy(&late, on_device.raw(), 8, Runtime::Way::to_host, Runtime::Stream::compute);
  device.synchronize(Runtime::Stream::compute);
  CHECK(early == 0);
  CHECK(late == 1);
  device.synchronize(Runtime::Stream::copy);
  CHECK(on_device.item() == 2);
}

TEST_CASE("a convolution of 1x1 is one product on the device, with all that follows it") {
  WithFakeDevice fake;
  const auto normal = [&](const Shape& shape) {
    Tensor t(shape, DType::f64);
    Dice dice(uint64_t(shape.numel()));
    for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = dice.normal();
    return t;
  };
  const Tensor x = normal({2, 3, 5, 4}), w = normal({1, 1, 4, 6}), scale = normal({6}), shift = normal({6}),
               residual = normal({2, 3, 5, 6});
  for (int which = 0; which < 16; ++which) {
    const auto part = [which](int bit, const Tensor& t) { return which >> bit & 1 ? t : Tensor(); };
    const auto all = [&](Device d) {
      std::vector<Tensor> in;
      for (const Tensor& t : {x, w, part(1, shift), part(2, residual)}) in.push_back(t ? t.to(d).detach() : t);
      for (Tensor& t : in)
        if (t) t.set_requires_grad();
      const Tensor s = part(0, scale) ? scale.to(d) : Tensor();
      const Tensor y = conv2d_norm(in[0], in[1], s, in[2], in[3], {.relu = which >= 8});
      backward(y, Tensor::full(y.shape(), 0.5, DType::f64, d));
      std::vector<Tensor> out{y.detach().to(Device::cpu)};
      for (const Tensor& t : in)
        if (t) out.push_back(t.grad().to(Device::cpu));
      return out;
    };
    const int64_t before = fake.device->counts.products;
    const auto got = all(Device::cuda), want = all(Device::cpu);
    CHECK(fake.device->counts.products == before + 3);
    REQUIRE(got.size() == want.size());
    for (size_t t = 0; t < got.size(); ++t)
      for (int64_t i = 0; i < got[t].size(); ++i) CHECK(std::fabs(got[t].at(i) - want[t].at(i)) < 1e-12);
  }
}

TEST_CASE("the device's memory is kept, joined, given back when it runs short, and then missed by name") {
  WithFakeDevice fake(size_t{64} << 20);
  const auto floats = [](int64_t mb) { return Shape{mb << 18}; };
  {
    const Tensor a(floats(20), DType::f32, Device::cuda), b(floats(20), DType::f32, Device::cuda);
    CHECK(memory_stats(Device::cuda).current == size_t{40} << 20);
  }
  const int64_t asked = fake.device->counts.allocations;
  {
    const Tensor again(floats(20), DType::f32, Device::cuda);
    CHECK(fake.device->counts.allocations == asked);
  }
  const Tensor most(floats(50), DType::f32, Device::cuda);  // needs what is kept
  CHECK(memory_stats(Device::cuda).current == size_t{50} << 20);
  const std::string message = message_of([&] { Tensor(floats(30), DType::f32, Device::cuda); }, Code::memory);
  CHECK(message.find("out of memory on the GPU: 30 MiB more") == 0);
  CHECK(message.find("hint") != std::string::npos);
}

TEST_CASE("every op gives on the device what the processor gives when it rehearses") {
  WithFakeDevice fake;
  for (const OpCase& row : op_cases())
    for (uint64_t seed = 0; seed < 6; ++seed) {
      INFO(row.name << ", seed " << seed);
      Draw draw(seed);
      const OpSample sample = row.make(draw);
      rehearsal() = true;
      const auto expected = run(sample, Device::cpu);
      rehearsal() = false;
      const auto got = run(sample, Device::cuda);
      REQUIRE(got.size() == expected.size());
      for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
    }
}

TEST_CASE("a device without nvcc plays convolutions of f64, and refuses others") {
  WithFakeDevice fake;
  const Tensor w = Tensor::full({1, 1, 8, 8}, 1).to(Device::cuda);
  for (const DType type : {DType::f32, DType::bf16}) {
    const Tensor maps = Tensor::full({1, 4, 4, 8}, 1, type).to(Device::cuda);
    CHECK_THROWS_AS(conv2d(maps, w, {}), Error);
  }
}

TEST_CASE("gradcheck compares with a device, and notices one that is wrong") {
  WithFakeDevice fake;
  const auto add = std::find_if(op_cases().begin(), op_cases().end(), [](auto& row) { return row.name == "add"; });
  REQUIRE(add != op_cases().end());
  const CheckResult good = gradcheck(*add, 3, 1, Device::cuda);
  INFO(good.where);
  CHECK(good.ok());
  OpCase elsewhere = *add;
  elsewhere.make = [&](Draw& draw) {
    OpSample s = add->make(draw);
    s.run = [run = s.run](const std::vector<Tensor>& x) {
      return x[0].device() == Device::cuda ? run(x) + 1e-6 : run(x);
    };
    return s;
  };
  const CheckResult bad = gradcheck(elsewhere, 3, 1, Device::cuda);
  CHECK(!bad.ok());
  CHECK(bad.where.find("the device gives another result") != std::string::npos);
  // Lanes take several numbers of a loop at a time only where they divide its size.
  const OpCase wide{"wide", [](Draw& draw) {
                      return OpSample{{draw.normal({draw.size(1, 3)})}, [](const std::vector<Tensor>& x) {
                                        const bool wrong = x[0].device() == Device::cuda && x[0].size() % 8 == 0;
                                        return wrong ? x[0] + 1e-6 : x[0] + 0;
                                      }};
                    }};
  CHECK(gradcheck(wide, 24).ok());
  CHECK(gradcheck(wide, 24, 1, Device::cuda).where.find("wide sample: [16], the device") == 0);
}

TEST_CASE("the rungs of the GPU's ladder that play give the convolution") {
  WithFakeDevice fake;
  Dice dice(6);
  Tensor x({2, 7, 5, 3}, DType::f64), w({3, 3, 3, 32}, DType::f64);
  for (const Tensor& t : {x, w})
    for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = dice.normal();
  const Tensor want = conv2d(x, w, {}, {.pad = 1});
  const auto rungs = cuda::ladder();
  REQUIRE(rungs.size() == 5);
  for (size_t r = 0; r < 3; ++r) {
    const Tensor y = rungs[r].run(x.to(Device::cuda), w.to(Device::cuda)).to(Device::cpu);
    INFO(rungs[r].name);
    REQUIRE(y.shape() == want.shape());
    for (int64_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y.at(i) - want.at(i)) < 1e-12);
  }
}

namespace {

struct Trained {
  std::vector<Tensor> weights;  // on the processor
  std::vector<double> losses;
  std::vector<Detection> found;
  FakeDevice::Counts before, after, detecting, detected;  // around the last step, and the second detect()
};

// Three steps of a small network, with all that a training step has; then detections.
Trained train(Device device, FakeDevice* fake, const std::vector<std::string>& settings) {
  RetinaNetOptions options = preset("toy").model;
  options.classes = 2, options.width = 8, options.channels = 8, options.tower_depth = 1;
  for (auto& s : settings) set_option(options, s.substr(0, s.find('=')), s.substr(s.find('=') + 1));
  const ParameterType f64(DType::f64);  // what a played device computes in
  RetinaNet model(options, 1);
  model.move_to(device);
  AdamW optimizer(decay_groups(model, 0.01));
  Ema ema(model, 0.5);
  Dice dice(4);
  Tensor images({2, 64, 96, 3}, DType::f64);
  for (int64_t i = 0; i < images.size(); ++i) images.data<double>()[i] = dice.normal();
  const std::vector<Target> targets{{{{8, 8, 40, 40}, {50, 20, 80, 60}}, {0, 1}, {}, {64, 96}}, {{}, {}, {}, {64, 96}}};
  Trained t;
  for (int step = 0; step < 3; ++step) {
    if (fake) t.before = fake->counts;
    optimizer.zero_grad();
    const auto losses = model.loss(model(images), targets);
    backward(losses.total());
    clip_grad_norm(optimizer.params(), 1);
    optimizer.step(1e-3);
    ema.update(step);
    t.losses.push_back(losses.classification.item() + losses.box.item());
    if (fake) t.after = fake->counts;
  }
  for (auto& w : model.state()) t.weights.push_back(w.value.to(Device::cpu).clone());
  for (auto& w : ema.state()) t.weights.push_back(w.value.to(Device::cpu).clone());
  model.eval();
  const NoGrad off;
  model.detect(model(images), {});
  const auto output = model(images);
  if (fake) t.detecting = fake->counts;
  t.found = model.detect(output, {})[0];
  if (fake) t.detected = fake->counts;
  return t;
}

}  // namespace

TEST_CASE("a training step on the device is the rehearsed one, and reads three numbers back") {
  for (const std::vector<std::string>& settings : {std::vector<std::string>{},
                                                   {"backbone_norm=group", "box_loss=giou", "normaliser=ema"},
                                                   {"loss.kind=softmax"},
                                                   {"sampler=ohem", "loss.kind=ce", "sampler_boxes=decoded"}}) {
    INFO((settings.empty() ? "as the preset" : settings[0]));
    rehearsal() = true;
    const Trained expected = train(Device::cpu, nullptr, settings);
    rehearsal() = false;
    WithFakeDevice fake;
    const Trained got = train(Device::cuda, fake.device, settings);
    CHECK(got.losses == expected.losses);
    REQUIRE(got.weights.size() == expected.weights.size());
    for (size_t i = 0; i < got.weights.size(); ++i) CHECK(same_bits(got.weights[i], expected.weights[i]));
    REQUIRE(got.found.size() == expected.found.size());
    for (size_t i = 0; i < got.found.size(); ++i) {
      CHECK(got.found[i].score == expected.found[i].score);
      CHECK(got.found[i].label == expected.found[i].label);
      CHECK(same_box(got.found[i].box, expected.found[i].box));
    }
    CHECK(got.after.allocations == got.before.allocations);
    CHECK(got.after.pinned == got.before.pinned);
    CHECK(got.after.pageable == 0);
    CHECK(got.detected.to_device == got.detecting.to_device);
    CHECK(got.detected.to_host == got.detecting.to_host + 1);
    const int64_t mined =
        settings.size() == 3 && settings[0] == "sampler=ohem" ? 2 * 2 * 4 + 2 : 0;  // images, levels; matches
    CHECK(got.after.to_host - got.before.to_host == 3 + mined);  // two losses, the norm of the gradients
    CHECK(got.after.synchronizations - got.before.synchronizations == 3 + mined);
  }
}

TEST_CASE("a step of an optimiser is one launch and one copy on the device, whatever it changes") {
  const auto numbers = [](int64_t n, double phase) {
    Tensor t({n}, DType::f64);
    for (int64_t i = 0; i < n; ++i) t.data<double>()[i] = std::sin(phase + double(i));
    return t;
  };
  const auto after = [&](Device device, bool adam, double clip, FakeDevice* fake) {
    std::vector<ParamGroup> groups(2);
    groups[0].weight_decay = 0.1, groups[1].lr_scale = 3;
    std::vector<Tensor> all;
    for (const int64_t n : {1, 4096, 0, 4095, 9000, 4097, 2}) {
      all.push_back(numbers(n, double(n)).to(device).set_requires_grad());
      groups[all.size() % 2].params.push_back({std::to_string(n), all.back()});
    }
    all.push_back(numbers(3, 1).to(device).set_requires_grad());  // one without a gradient
    groups[0].params.push_back({"none", all.back()});
    std::unique_ptr<Optimizer> optimizer;
    if (adam) optimizer = std::make_unique<AdamW>(groups);
    else optimizer = std::make_unique<SGD>(groups);
    for (int step = 0; step < 3; ++step) {
      for (size_t i = 0; i + 1 < all.size(); ++i) all[i].set_grad(numbers(all[i].size(), step).to(device));
      if (clip > 0) clip_grad_value(all, clip);
      const auto before = fake ? fake->counts : FakeDevice::Counts();
      optimizer->step(0.1 / (1 + step));
      if (!fake) continue;
      CHECK(fake->counts.loops == before.loops + 1);
      CHECK(fake->counts.to_device == before.to_device + 1);
      CHECK(fake->counts.pageable == 0);
      CHECK(fake->counts.synchronizations == before.synchronizations);
    }
    std::vector<Tensor> here;
    for (const Tensor& p : all) here.push_back(p.to(Device::cpu));
    return here;
  };
  for (const bool adam : {false, true}) {
    WithFakeDevice fake;
    const auto got = after(Device::cuda, adam, 0.5, fake.device), want = after(Device::cpu, adam, 0.5, nullptr);
    for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], want[i]));
  }
}

TEST_CASE("dropout's stream is in the device's memory: each step launches the same") {
  WithFakeDevice fake;
  for (const int64_t n : {5, 8, 1600, 4099}) {
    const Tensor here = Tensor::full({n}, 1.5, DType::f64), there = here.to(Device::cuda);
    std::string first;
    for (uint64_t stream = 1; stream <= 3; ++stream) {
      const auto before = fake.device->counts;
      const Tensor y = dropout(there, 0.5, 7, stream << 40);
      if (stream == 1) first = fake.device->last_loop;
      if (FOVEA_CLEARS_PADDING) CHECK(fake.device->last_loop == first);
      CHECK(fake.device->counts.pageable == 0);
      CHECK(fake.device->counts.synchronizations == before.synchronizations);
      CHECK(same_bits(y.to(Device::cpu), dropout(here, 0.5, 7, stream << 40)));
    }
  }
}

TEST_CASE("a checkpoint moves between the devices") {
  WithFakeDevice fake;
  const Folder folder;
  RetinaNetOptions options = preset("toy").model;
  options.width = 8, options.channels = 8, options.tower_depth = 1;
  RetinaNet there(options, 1), here(options, 2);
  there.move_to(Device::cuda);
  CHECK(there.device() == Device::cuda);
  write_safetensors(folder / "there.safetensors", weights_of(there));
  load_weights(here, read_safetensors(folder / "there.safetensors"), {}, "there");
  write_safetensors(folder / "here.safetensors", weights_of(here));
  load_weights(there, read_safetensors(folder / "here.safetensors"), {}, "here");
  const auto a = there.state(), b = here.state();
  for (size_t i = 0; i < a.size(); ++i) CHECK(same_bits(a[i].value.to(Device::cpu), b[i].value));
}
