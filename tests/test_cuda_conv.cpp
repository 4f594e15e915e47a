// The convolution kernels for a GPU, played on the processor: their arithmetic of indices by brute force, their results
// against the plain convolution in f64, with lanes in several orders. A compiler for GPUs is not needed.
#include <array>
#include <cmath>
#include <deque>
#include <map>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "ops/cuda/conv.h"
#include "ops/cuda/conv_products.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::cuda;

namespace {

ConvShape draw_shape(Dice& d, int multiple, bool grouped = true) {  // odd everything; a group's channels a multiple
  const auto pick = [&](int64_t low, int64_t high) { return d.chance(0.2) ? low : d.integer(low, high); };
  ConvShape s{};
  s.groups = grouped ? int(pick(1, 3)) : 1;
  s.kernel = Int2{int(pick(1, 5)), int(pick(1, 4))}, s.stride = Int2{int(pick(1, 4)), int(pick(1, 3))};
  s.dilation = Int2{int(pick(1, 3)), int(pick(1, 2))}, s.pad = Int2{int(pick(0, 3)), int(pick(0, 3))};
  s.c = s.groups * multiple * pick(1, multiple > 1 ? 3 : 20),
  s.o = s.groups * multiple * pick(1, multiple > 1 ? 18 : 70);
  s.n = pick(0, 3);
  s.h = pick(1, 12) + s.dilation.h * (s.kernel.h - 1), s.w = pick(1, 12) + s.dilation.w * (s.kernel.w - 1);
  s.oh = (s.h + 2 * s.pad.h - s.dilation.h * (s.kernel.h - 1) - 1) / s.stride.h + 1;
  s.ow = (s.w + 2 * s.pad.w - s.dilation.w * (s.kernel.w - 1) - 1) / s.stride.w + 1;
  return s;
}

// Numbers that T has, also in f64.
template <class T> struct Numbers {
  std::vector<double> exact;
  T* data;
  std::vector<std::max_align_t> memory;
  Numbers(int64_t n, Dice& dice) : exact(size_t(n)), memory(size_t(n) * sizeof(T) / sizeof(std::max_align_t) + 1) {
    data = reinterpret_cast<T*>(memory.data());
    for (int64_t i = 0; i < n; ++i) {
      const bf16 v(float(dice.normal()));  // 8 bits: all precisions have them, so only sums are rounded
      exact[size_t(i)] = v, data[i] = T(float(v));
    }
  }
  double off(const std::vector<double>& want) const {  // max |x - want| / max |want|
    double error = 0, scale = 1e-30;
    for (size_t i = 0; i < want.size(); ++i)
      error = test::worse(error, std::fabs(double(data[i]) - want[i])), scale = std::max(scale, std::fabs(want[i]));
    return error / scale;
  }
};

// [rows, c] with zeros behind the channels: [rows, wide].
template <class S> struct Widened {
  std::vector<std::max_align_t> memory;
  Widened(const S* from, int64_t rows, int64_t c, int64_t wide)
      : memory(size_t(rows * wide) * sizeof(S) / sizeof(std::max_align_t) + 1) {
    S* to = reinterpret_cast<S*>(memory.data());
    for (int64_t i = 0; i < rows * wide; ++i) to[i] = i % wide < c ? from[i / wide * c + i % wide] : S(0.f);
  }
  const S* data() const { return reinterpret_cast<const S*>(memory.data()); }
};
// Weights [taps, c, o] with zeros behind o and behind c.
template <class S> Widened<S> widened(const S* w, const ConvShape& s, int64_t wide_c, int64_t wide_o) {
  const Widened<S> across(w, s.taps() * s.group_c(), s.o, wide_o);
  return Widened<S>(across.data(), s.taps(), s.group_c() * wide_o, wide_c * wide_o);
}

// All three sums of two maps with results of T, played with the lanes in this order. Returns how many products of
// images were split.
template <class P, class T> int check(uint64_t seed, int multiple, LaneOrder order, double sums) {
  using S = typename P::Stored;
  using C = compute_t<T>;
  Dice d(seed);
  constexpr int vector = 4 * P::kNumbers;  // of 16 bytes
  const ConvShape first = draw_shape(d, multiple, !P::kPipelined || multiple % vector == 0);
  ConvShape second = first;
  second.n = 1;
  INFO("seed " << seed << ": x [" << first.n << "," << first.h << "," << first.w << "," << first.c << "] kernel "
               << first.kernel.h << "x" << first.kernel.w << " -> " << first.o << " stride " << first.stride.h << "x"
               << first.stride.w << " pad " << first.pad.h << "x" << first.pad.w << " dilation " << first.dilation.h
               << "x" << first.dilation.w << " groups " << first.groups);
  const int64_t size = first.taps() * first.group_c() * first.o;
  Numbers<S> w(size, d);
  Numbers<C> scale(first.o, d), shift(first.o, d), dw(size, d);
  const bool fused = d.chance(0.5), wide = P::kPipelined && first.groups == 1;
  const ConvEnd<C> end = fused ? ConvEnd<C>{scale.data, shift.data, true} : ConvEnd<C>{};
  const auto widen = [&](int64_t n) { return wide ? (n + vector - 1) / vector * vector : n; };
  const int64_t c = widen(first.c), o = widen(first.o);
  const Widened<S> stored_w = widened(w.data, first, c / first.groups, o);
  const StoredWeights<S> weights{stored_w.data(), int(c / first.groups), int(o)};
  const double stored = sizeof(T) == 2 ? 0x1p-8 + sums : sums;
  std::deque<Widened<S>> images;
  std::vector<SeenAndGradient<S>> maps;
  std::vector<double> dw64(size_t(size), 0);
  int split = 0;
  const auto launch = [=, &split](const auto& product) {
    split += product.schedule.splits > 1, play_tiles(product.blocks(), product, order);
  };
  for (const ConvShape& s : {first, second}) {
    const int64_t in = s.n * s.h * s.w, out = s.n * s.oh * s.ow;
    Numbers<S> x(in * s.c, d), dy(out * s.o, d);
    Numbers<T> dx(in * s.c, d), y(out * s.o, d), residual(out * s.o, d);
    const ConvMap<T> m{s, nullptr, y.data, dx.data, nullptr, fused ? residual.data : nullptr};
    std::vector<double> y64(size_t(out * s.o), 0), dx64(size_t(in * s.c), 0);
    reference::conv_value(Device::cpu, s, x.exact.data(), w.exact.data(), y64.data());
    reference::conv_input_gradient(Device::cpu, s, dy.exact.data(), w.exact.data(), dx64.data());
    reference::conv_weight_gradient(Device::cpu, s, x.exact.data(), dy.exact.data(), dw64.data(), true);
    if (fused)
      for (size_t i = 0; i < y64.size(); ++i) {
        const size_t k = i % size_t(s.o);
        y64[i] = std::max(0.0, y64[i] * scale.exact[k] + shift.exact[k] + residual.exact[i]);
      }
    const Images<S> seen{images.emplace_back(x.data, in, s.c, c).data(), c};
    const Images<S> gradient{images.emplace_back(dy.data, out, s.o, o).data(), o};
    maps.push_back({s, seen, gradient});
    value<P>(Device::cpu, m, seen, weights, end, launch);
    input_gradient<P>(Device::cpu, m, gradient, weights, launch);
    CHECK(y.off(y64) < stored);
    CHECK(dx.off(dx64) < stored);
  }
  const int of_images = split;
  weight_gradient<P>(Device::cpu, maps, dw.data, launch);
  CHECK(dw.off(dw64) < sums);
  return of_images;
}

template <class P, class T = typename P::Stored> void check_all(double sums) {
  const LaneOrder orders[] = {{-1, -1}, {1, 0}, {77, 5}, {129, 31}};
  int split = 0;
  for (uint64_t seed = 36; seed < 48; ++seed)
    split += check<P, T>(seed, seed % 2 == 0 ? 4 * P::kNumbers : 1, orders[seed / 2 % 4], sums);
  CHECK(split > 0);
}

// How often the 32 lanes of a warp meet in a bank when each stores or loads its word.
template <class F> int worst_bank(F word) {
  int count[32] = {}, worst = 0;
  std::set<int> seen;
  for (int lane = 0; lane < 32; ++lane)
    if (const int at = word(lane); seen.insert(at).second) worst = std::max(worst, ++count[at % 32]);
  return worst;
}

template <class P> void check_results() {  // every result of a tile belongs to one lane
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 256; ++lane)
    for (int i = 0; i < P::kHigh * P::kWide / 256; ++i) {
      const At at = P::result(lane, i);
      CHECK((at.row >= 0 && at.row < P::kHigh && at.col >= 0 && at.col < P::kWide));
      seen.insert({at.row, at.col});
    }
  CHECK(int(seen.size()) == P::kHigh * P::kWide);
}

}  // namespace

