// The choice between Winograd and direct convolution, and the prepared weights that inference keeps.
#include "ops/cpu/conv.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace fovea::cpu {
namespace {

// Prepared weights by where the weights lie; good while that storage lives unchanged.
class Store {
 public:
  static Store& instance() {
    static Store store;
    return store;
  }
  using Memory = std::shared_ptr<Workspace>;
  Memory find(const Tensor& w, bool by_winograd, const Kernels& k) {
    std::lock_guard lock(mutex_);
    const auto it = entries_.find(w.raw());
    if (it == entries_.end()) return nullptr;
    const Entry& e = it->second;
    const bool same = e.owner.lock() == w.storage() && e.version == w.version() && e.shape == w.shape();
    return same && e.by_winograd == by_winograd && e.kernels == &k ? e.memory : nullptr;
  }
  void keep(const Tensor& w, bool by_winograd, const Kernels& k, const Memory& memory, int64_t bytes) {
    std::lock_guard lock(mutex_);
    sweep(w);
    if (bytes_ + bytes > kMost) return;
    bytes_ += bytes;
    entries_[w.raw()] = {w.storage(), w.version(), w.shape(), by_winograd, &k, memory, bytes};
  }
  void forget(const Tensor& w) {
    std::lock_guard lock(mutex_);
    sweep(w);
  }

 private:
  static constexpr int64_t kMost = int64_t{1} << 29;  // bytes
  struct Entry {
    std::weak_ptr<Storage> owner;
    uint64_t version;
    Shape shape;
    bool by_winograd;
    const Kernels* kernels;
    Memory memory;
    int64_t bytes;
  };
  void sweep(const Tensor& w) {  // drops what is kept for w, and whatever no longer fits its weights
    for (auto it = entries_.begin(); it != entries_.end();) {
      const auto owner = it->second.owner.lock();
      const bool good = owner && owner->version == it->second.version && it->first != w.raw();
      if (!good) bytes_ -= it->second.bytes;
      it = good ? std::next(it) : entries_.erase(it);
    }
  }
  std::mutex mutex_;
  std::map<const void*, Entry> entries_;
  int64_t bytes_ = 0;
};

}  // namespace

// Winograd does a quarter of the multiplies, but has 36 numbers for each 9 of the weights: with few tiles those decide.
ConvChoice choose(const Maps& maps, ConvAlgo algo, bool prepared) {
  const ConvShape& s = maps[0].s;
  if (!winograd::applies(s)) return {false, 0, 0, "Winograd is for 3x3 of stride 1, in one group"};
  const int64_t tiles = winograd::tiles(maps), narrow = std::min(s.c, s.o), least = prepared ? 3 : ceil_div(narrow, 20);
  if (algo == ConvAlgo::direct) return {false, tiles, least, "conv.algo=direct"};
  if (algo == ConvAlgo::winograd) return {true, tiles, least, "conv.algo=winograd"};
  if (narrow < 16) return {false, tiles, 0, "fewer than 16 channels do not fill Winograd's products"};
  if (tiles < least) return {false, tiles, least, "too few tiles: four times the weights cost more than is saved"};
  return {true, tiles, least, "a quarter of the multiplies outweighs the transforms"};
}

void conv_value(const Maps& maps, const float* w, const float* b, bool relu, ConvAlgo algo, const Kernels& k,
                const Tensor* kept) {
  const ConvShape& s = maps[0].s;
  const bool fast = choose(maps, algo, kept != nullptr).winograd;
  auto memory = kept ? Store::instance().find(*kept, fast, k) : nullptr;
  if (!memory) {
    const int64_t bytes = 4 * (fast ? winograd::prepared_size(s, k) : direct::prepared_size(s, k));
    memory = std::make_shared<Workspace>(static_cast<size_t>(bytes));
    fast ? winograd::prepare(s, w, memory->as<float>(), k) : direct::prepare(s, w, memory->as<float>(), k);
    if (kept) Store::instance().keep(*kept, fast, k, memory, bytes);
  }
  const float* prepared = memory->as<float>();
  fast ? winograd::value(maps, prepared, b, relu, k) : direct::value(maps, prepared, b, relu, k);
}
void conv_input_gradient(const Maps& maps, const float* w, ConvAlgo algo, const Kernels& k) {
  choose(maps, algo).winograd ? winograd::input_gradient(maps, w, k) : direct::input_gradient(maps, w, k);
}
void conv_weight_gradient(const Maps& maps, float* dw, ConvAlgo algo, const Kernels& k) {
  choose(maps, algo).winograd ? winograd::weight_gradient(maps, dw, k) : direct::weight_gradient(maps, dw, k);
}
void forget_prepared(const Tensor& w) { Store::instance().forget(w); }

}  // namespace fovea::cpu
