// Free lists by size class over the system's allocator, with statistics by tag.
#include "core/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/scope.h"

namespace fovea {

namespace {

// Eight classes an octave above 4 KiB, so at most 12.5 % is lost; multiples of 64 bytes below.
size_t size_class(size_t bytes) {
  bytes = std::max<size_t>(bytes, 64);
  size_t step = 64;
  if (bytes > 4096) {
    step = size_t{1} << (63 - __builtin_clzll(bytes));
    step = std::max<size_t>(step / 8, 64);
  }
  return (bytes + step - 1) / step * step;
}

struct Block {
  size_t bytes;
  std::string tag;
};

class Pool {
 public:
  void* take(size_t bytes) {
    size_t size = size_class(bytes);
    const std::string tag = Scope::path().substr(0, Scope::path().find('.'));
    std::lock_guard lock(mutex_);
    void* block = nullptr;
    auto list = free_.lower_bound(size);
    if (list != free_.end() && list->first <= size + size / 4) {  // a block that is a little too large will do
      block = list->second.back();
      size = list->first;
      list->second.pop_back();
      if (list->second.empty()) free_.erase(list);
      stats_.cached -= size;
    } else {
      block = from_system(size);
    }
    stats_.current += size;
    stats_.peak = std::max(stats_.peak, stats_.current);
    stats_.allocations++;
    stats_.tags[tag] += size;
    live_[block] = {size, tag};
    return block;
  }
  void give(void* block) {
    if (!block) return;
    std::lock_guard lock(mutex_);
    auto it = live_.find(block);
    stats_.current -= it->second.bytes;
    stats_.tags[it->second.tag] -= it->second.bytes;
    stats_.cached += it->second.bytes;
    free_[it->second.bytes].push_back(block);
    live_.erase(it);
  }
  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.current;
  }
  void trim() {
    std::lock_guard lock(mutex_);
    drop_cache();
  }

 private:
  void drop_cache() {
    for (auto& [size, list] : free_)
      for (void* block : list) std::free(block);
    free_.clear();
    stats_.cached = 0;
  }
  void* from_system(size_t size) {
    void* block = std::aligned_alloc(64, size);
    if (!block) {  // kept blocks of other sizes may be all that is missing
      drop_cache();
      block = std::aligned_alloc(64, size);
    }
    if (!block) out_of_memory(size);
    stats_.system_allocations++;
    return block;
  }
  [[noreturn]] void out_of_memory(size_t size) {
    std::string holders;
    for (auto& [tag, bytes] : stats_.tags)
      if (bytes >> 20) holders += text("\n  ", tag.empty() ? "(no module)" : tag, " holds ", bytes >> 20, " MiB");
    fail(Code::memory, text("out of memory: ", size >> 20, " MiB more were asked for, ", stats_.current >> 20,
                            " MiB are in use", holders, "\n  hint: a smaller batch or image size needs less"));
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  std::unordered_map<void*, Block> live_;
  MemoryStats stats_;
};

Pool& pool() {
  static Pool* p = new Pool;  // never destroyed: tensors in static storage may outlive it
  return *p;
}

void need_cpu(Device device) { check(device == Device::cpu, "this build has no CUDA device"); }

}  // namespace

void* allocate(size_t bytes, Device device) { return need_cpu(device), pool().take(bytes); }
void release(void* block, Device device) { need_cpu(device), pool().give(block); }
MemoryStats memory_stats(Device device) { return need_cpu(device), pool().stats(); }
void reset_peak(Device device) { need_cpu(device), pool().reset_peak(); }
void trim_cache(Device device) { need_cpu(device), pool().trim(); }

}  // namespace fovea
