// Every fast convolution kernel, on every instruction set of this machine, against its plain twin in f64.
#include <cmath>
#include <string_view>

#include "core/gemm.h"
#include "core/random.h"
#include "core/threads.h"
#include "ops/conv_reference.h"
#include "ops/cpu/conv.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace fovea::cpu::played {
extern const TileKernels tiles;
}

namespace {

// The kernels that this machine has; and, for bf16, those of tile registers with their instructions played.
template <class T> std::vector<std::pair<std::string, cpu::Kernels>> all_kernels() {
  std::vector<std::pair<std::string, cpu::Kernels>> all;
  for (const Isa level : {Isa::fallback, Isa::v3, Isa::v4, Isa::v4_bf16, Isa::amx})
    if (level <= best_isa() && (sizeof(T) == 4 || cpu::kernels(level).half))
      all.push_back({name_of(level), cpu::kernels(level)});
#if FOVEA_PLAYED_TILES
  if (sizeof(T) == 2 && best_isa() >= Isa::v4_bf16) {
    all.push_back({"played tiles", cpu::kernels(Isa::v4_bf16)});
    all.back().second.tiles = &cpu::played::tiles;
  }
#endif
  return all;
}

template <class T> struct Buffers {  // one map as stored and in f64
  ConvShape s;
  std::vector<T> x, dy, y, dx, residual;
  std::vector<double> x64, dy64, y64, dx64;
};
template <class T> struct Case {
  std::vector<Buffers<T>> maps;
  std::vector<float> w, b, scale, dw;
  std::vector<double> w64, dw64;
};

template <class T, class V> void fill(V& v, std::vector<double>& v64, int64_t n, Dice& dice) {  // numbers that T has
  using E = typename V::value_type;
  for (int64_t i = 0; i < n; ++i) v.push_back(E(T(float(dice.normal())))), v64.push_back(v.back());
}

template <class V> void fence(V& v) { v.insert(v.end(), 64, typename V::value_type(NAN)); }  // spoils what reads on

void set_results(ConvShape& s) {  // their height and width
  s.oh = (s.h + 2 * s.pad.h - s.dilation.h * (s.kernel.h - 1) - 1) / s.stride.h + 1;
  s.ow = (s.w + 2 * s.pad.w - s.dilation.w * (s.kernel.w - 1) - 1) / s.stride.w + 1;
}

// A map of T; its numbers are such as N has.
template <class T, class N> Buffers<T> map_of(const ConvShape& s, Dice& d) {
  Buffers<T> m{.s = s};
  std::vector<double> unused;
  const int64_t in = s.n * s.h * s.w * s.c, out = s.n * s.oh * s.ow * s.o;
  fill<N>(m.x, m.x64, in, d), fill<N>(m.dy, m.dy64, out, d), fill<N>(m.residual, unused, out, d);
  fence(m.x), fence(m.dy), fence(m.residual);
  m.y.assign(out, T(NAN)), m.dx.assign(in, T(NAN)), m.y64.assign(out, 0), m.dx64.assign(in, 0);
  return m;
}
template <class N, class T> void set_weights(Case<T>& c, Dice& d) {
  const ConvShape& s = c.maps[0].s;
  std::vector<double> unused;
  fill<N>(c.w, c.w64, s.taps() * s.group_c() * s.o, d), fill<N>(c.b, unused, s.o, d);
  fill<N>(c.scale, unused, s.o, d);
  c.dw.assign(c.w.size(), NAN), c.dw64.assign(c.w.size(), 0), fence(c.w), fence(c.b), fence(c.scale);
}

template <class T, class N = T> Case<T> make(uint64_t seed) {
  Dice d(seed);
  const auto pick = [&](int64_t low, int64_t high) { return d.chance(0.2) ? low : d.integer(low, high); };
  const auto channels = [&](int64_t high) { return d.chance(0.2) ? 16 * d.integer(1, 4) : pick(1, high); };
  const bool three = d.chance(0.5);  // what Winograd applies to
  ConvShape s{};
  s.groups = three ? 1 : int(pick(1, 3));
  s.kernel = three ? Int2(3) : Int2(int(pick(1, 7)), int(pick(1, 4)));
  s.stride = three ? Int2(1) : Int2(int(pick(1, 4)), int(pick(1, 3)));
  s.dilation = three ? Int2(1) : Int2(int(pick(1, 3)), int(pick(1, 2)));
  s.pad = Int2(int(pick(0, d.chance(0.1) ? 9 : 3)), int(pick(0, 3)));
  s.c = s.groups * channels(three ? 90 : 40), s.o = s.groups * channels(d.chance(0.1) ? 700 : 140);
  if (d.chance(0.1)) s.c = s.groups * 600;
  if (!three && d.chance(0.3)) s.kernel = s.stride = s.dilation = Int2(1), s.pad = Int2(0);  // pixels as they are
  if (!three && d.chance(0.5)) {  // many narrow groups, of which some are depthwise
    const bool same = d.chance(0.5);
    s.groups = int(pick(2, 70)), s.c = s.groups * (same && d.chance(0.7) ? int64_t{1} << d.integer(1, 3) : pick(1, 9));
    s.o = same ? s.c : s.groups * (d.chance(0.2) ? 16 * d.integer(1, 2) : pick(1, 9));
  }
  Case<T> c;
  for (int64_t maps = pick(1, 3); maps-- > 0;) {
    s.n = pick(0, 3);
    s.h = pick(1, 15) + s.dilation.h * (s.kernel.h - 1), s.w = pick(1, 15) + s.dilation.w * (s.kernel.w - 1);
    set_results(s);
    if (d.chance(0.2)) s.h += d.integer(0, 2), s.w += d.integer(0, 2);  // beyond all patches, as if transposed
    c.maps.push_back(map_of<T, N>(s, d));
  }
  set_weights<N>(c, d);
  return c;
}

template <class T> void solve(Case<T>& c) {  // the twin: value without bias, both gradients
  for (size_t i = 0; i < c.maps.size(); ++i) {
    Buffers<T>& m = c.maps[i];
    reference::conv_value(Device::cpu, m.s, m.x64.data(), c.w64.data(), m.y64.data());
    reference::conv_input_gradient(Device::cpu, m.s, m.dy64.data(), c.w64.data(), m.dx64.data());
    reference::conv_weight_gradient(Device::cpu, m.s, m.x64.data(), m.dy64.data(), c.dw64.data(), i > 0);
  }
}

// block: with all that follows a convolution in a residual block; otherwise with a bias alone.
template <class T> void run(Case<T>& c, ConvAlgo algo, const cpu::Kernels& k, bool block) {
  cpu::Maps<T> maps;
  for (Buffers<T>& m : c.maps)
    maps.push_back({m.s, m.x.data(), m.y.data(), m.dx.data(), m.dy.data(), block ? m.residual.data() : nullptr});
  cpu::conv_value(maps, c.w.data(), {block ? c.scale.data() : nullptr, c.b.data(), block}, algo, k);
  cpu::conv_input_gradient(maps, c.w.data(), algo, k);
  cpu::conv_weight_gradient(maps, c.dw.data(), algo, k);
}

template <class T> std::string_view bits(const std::vector<T>& v) {
  return {reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T)};
}