TEST_CASE("a product of a tile is the convolution: f32 and f64 on the lanes") {
  check_all<Lanes<float>>(3e-6);
  check_all<Lanes<float, 64>>(3e-6);
  check_all<Lanes<double>>(1e-13);
}

TEST_CASE("a product of a tile is the convolution: tf32 and bf16 on the tensor cores") {
  check_all<TensorCores<Tf32>>(3e-6);
  check_all<TensorCores<Bf16>>(3e-6);
}

TEST_CASE("a product of a tile is the convolution: bf16 through the pipeline, with tiles of all sizes") {
  check_all<Pipelined<Bf16, 128, 128, 2>>(3e-6);
  check_all<Pipelined<Bf16, 128, 64, 4>>(3e-6);
  check_all<Pipelined<Bf16, 64, 64, 2>>(3e-6);
  check_all<Pipelined<Bf16, 64, 64, 2>, float>(3e-6);
}

TEST_CASE("a product of a tile is the convolution: tf32 through the pipeline, with tiles of all sizes") {
  check_all<Pipelined<Tf32, 128, 128, 2>>(3e-6);
  check_all<Pipelined<Tf32, 128, 64, 4>>(3e-6);
  check_all<Pipelined<Tf32, 64, 64, 2>>(3e-6);
}

