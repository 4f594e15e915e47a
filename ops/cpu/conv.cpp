// The choice between Winograd, direct convolution and that of narrow groups.
#include "ops/cpu/conv.h"

#include <algorithm>
#include <type_traits>

#include "core/gemm.h"
#include "core/loops.h"

namespace fovea::cpu {

// Winograd does a quarter of the multiplies, but has 36 numbers for each 9 of the weights: with few tiles those decide.
template <class T> ConvChoice choose(const Maps<T>& maps, ConvAlgo algo, const Kernels& k, bool turned) {
  using enum ConvChoice::Way;
  const ConvShape& s = maps[0].s;
  const int64_t cg = s.group_c(), og = s.group_o();
  const auto near = [](const auto& map) { return grouped::near(map.s); };
  if (algo != ConvAlgo::direct && s.groups > 1 && grouped::applies(turned ? og : cg, turned ? cg : og, s.taps(), k) &&
      std::all_of(maps.begin(), maps.end(), near))
    return {grouped, 0, 0, "groups of so few channels would leave the vectors of a product empty"};
  if (!winograd::applies(s)) return {direct, 0, 0, "Winograd is for 3x3 of stride 1, in one group"};
  // products of bf16 take half the time, those of Winograd's transforms stay f32
  const int64_t tiles = winograd::tiles(maps), least = std::is_same_v<T, bf16> ? 10 : 3;
  if (algo == ConvAlgo::direct) return {direct, tiles, least, "conv.algo=direct"};
  if (algo == ConvAlgo::winograd) return {winograd, tiles, least, "conv.algo=winograd"};
  if (std::is_same_v<T, bf16> && k.tiles)
    return {direct, tiles, 0, "tile registers multiply faster than Winograd's transforms add"};
  if (std::min(s.c, s.o) < 16) return {direct, tiles, 0, "fewer than 16 channels do not fill Winograd's products"};
  if (tiles < least) return {direct, tiles, least, "too few tiles: four times the weights cost more than is saved"};
  return {winograd, tiles, least, "a quarter of the multiplies outweighs the transforms"};
}

template <class T>
Packed<T>::Packed(int64_t places, int64_t channels, int64_t columns, bool apart, const Kernels& k)
    : runs(apart ? places : 1),
      run(apart ? channels : places * channels),
      stride(round_up(run, sizeof(T) == 2 && k.tiles ? kTileDepth : 4 / int64_t{sizeof(T)})),
      n(columns),
      depth(runs * stride),
      memory_(static_cast<size_t>(depth * round_up(n, k.vector)) * sizeof(T)) {
  data = memory_.as<T>();
  const int64_t packed = round_up(run, 4 / int64_t{sizeof(T)});  // pairs
  for (int64_t j = 0; j < n && packed < stride; j += k.panel) {
    const int64_t width = round_up(std::min<int64_t>(k.panel, n - j), k.vector);
    for (int64_t r = 0; r < runs; ++r)
      std::fill_n(data + j * depth + (r * stride + packed) * width, (stride - packed) * width, T());
  }
}

namespace {

struct Round {
  const float* x;
  bf16* y;
  void operator()(int64_t i) const { y[i] = bf16(x[i]); }
};

// f(maps) for maps of f32 whose factors may be rounded to bf16, their x and dy rounded; false: they may not.
template <class T, class F> bool rounded(const Maps<T>& maps, const Kernels& k, F f) {
  if constexpr (std::is_same_v<T, float>) {
    if (!k.tiles || factors() != Factors::bf16) return false;
    const auto numbers = [](const ConvMap<float>& m) {
      return std::pair{m.x ? m.s.n * m.s.h * m.s.w * m.s.c : 0, m.dy ? m.s.n * m.s.oh * m.s.ow * m.s.o : 0};
    };
    int64_t size = 0;
    for (const auto& map : maps) size += numbers(map).first + numbers(map).second;
    Workspace memory(size_t(size) * sizeof(bf16));
    Maps<bf16, float> out;
    bf16* next = memory.as<bf16>();
    for (const auto& map : maps) {
      const auto [x, dy] = numbers(map);
      for_each(Device::cpu, x, Round{map.x, next});
      for_each(Device::cpu, dy, Round{map.dy, next + x});
      out.push_back({map.s, next, map.y, map.dx, next + x, map.residual});
      next += x + dy;
    }
    f(out);
  }
  return std::is_same_v<T, float>;
}

}  // namespace

template <class T, class W>
void conv_value(const Maps<T>& maps, const W* w, const ConvEnd& end, ConvAlgo algo, const Kernels& k) {
  if (rounded(maps, k, [&](const auto& m) { direct::value(m, w, end, k); })) return;
  switch (choose(maps, algo, k).way) {
    case ConvChoice::direct: return direct::value(maps, w, end, k);
    case ConvChoice::winograd: return winograd::value(maps, w, end, k);
    case ConvChoice::grouped: return grouped::value(maps, w, end, k);
  }
}
template <class T> void conv_input_gradient(const Maps<T>& maps, const float* w, ConvAlgo algo, const Kernels& k) {
  if (rounded(maps, k, [&](const auto& m) { direct::input_gradient(m, w, k); })) return;
  switch (choose(maps, algo, k, true).way) {
    case ConvChoice::direct: return direct::input_gradient(maps, w, k);
    case ConvChoice::winograd: return winograd::input_gradient(maps, w, k);
    case ConvChoice::grouped: return grouped::input_gradient(maps, w, k);
  }
}
template <class T> void conv_weight_gradient(const Maps<T>& maps, float* dw, ConvAlgo algo, const Kernels& k) {
  if (rounded(maps, k, [&](const auto& m) { direct::weight_gradient(m, dw, k); })) return;
  switch (choose(maps, algo, k).way) {
    case ConvChoice::direct: return direct::weight_gradient(maps, dw, k);
    case ConvChoice::winograd: return winograd::weight_gradient(maps, dw, k);
    case ConvChoice::grouped: return grouped::weight_gradient(maps, dw, k);
  }
}

#define FOVEA_CONV(T)                                                                                  \
  template struct Packed<T>;                                                                           \
  template ConvChoice choose<T>(const Maps<T>&, ConvAlgo, const Kernels&, bool);                       \
  template void conv_value<T>(const Maps<T>&, const float*, const ConvEnd&, ConvAlgo, const Kernels&); \
  template void conv_input_gradient<T>(const Maps<T>&, const float*, ConvAlgo, const Kernels&);        \
  template void conv_weight_gradient<T>(const Maps<T>&, float*, ConvAlgo, const Kernels&);
FOVEA_CONV(float)
FOVEA_CONV(bf16)
template void conv_value(const Maps<bf16>&, const bf16*, const ConvEnd&, ConvAlgo, const Kernels&);

}  // namespace fovea::cpu