template <class T, class F> double worst(size_t n, const T* x, F want) {  // max |x - want| / max |want|
  double error = 0, scale = 1e-30;
  for (size_t i = 0; i < n; ++i) {
    error = test::worse(error, std::fabs(double(x[i]) - want(i))), scale = std::max(scale, std::fabs(want(i)));
  }
  return error / scale;
}

template <class T> void compare(const Case<T>& c, bool block, double bound) {
  const double stored = sizeof(T) == 2 ? 0x1p-8 + bound : bound;  // half a unit in the last of 8 bits
  for (const Buffers<T>& m : c.maps) {
    INFO("x [" << m.s.n << "," << m.s.h << "," << m.s.w << "," << m.s.c << "] kernel " << m.s.kernel.h << "x"
               << m.s.kernel.w << " -> " << m.s.o << " stride " << m.s.stride.h << "x" << m.s.stride.w << " pad "
               << m.s.pad.h << "x" << m.s.pad.w << " dilation " << m.s.dilation.h << "x" << m.s.dilation.w << " groups "
               << m.s.groups);
    CHECK(worst(m.y.size(), m.y.data(), [&](size_t i) {
            const size_t o = i % size_t(m.s.o);
            if (!block) return m.y64[i] + c.b[o];
            return std::max(0.0, m.y64[i] * c.scale[o] + c.b[o] + double(m.residual[i]));
          }) < stored);
    CHECK(worst(m.dx.size(), m.dx.data(), [&](size_t i) { return m.dx64[i]; }) < stored);
  }
  CHECK(worst(c.dw.size(), c.dw.data(), [&](size_t i) { return c.dw64[i]; }) < bound);
}