// As many maps as a launch takes at most, of sizes that do not fit tiles.
template <class P> void check_several(uint64_t seed) {
  using S = typename P::Stored;
  const double stored = sizeof(S) == 2 ? 0x1p-7 : 3e-6;
  Dice d(seed);
  const ConvShape first = draw_shape(d, 4 * P::kNumbers);
  const int64_t size = first.taps() * first.group_c() * first.o;
  Numbers<S> w(size, d);
  const StoredWeights<S> weights{w.data, int(first.group_c()), int(first.o)};
  const auto launch = [](const auto& product) { play_tiles(product.blocks(), product); };
  std::deque<Numbers<S>> kept;
  std::vector<ConvMap<S>> maps;
  std::vector<Images<S>> x, dy;
  std::vector<std::vector<double>> y64, dx64;
  for (int64_t i = d.integer(1, kMaps); i > 0; --i) {
    ConvShape s = first;
    s.h += d.integer(0, 9), s.w += d.integer(0, 9), s.n = d.integer(0, 2);
    s.oh = (s.h + 2 * s.pad.h - s.dilation.h * (s.kernel.h - 1) - 1) / s.stride.h + 1;
    s.ow = (s.w + 2 * s.pad.w - s.dilation.w * (s.kernel.w - 1) - 1) / s.stride.w + 1;
    const int64_t in = s.n * s.h * s.w * s.c, out = s.n * s.oh * s.ow * s.o;
    const auto draw = [&](int64_t n) -> const Numbers<S>& { return kept.emplace_back(n, d); };
    const auto &seen = draw(in), &gradient = draw(out), &residual = draw(out);
    y64.emplace_back(out, 0), dx64.emplace_back(in, 0);
    reference::conv_value(Device::cpu, s, seen.exact.data(), w.exact.data(), y64.back().data());
    reference::conv_input_gradient(Device::cpu, s, gradient.exact.data(), w.exact.data(), dx64.back().data());
    for (size_t k = 0; k < y64.back().size(); ++k) y64.back()[k] += residual.exact[k];
    x.push_back({seen.data, s.c}), dy.push_back({gradient.data, s.o});
    maps.push_back({s, nullptr, draw(out).data, draw(in).data, nullptr, residual.data});
  }
  values<P>(Device::cpu, maps, x, weights, ConvEnd<float>{}, launch);
  input_gradients<P>(Device::cpu, maps, dy, weights, launch);
  for (size_t i = 0; i < maps.size(); ++i) {
    INFO("seed " << seed << ", map " << i << " of " << maps.size());
    Numbers<S>&y = kept[5 * i + 3], &dx = kept[5 * i + 4];
    CHECK((y.off(y64[i]) < stored && dx.off(dx64[i]) < stored));
  }
}

