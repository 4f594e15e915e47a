// fovea bench conv: the convolutions of RetinaNet one by one, each sum of products by itself, and why it is computed as
// it is.
#include <cstdio>
#include <memory>

#include "core/autograd.h"
#include "core/words.h"
#include "ops/cpu/conv.h"
#include "ops/shape.h"
#include "tools/bench.h"

namespace fovea {
namespace {

struct ConvFlags : BenchFlags {
  std::vector<std::string> shapes;
  std::string algo, precision = "f32";
  int batch = 1;
  bool explain = false;
};

// Of ResNet-50 and the heads at 640x640, and of ResNet-18; kernel and stride come last. The first is a head's: one list
// of maps under the same weights.
const char* const kShapes[] = {"64x64+32x32+16x16+8x8+4x4x256->256,3,1",
                               "80x80x256->256,3,1",
                               "40x40x256->256,3,1",
                               "20x20x256->256,3,1",
                               "80x80x256->720,3,1",
                               "160x160x64->64,3,1",
                               "80x80x128->128,3,1",
                               "80x80x128->128,3,2",
                               "40x40x256->256,3,2",
                               "640x640x3->64,7,2",
                               "160x160x64->256,1,1",
                               "160x160x256->64,1,1",
                               "80x80x512->128,1,1",
                               "40x40x1024->256,1,1",
                               "160x160x256->512,1,2"};

enum class Pass { value, input, weight };
const char* name_of(Pass pass) {
  return pass == Pass::value ? "value" : pass == Pass::input ? "input gradient" : "weight gradient";
}

using Shapes = std::vector<ConvShape>;  // that share their weights

ConvShape parse_map(const std::string& shape, int batch) {
  constexpr long long kMost = 100'000;  // products of them stay numbers
  long long h = 0, w = 0, c = 0, o = 0, kernel = 0, stride = 0, groups = 1;
  int end = 0;
  int n = std::sscanf(shape.c_str(), "%lldx%lldx%lld->%lld,%lld,%lld%n", &h, &w, &c, &o, &kernel, &stride, &end);
  if (n == 6 && size_t(end) < shape.size()) {
    int more = 0;
    n += std::sscanf(shape.c_str() + end, ",%lld%n", &groups, &more) - 1, end += more;
  }
  check(Code::usage, n == 6 && size_t(end) == shape.size() && std::min({h, w, c, o, kernel, stride, groups}) > 0,
        "--shape ", shape,
        ": expected HxWxC->K,kernel,stride, as in '80x80x256->256,3,1' (quoted: > is the shell's), "
        "or with ,groups at the end");
  check(Code::usage, std::max({h, w, c, o, kernel, stride}) <= kMost, "--shape ", shape, ": a number above ", kMost);
  check(Code::usage, c % groups == 0 && o % groups == 0, "--shape ", shape, ": ", c, " and ", o,
        " channels do not divide into ", groups, " groups");
  const int k = int(kernel), pad = k / 2;
  const int64_t oh = (h + 2 * pad - kernel) / stride + 1, ow = (w + 2 * pad - kernel) / stride + 1;
  check(Code::usage, h + 2 * pad >= kernel && w + 2 * pad >= kernel, "--shape ", shape, ": smaller than its kernel");
  return {batch, h, w, c, oh, ow, o, k, int(stride), pad, 1, int(groups)};
}

// "8x8+4x4x64->64,3,1": the maps before the last one have its channels, kernel and stride.
Shapes parse(const std::string& shapes, int batch) {
  std::vector<std::string> sizes = split(shapes, '+');
  const std::string last = sizes.empty() ? "" : sizes.back();
  const size_t channels = last.find('x', std::min(last.find('x'), last.size() - 1) + 1);
  Shapes maps;
  for (size_t i = 0; i + 1 < sizes.size(); ++i)
    maps.push_back(parse_map(sizes[i] + (channels == std::string::npos ? "" : last.substr(channels)), batch));
  maps.push_back(parse_map(last, batch));
  return maps;
}

double direct_products(const Shapes& maps) {
  double sum = 0;
  for (const ConvShape& s : maps) sum += double(s.n * s.oh * s.ow) * double(s.taps()) * double(s.c * s.group_o());
  return sum;
}

template <class T> cpu::ConvChoice choice_for(const Shapes& shapes, Pass pass) {
  cpu::Maps<T> maps;
  for (const ConvShape& s : shapes) maps.push_back({s, nullptr, nullptr, nullptr, nullptr});
  return cpu::choose<T>(maps, conv_algo(), cpu::kernels(), pass == Pass::input);
}
cpu::ConvChoice choice(const Shapes& shapes, Pass pass, DType type) {
  return type == DType::bf16 ? choice_for<bf16>(shapes, pass) : choice_for<float>(shapes, pass);
}
std::string algo_of(const Shapes& s, Pass pass, DType type) {
  if (conv_algo() == ConvAlgo::reference) return "reference";
  switch (choice(s, pass, type).way) {
    case cpu::ConvChoice::winograd: return "winograd";
    case cpu::ConvChoice::grouped: return "grouped";
    default: return "direct";
  }
}

Json explained(const std::string& name, const Shapes& s, Pass pass, DType type) {
  const cpu::ConvChoice c = choice(s, pass, type);
  Json row = {{"name", name}, {"pass", name_of(pass)}, {"algo", algo_of(s, pass, type)}};
  row["direct_mmul"] = direct_products(s) * 1e-6;
  row["winograd_mmul"] = c.tiles > 0 ? Json(36e-6 * double(c.tiles) * double(s[0].c * s[0].o)) : Json();
  row["tiles"] = c.tiles, row["least_tiles"] = c.least;
  row["why"] = conv_algo() == ConvAlgo::reference ? "conv.algo=reference" : c.why;
  return row;
}

Json timed(const ConvFlags& o, const Machine& machine, const std::string& name, const Shapes& maps, Pass pass,
           DType type) {
  const ConvShape& s0 = maps[0];
  Tensor weight = noise({s0.kernel.h, s0.kernel.w, s0.group_c(), s0.o}, 2);
  std::vector<Tensor> x, dy;
  double bytes = double(weight.bytes());
  for (const ConvShape& s : maps) {
    x.push_back(noise({s.n, s.h, s.w, s.c}, 1).to(type));
    dy.push_back(noise({s.n * s.oh * s.ow, s.o}, 3).to(type));
    bytes += double(x.back().bytes() + dy.back().bytes());
  }
  const Conv2dOptions options{.stride = s0.stride, .pad = s0.pad, .groups = s0.groups};
  const auto value = [&] { return conv2d(x, weight, {}, options); };
  Times times;
  if (pass == Pass::value) {
    const NoGrad off;
    times = measure(o, value);
  } else {
    std::vector<Tensor> wanted = pass == Pass::input ? x : std::vector<Tensor>{weight};
    for (Tensor& t : wanted) t.set_requires_grad();
    if (pass == Pass::input) x = wanted;
    else weight = wanted[0];
    std::vector<Tensor> y = value();
    for (Tensor& t : y) t = reshape(t, {t.size() / s0.o, s0.o});
    const Tensor all = y.size() == 1 ? y[0] : concat(y, 0), seed = dy.size() == 1 ? dy[0] : concat(dy, 0);
    times = measure(o, [&] {
      for (Tensor& t : wanted) t.set_grad({});
      backward(all, seed, {.retain_graph = true});
    });
  }
  const double flops = 2 * direct_products(maps);
  const double ms = times.median();
  return {{"name", name + " " + name_of(pass)},
          {"algo", algo_of(maps, pass, type)},
          {"ms_min", times.least()},
          {"ms_median", ms},
          {"gflops", flops * 1e-6 / ms},
          {"roofline", roofline(machine, bytes, flops, ms)}};
}

void bench_conv(const ConvFlags& o) {
  if (!o.algo.empty()) set_conv_algo(conv_algo_named(o.algo));
  if (o.precision == "bf16") check_bf16_convolutions(Device::cpu);
  const DType type = o.precision == "bf16" ? DType::bf16 : DType::f32;
  check(Code::usage, !o.explain || o.compare.empty(), "--explain times nothing that --compare could hold against");
  std::vector<std::string> names(std::begin(kShapes), std::end(kShapes));
  if (!o.shapes.empty()) names = o.shapes;
  std::vector<Shapes> shapes;
  for (const std::string& name : names) shapes.push_back(parse(name, o.batch));
  Report report("conv", o);
  report.head["batch"] = o.batch, report.head["precision"] = o.precision;
  report.head["algo"] = name_of(conv_algo());
  Machine machine{};
  if (!o.explain) report.use(machine = measure_machine());
  Progress progress("timing", int64_t(names.size()));
  for (size_t i = 0; i < names.size(); ++i) {
    for (Pass pass : {Pass::value, Pass::input, Pass::weight})
      report.add(o.explain ? explained(names[i], shapes[i], pass, type)
                           : timed(o, machine, names[i], shapes[i], pass, type));
    progress.update(int64_t(i) + 1, names[i]);
  }
  progress.clear();
  report.print();
}

}  // namespace

void add_bench_conv(Command& bench) {
  Command conv = bench.command("conv",
                               "Times convolutions: value, input gradient and weight gradient. GFLOP/s count the "
                               "multiply-adds of the definition: Winograd does with fewer, and may exceed the peak.",
                               "fovea bench conv\nfovea bench conv --explain\n"
                               "fovea bench conv --shape '80x80x256->256,3,1' --algo direct --threads 1");
  auto o = std::make_shared<ConvFlags>();
  conv.option("--shape", o->shapes,
              "HxWxC->K,kernel,stride[,groups] instead of RetinaNet's layers; padding is kernel / 2; HxW+HxWxC...: "
              "several maps; may be repeated")
      .type("SHAPE");
  conv.option("--batch", o->batch, "images").show_default().range(1, 1e6);
  conv.option("--algo", o->algo, "auto, direct, winograd or reference; otherwise FOVEA_CONV_ALGO").type("NAME");
  conv.option("--precision", o->precision,
              "of the maps: f32 or bf16; weights are f32, and rounded for products of bf16")
      .show_default()
      .one_of({"f32", "bf16"});
  conv.flag("--explain", o->explain, "only say which algorithm is chosen and by which numbers");
  add_bench_flags(conv, *o);
  conv.run([o] { bench_conv(*o); });
}

}  // namespace fovea