template <class T> void check_levels() {
  for (uint64_t seed = 0; seed < 90; ++seed) {
    Case<T> c = make<T>(seed);
    solve(c);
    for (const auto& [name, kernels] : all_kernels<T>()) {
      for (const ConvAlgo algo : {ConvAlgo::direct, ConvAlgo::winograd, ConvAlgo::automatic}) {
        if (algo == ConvAlgo::winograd && !cpu::winograd::applies(c.maps[0].s)) continue;
        Case<T> mine = c;
        INFO("seed " << seed << " " << name << (algo == ConvAlgo::direct ? " direct" : ""));
        run(mine, algo, kernels, seed % 2);
        compare(mine, seed % 2, algo == ConvAlgo::direct ? 3e-6 : 2e-5);
      }
    }
  }
}

// Maps of f32 whose factors may be rounded to bf16: nothing else is, where there are tiles; elsewhere nothing at all.
void check_rounded() {
  const WithFactors rounded(Factors::bf16);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Case<float> c = make<float, bf16>(seed);
    solve(c);
    for (const auto& [name, kernels] : all_kernels<bf16>()) {
      Case<float> mine = c;
      INFO("seed " << seed << " " << name);
      run(mine, ConvAlgo::automatic, kernels, seed % 2);
      compare(mine, seed % 2, kernels.tiles ? 3e-6 : 2e-5);
    }
  }
  for (const auto& [name, kernels] : all_kernels<bf16>()) {  // numbers that bf16 does not have
    Case<float> c = make<float>(9), plain = c;
    run(c, ConvAlgo::direct, kernels, false);
    const WithFactors whole(Factors::f32);
    run(plain, ConvAlgo::direct, kernels, false);
    CHECK((c.dw == plain.dw) == !kernels.tiles);
  }
}

// Weights that bf16 has, stored as f32 and as bf16: the same bits.
void check_stored_weights() {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Case<bf16> c = make<bf16>(seed);
    const std::vector<bf16> w(c.w.begin(), c.w.end());
    for (const auto& [name, kernels] : all_kernels<bf16>())
      for (const ConvAlgo algo : {ConvAlgo::direct, ConvAlgo::automatic}) {
        INFO("seed " << seed << " " << name);
        Case<bf16> wide = c, half = c;
        const auto value = [&, &k = kernels](Case<bf16>& mine, const auto* weights) {
          cpu::Maps<bf16> maps;
          for (auto& m : mine.maps) maps.push_back({m.s, m.x.data(), m.y.data(), nullptr, nullptr});
          cpu::conv_value(maps, weights, {nullptr, mine.b.data(), true}, algo, k);
        };
        value(wide, c.w.data()), value(half, w.data());
        for (size_t i = 0; i < c.maps.size(); ++i) CHECK(bits(half.maps[i].y) == bits(wide.maps[i].y));
      }
  }
}