TEST_CASE("several maps in one product") {
  for (uint64_t seed = 0; seed < 6; ++seed) check_several<Pipelined<Bf16, 64, 64, 2>>(seed);
  for (uint64_t seed = 6; seed < 9; ++seed) check_several<Pipelined<Bf16, 128, 64, 4>>(seed);
  for (uint64_t seed = 9; seed < 15; ++seed) check_several<Pipelined<Tf32, 64, 64, 2>>(seed);
}

TEST_CASE("division by multiplication") {
  Dice dice(1);
  const auto divides = [](int n, int d) { return Divisor(d)(n) == n / d; };
  for (int d = 1; d < 300; ++d)
    for (int n = 0; n < 2000; ++n)
      if (!divides(n, d)) FAIL(n << " / " << d);
  for (int i = 0; i < 100000; ++i) {
    const int d = int(dice.integer(1, i % 2 ? INT32_MAX : 5000)), n = int(dice.integer(0, INT32_MAX));
    const int multiple = int(std::min<int64_t>(int64_t{n / d} * d, INT32_MAX));
    for (const int m : {n, multiple, std::max(multiple - 1, 0), INT32_MAX, INT32_MAX - 1})
      if (!divides(m, d)) FAIL(m << " / " << d);
  }
}

TEST_CASE("the implicit matrix is the one that im2col writes") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Dice d(seed);
    const ConvShape s = draw_shape(d, 1);
    const View view = view_of_input(s);
    REQUIRE(view.places() == s.taps() * s.group_c());
    int p = 0;
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t i = 0; i < s.oh; ++i)
        for (int64_t j = 0; j < s.ow; ++j, ++p) {
          CHECK(view.grid.offset(p) == p * s.o);
          int q = 0;
          for (int64_t u = 0; u < s.kernel.h; ++u)
            for (int64_t v = 0; v < s.kernel.w; ++v)
              for (int64_t c = 0; c < s.group_c(); ++c, ++q) {
                const int64_t y = i * s.stride.h - s.pad.h + u * s.dilation.h;
                const int64_t x = j * s.stride.w - s.pad.w + v * s.dilation.w;
                const bool inside = y >= 0 && y < s.h && x >= 0 && x < s.w;
                const int64_t want = inside ? ((n * s.h + y) * s.w + x) * s.c + c : -1;
                if (view.source(p, q) != want) FAIL("seed " << seed << ", pixel " << p << ", place " << q);
              }
        }
    CHECK(p == view.grid.size());
  }
}

TEST_CASE("the pixels of all remainders are the image, each once") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Dice d(seed);
    const ConvShape s = draw_shape(d, 1);
    std::vector<int> seen(size_t(s.n * s.h * s.w), 0);
    for (int a = 0; a < s.stride.h && a < s.h; ++a)
      for (int b = 0; b < s.stride.w && b < s.w; ++b) {
        const View view = view_of_output(s, a, b);
        for (int p = 0; p < view.grid.size(); ++p) seen.at(size_t(view.grid.offset(p) / s.c))++;
      }
    CHECK(seen == std::vector<int>(seen.size(), 1));
  }
}

TEST_CASE("blocks and their shares cover every tile of a product and every depth once") {
  Dice d(2);
  for (int round = 0; round < 200; ++round) {
    const auto pick = [&](int64_t high) { return int(d.integer(0, high)); };
    Schedule s{pick(700), pick(300), pick(900), 1 + pick(2), 1};
    s.splits = splits_of(s.blocks(128, 64), Schedule::tiles(s.depth, 16));
    std::map<std::array<int, 3>, std::vector<int>> depths;  // of each tile: how often each step is taken
    for (int64_t block = 0; block < s.blocks(128, 64); ++block) {
      const Schedule::Part part = s.part(block, 128, 64, 16);
      CHECK((part.row % 128 == 0 && part.row < s.rows && part.col % 64 == 0 && part.col < s.cols));
      CHECK((part.group < s.groups && part.split < s.splits));
      auto& steps = depths[{part.group, part.row, part.col}];
      steps.resize(size_t((s.depth + 15) / 16), 0);
      for (int i = 0; i < part.steps; ++i) steps.at(size_t(part.depth / 16 + i))++;
    }
    CHECK(int64_t(depths.size()) == s.blocks(128, 64) / s.splits);
    for (auto& [at, steps] : depths) CHECK(steps == std::vector<int>(steps.size(), 1));
  }
  CHECK(splits_of(36, 1000) == 7);
  CHECK(splits_of(36, 11) == 2);
  CHECK(splits_of(1000, 1000) == 1);
  CHECK(splits_of(0, 0) == 1);
}

TEST_CASE("a tile in shared memory: each word has a place, and no two lanes of a warp wait for one bank") {
  std::set<int> places;
  for (int depth = 0; depth < 16; ++depth)
    for (int row = 0; row < 128; ++row) places.insert(slot<128>(depth, row));
  CHECK(places.size() == 16 * 128);
  CHECK(*places.rbegin() < 16 * (128 + 8));
  for (int depth = 0; depth < 16; ++depth)
    for (int row = 0; row < 128; row += 4)
      for (int i = 1; i < 4; ++i) CHECK(slot<128>(depth, row + i) == slot<128>(depth, row) + i);
  for (int first = 0; first < 256; first += 32) {
    for (int turn = 0; turn < 2; ++turn)
      for (int j = 0; j < 4; ++j)
        CHECK(worst_bank([&](int lane) {
                const Quad q = quad<true, 16, 128>(first + lane, turn, 256);
                return slot<128>(q.depth + j, q.row);
              }) == 1);
    for (int r = 0; r < 4; ++r)
      CHECK(worst_bank([&](int lane) { return slot<128>(8 + word_of_a(lane, r).col, 64 + word_of_a(lane, r).row); }) ==
            1);
    for (int r = 0; r < 2; ++r)
      CHECK(worst_bank([&](int lane) { return slot<128>(word_of_b(lane, r).row, 32 + word_of_b(lane, r).col); }) == 1);
  }
  std::set<std::pair<int, int>> down, across;
  for (int lane = 0; lane < 256; ++lane)
    for (int turn = 0; turn < 2; ++turn)
      for (int j = 0; j < 4; ++j) {
        const Quad a = quad<true, 16, 128>(lane, turn, 256), b = quad<false, 16, 128>(lane, turn, 256);
        down.insert({a.depth + j, a.row}), across.insert({b.depth, b.row + j});
      }
  CHECK(down.size() == 16 * 128);
  CHECK(across == down);
}

TEST_CASE("every result of a tile belongs to one lane") {
  check_results<Lanes<float>>();
  check_results<Lanes<float, 64>>();
  check_results<Lanes<double>>();
  check_results<TensorCores<Bf16>>();
  check_results<Pipelined<Bf16, 128, 128, 2>>();
  check_results<Pipelined<Bf16, 128, 64, 4>>();
  check_results<Pipelined<Bf16, 64, 64, 2>>();
}

TEST_CASE("eights of the pipeline: each has a place, and the rows of a matrix are in different banks") {
  const auto check = [](auto place, int lines, int chunks) {
    std::set<int> seen;
    for (int line = 0; line < lines; ++line)
      for (int chunk = 0; chunk < chunks; ++chunk) seen.insert(place(line, chunk));
    CHECK((int(seen.size()) == lines * chunks && *seen.rbegin() == lines * chunks - 1));
    for (int line = 0; line < lines; line += 8)
      for (int chunk = 0; chunk < chunks; ++chunk) {
        std::set<int> banks;  // 8 groups of 4
        for (int j = 0; j < 8; ++j) banks.insert(place(line + j, chunk) % 8);
        CHECK(banks.size() == 8);
      }
  };
  check([](int line, int chunk) { return eight<4>(line / 8 * 8, line % 8, chunk); }, 128, 4);
  check([](int line, int chunk) { return eight<8>(line / 8 * 8, line % 8, chunk); }, 32, 8);
  check([](int line, int chunk) { return eight<16>(line / 8 * 8, line % 8, chunk); }, 32, 16);
}