template <class T> void check_threads() {
  const ThreadCount restored;
  for (const auto& [name, kernels] : all_kernels<T>())
    for (uint64_t seed = 100; seed < 110; ++seed) {
      const Case<T> c = make<T>(seed);
      for (const ConvAlgo algo : {ConvAlgo::direct, ConvAlgo::automatic}) {
        Case<T> first;
        INFO("seed " << seed << " " << name);
        for (const int n : {1, 2, 3, 8}) {
          set_num_threads(n);
          Case<T> mine = c;
          run(mine, algo, kernels, false);
          if (n == 1) first = mine;
          for (size_t i = 0; i < c.maps.size(); ++i)
            CHECK((bits(mine.maps[i].y) == bits(first.maps[i].y) && bits(mine.maps[i].dx) == bits(first.maps[i].dx)));
          CHECK(mine.dw == first.dw);
        }
      }
    }
}

template <class T> void check_large(ConvShape s) {
  Dice d(5);
  Case<T> c;
  set_results(s);
  c.maps.push_back(map_of<T, T>(s, d));
  set_weights<T>(c, d);
  solve(c);
  for (const auto& [name, kernels] : all_kernels<T>())
    for (const ConvAlgo algo : {ConvAlgo::direct, ConvAlgo::winograd}) {
      if (algo == ConvAlgo::winograd && !cpu::winograd::applies(s)) continue;
      Case<T> mine = c;  // whose results nobody wrote
      INFO(name);
      run(mine, algo, kernels, true);
      compare(mine, true, algo == ConvAlgo::direct ? 3e-6 : 2e-5);
      if (name != all_kernels<T>().back().first) continue;
      const ThreadCount restored;
      for (const int n : {1, 2, 3, 8}) {  // who makes what, and of how much at once, depends on them
        set_num_threads(n);
        Case<T> other = c;
        run(other, algo, kernels, true);
        CHECK((other.maps[0].y == mine.maps[0].y && other.maps[0].dx == mine.maps[0].dx && other.dw == mine.dw));
      }
    }
}
template <class T> void check_large() {
  const auto shape = [](int64_t n, int64_t h, int64_t w, int64_t c, int64_t o, int kernel, int stride, int dilation) {
    const Int2 pad(dilation * (kernel - 1) / 2);
    return ConvShape{n, h, w, c, 0, 0, o, Int2(kernel), Int2(stride), pad, Int2(dilation), 1};
  };
  check_large<T>(shape(1, 90, 70, 40, 70, 3, 1, 1));
  check_large<T>(shape(2, 21, 230, 3, 20, 7, 2, 1));    // lines of more pixels than a block
  check_large<T>(shape(1, 16, 31, 120, 20, 5, 1, 1));   // places cut in parts of the depth
  check_large<T>(shape(1, 12, 107, 30, 9, 3, 1, 2));    // places that do not touch
  check_large<T>(shape(3, 17, 19, 50, 70, 1, 1, 1));    // all images one line
  check_large<T>(shape(1, 9, 11, 90, 300, 1, 1, 1));    // columns in parts, a border of none
  check_large<T>(shape(2, 14, 57, 16, 512, 3, 1, 1));   // few tiles of many columns
  check_large<T>(shape(1, 57, 61, 160, 200, 3, 1, 1));  // groups of tiles by slabs of columns
  ConvShape halves = shape(2, 7, 9, 32, 32, 3, 1, 1);
  halves.groups = 2;  // each with half of what a tile's depths hold
  check_large<T>(halves);
}

}  // namespace

TEST_CASE("fast convolutions equal the plain one in f64, on every instruction set") {
  check_levels<float>();
  check_levels<bf16>();
}

TEST_CASE("tiles round the factors of f32 maps to bf16 if they may, and nothing else") { check_rounded(); }

TEST_CASE("weights stored as bf16 give the same bits as those numbers stored as f32") { check_stored_weights(); }

TEST_CASE("fast convolutions give the same bits on any number of threads") {
  check_threads<float>();
  if (cpu::kernels().half) check_threads<bf16>();
}

TEST_CASE("large maps: several blocks of tiles, shares of pixels, rows of A inside and at the border") {
  check_large<float>();
  if (cpu::kernels().half) check_large<bf16>();
}