TEST_CASE("words of the pipeline's tiles: each has a place, and those of a fragment are in different banks") {
  using Product = PipelinedProduct<Pipelined<Tf32, 128, 128, 2>, SeenFrom<float>, Rows<float>, ToWeights<float>>;
  const std::vector<float> memory(size_t{Product::SideA::kStored});
  const float* tile = memory.data();
  const auto place = [=](int depth, int row) { return int(&Product::SideA::number(tile, row, depth) - tile); };
  std::set<int> seen;
  for (int depth = 0; depth < 16; ++depth)
    for (int row = 0; row < 128; ++row) seen.insert(place(depth, row));
  CHECK((int(seen.size()) == 16 * 128 && *seen.rbegin() < Product::SideA::kStored));
  for (int depth = 0; depth < 16; depth += 8)
    for (int row = 0; row < 128; row += 16) {
      for (int r = 0; r < 4; ++r)
        CHECK(worst_bank(
                  [&](int lane) { return place(depth + word_of_a(lane, r).col, row + word_of_a(lane, r).row); }) == 1);
      for (int r = 0; r < 2; ++r)
        CHECK(worst_bank(
                  [&](int lane) { return place(depth + word_of_b(lane, r).row, row + word_of_b(lane, r).col); }) == 1);
    }
}

// As the manual writes it, number by number: "groupID = laneid >> 2; threadID_in_group = laneid % 4; row = groupID for
// ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8 otherwise; col = threadID_in_group * 2 + (i & 0x1) for ai where i < 4,
// ... + 8 for i >= 4", and so on.
TEST_CASE("fragments of mma.m16n8k16 and m16n8k8 are those of the PTX manual") {
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane % 4;
    for (int i = 0; i < 8; ++i) {  // bf16: a word holds numbers 2r and 2r + 1
      const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
      const int col = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
      CHECK((word_of_a(lane, i / 2).row == row && word_of_a(lane, i / 2).col * 2 + i % 2 == col));
    }
    for (int i = 0; i < 4; ++i) {
      const int row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
      CHECK((word_of_b(lane, i / 2).row * 2 + i % 2 == row && word_of_b(lane, i / 2).col == group));
      CHECK((element_of_d(lane, i).row == (i < 2 ? group : group + 8) &&
             element_of_d(lane, i).col == in_group * 2 + (i & 1)));
      const At a = word_of_a(lane, i);  // tf32
      CHECK((a.row == (i == 0 || i == 2 ? group : group + 8) && a.col == (i < 2 ? in_group : in_group + 4)));
    }
    for (int i = 0; i < 2; ++i)
      CHECK((word_of_b(lane, i).row == (i == 0 ? in_group : in_group + 4) && word_of_b(lane, i).col == group));
  }
}

TEST_CASE("an f32 becomes the nearest tf32") {
  Dice dice(3);
  for (int i = 0; i < 1000; ++i) {
    const float x = float(dice.normal() * std::pow(2.0, double(dice.integer(-30, 30))));
    const float y = Tf32::number(Tf32::word(&x, 1), 0);
    int exponent = 0;
    const double mantissa = std::frexp(double(x), &exponent) * 2048;  // of 11 bits
    CHECK(y == std::ldexp(std::round(mantissa), exponent - 11));
  }
  for (const float x : {float(INFINITY), -float(INFINITY), 0.f}) CHECK(Tf32::number(Tf32::word(&x, 1), 0) == x);
  const float nan = NAN;
  CHECK(std::isnan(Tf32::number(Tf32::word(&nan, 1), 0)));
}

TEST_CASE("a kernel that spans more of a map than 32 bits count is refused") {
  ConvShape s{1, 2201, 512, 1, 1, 512, 2048, Int2(3, 1)};
  s.dilation = Int2(1100, 1);
  const View view = view_of_output(s, 0, 0);
  CHECK(int64_t{2} * view.vertical.delta * view.w * view.ld > INT32_MAX);
  const std::vector<ConvMap<double>> nothing{{s, nullptr, nullptr, nullptr, nullptr}};
  CHECK_THROWS_AS(conv_input_gradient<double>(Device::cpu, nothing, nullptr), Error);
}
