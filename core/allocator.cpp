// Small blocks come from free lists by size; large ones are cut from segments and joined again, so that the memory of
// one layer serves the next, whatever its shape. Threads have segments of their own for scratch. Statistics by tag.
#include "core/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

#include "core/error.h"
#include "core/scope.h"

namespace fovea {

namespace {

constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20, kSegment = size_t{512} << 20;
constexpr size_t kThreadSegment = size_t{64} << 20;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kLarge = ~size_t{0};  // it watches the ends of what the system allocates, not of parts of it
#else
constexpr size_t kLarge = size_t{64} << 10;
#endif

// Small: eight classes an octave above 4 KiB, so at most 12.5 % is lost, multiples of 64 bytes below. Large: pages. On
// a device all blocks are cut from segments: each request to its driver would wait for all work.
size_t rounded(size_t bytes, Device device) {
  if (device == Device::cuda) return std::max<size_t>((bytes + 511) / 512 * 512, 512);
  bytes = std::max<size_t>(bytes, 64);
  size_t step = 64;
  if (bytes >= kLarge) step = kPage;
  else if (bytes > 4096) step = std::max<size_t>((size_t{1} << (63 - __builtin_clzll(bytes))) / 8, 64);
  return (bytes + step - 1) / step * step;
}

// Large blocks: the best fit among the free ones, or the next bytes of a segment.
class Segments {
 public:
  char* take(size_t size) {  // null if there is no room
    if (const auto fit = by_size_.lower_bound({size, nullptr}); fit != by_size_.end()) {
      const auto [have, p] = *fit;
      erase(p, have);
      if (have > size) insert(p + size, have - size);
      return p;
    }
    Segment* best = nullptr;  // of those with room: where the fewest pages are new
    for (auto& [begin, s] : segments_)
      if (s.room() >= size && (!best || s.fresh(size) < best->fresh(size))) best = &s;
    if (!best) return nullptr;
    best->top += size, best->touched = std::max(best->touched, best->top);
    return best->top - size;
  }
  void add(char* begin, size_t size) { segments_[begin] = {begin + size, begin, begin}; }
  void give(char* p, size_t size) {
    auto& [begin, s] = *std::prev(segments_.upper_bound(p));
    const auto next = by_place_.lower_bound(p);
    if (next != by_place_.begin())
      if (const auto [before, length] = *std::prev(next); before >= begin && before + length == p)
        erase(before, length), p = before, size += length;
    if (const auto after = by_place_.find(p + size); after != by_place_.end() && after->first < s.end) {
      const size_t length = after->second;
      erase(p + size, length), size += length;
    }
    if (p + size == s.top) s.top = p;
    else insert(p, size);
  }
  template <class Free> void trim(Free free) {  // frees the segments that hold nothing
    for (auto it = segments_.begin(); it != segments_.end();) {
      const bool empty = it->second.top == it->first;
      if (empty) free(it->first);
      it = empty ? segments_.erase(it) : std::next(it);
    }
  }
  size_t touched() const {  // bytes that were handed out once: the system has given them pages
    size_t bytes = 0;
    for (auto& [begin, s] : segments_) bytes += size_t(s.touched - begin);
    return bytes;
  }

 private:
  struct Segment {
    char *end, *top, *touched;  // [top, end) is free and in no list
    size_t room() const { return size_t(end - top); }
    size_t fresh(size_t size) const { return size_t(std::max(top + size, touched) - touched); }  // of the next bytes
  };
  void insert(char* p, size_t size) { by_place_[p] = size, by_size_.insert({size, p}); }
  void erase(char* p, size_t size) { by_place_.erase(p), by_size_.erase({size, p}); }
  std::map<char*, Segment> segments_;  // by their first byte
  std::map<char*, size_t> by_place_;   // free blocks
  std::set<std::pair<size_t, char*>> by_size_;
};

struct Block {
  size_t bytes, place;
  std::string tag;
};

class Pool {
 public:
  explicit Pool(Device device) : device_(device), large_from_(device == Device::cuda ? 0 : kLarge) {}
  void* take(size_t bytes, size_t place) {  // place: 0, or 1 + the number of the thread that it is for
    const size_t size = rounded(bytes, device_);
    const std::string tag = Scope::path().substr(0, Scope::path().find('.'));
    std::lock_guard lock(mutex_);
    if (size < bytes) out_of_memory(bytes);  // no multiple of a page is so large
    void* block = is_large(size, place) ? take_large(size, place) : take_small(size);
    stats_.current += size;
    stats_.peak = std::max(stats_.peak, stats_.current);
    stats_.allocations++;
    stats_.tags[tag] += size;
    live_[block] = {size, place, tag};
    return block;
  }
  void give(void* block) {
    if (!block) return;
    std::lock_guard lock(mutex_);
    const auto it = live_.find(block);
    const auto& [size, place, tag] = it->second;
    stats_.current -= size;
    stats_.tags[tag] -= size;
    if (is_large(size, place)) segments_[place].give(static_cast<char*>(block), size), large_ -= size;
    else small_[size].push_back(block), kept_ += size;
    live_.erase(it);
  }
  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    stats_.cached = kept_ - large_;
    for (auto& [place, segments] : segments_) stats_.cached += segments.touched();
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
  // Of a thread's own memory all is large, unless no block is.
  bool is_large(size_t size, size_t place) const {
    return size >= large_from_ || (place > 0 && large_from_ < ~size_t{0});
  }
  void* take_small(size_t size) {
    auto& list = small_[size];
    if (list.empty()) {
      void* fresh = from_system(size);
      if (!fresh) out_of_memory(size);
      return fresh;
    }
    void* block = list.back();
    list.pop_back(), kept_ -= size;
    return block;
  }
  void* take_large(size_t size, size_t place) {
    Segments& segments = segments_[place];
    char* block = segments.take(size);
    if (!block) {
      size_t segment = std::max(size, place == 0 ? kSegment : kThreadSegment);
      void* begin = from_system(segment);
      if (!begin) begin = from_system(segment = size);
      if (!begin) out_of_memory(size);
      segments.add(static_cast<char*>(begin), segment);
      block = segments.take(size);
    }
    large_ += size;
    return block;
  }
  void drop_cache() {
    for (auto& [size, list] : small_)
      for (void* block : list) std::free(block);
    small_.clear(), kept_ = 0;
    for (auto& [place, segments] : segments_)
      segments.trim([this](void* p) { device_ == Device::cuda ? runtime().free(p) : std::free(p); });
  }
  void* ask_system(size_t size) {
    if (device_ == Device::cuda) return runtime().allocate(size);
    return std::aligned_alloc(size % kHugePage == 0 ? kHugePage : 64, size);  // of which a size must be a multiple
  }
  void* from_system(size_t size) {  // null where it has no more
    void* block = ask_system(size);
    if (!block) {  // what is kept may be all that is missing
      drop_cache();
      block = ask_system(size);
    }
    if (!block) return nullptr;
#ifdef MADV_HUGEPAGE
    if (size >= kSegment && device_ == Device::cpu)
      madvise(block, size, MADV_HUGEPAGE);  // one page fault for 512; it may decline
#endif
    stats_.system_allocations++;
    return block;
  }
  [[noreturn]] void out_of_memory(size_t size) {
    std::string holders;
    for (auto& [tag, bytes] : stats_.tags)
      if (bytes >> 20) holders += text("\n  ", tag.empty() ? "(no module)" : tag, " holds ", bytes >> 20, " MiB");
    fail(Code::memory, text("out of memory", device_ == Device::cuda ? " on the GPU" : "", ": ", size >> 20,
                            " MiB more were asked for, ", stats_.current >> 20, " MiB are in use", holders,
                            "\n  hint: a smaller batch or image size needs less"));
  }

  const Device device_;
  const size_t large_from_;
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> small_;  // free blocks by size
  std::map<size_t, Segments> segments_;         // by place
  size_t kept_ = 0, large_ = 0;                 // bytes of small free blocks, of large live ones
  std::unordered_map<void*, Block> live_;
  MemoryStats stats_;
};

// Locking pages is slow, so a block serves whatever is not larger. The lock is free when the device is called: what it
// does may wait for a give().
class PinnedPool {
 public:
  void* take(size_t& bytes) {
    void* block = kept(bytes);
    return block ? block : runtime().allocate_pinned(bytes);
  }
  void give(void* block, size_t bytes) {
    std::lock_guard lock(mutex_);
    free_.emplace(bytes, block);
  }
  void trim() {
    for (size_t any = 0; void* block = kept(any); any = 0) runtime().free_pinned(block);
  }

 private:
  // The smallest of at least `bytes`, which becomes its size, or null.
  void* kept(size_t& bytes) {
    std::lock_guard lock(mutex_);
    const auto fit = free_.lower_bound(bytes);
    if (fit == free_.end()) return nullptr;
    bytes = fit->first;
    return free_.extract(fit).mapped();
  }
  std::mutex mutex_;
  std::multimap<size_t, void*> free_;  // by size
};

// Pools are never destroyed: tensors in static storage may outlive them.
PinnedPool& pinned_pool() {
  static auto* pinned = new PinnedPool;
  return *pinned;
}
Pool& pool(Device device) {
  static Pool* cpu = new Pool(Device::cpu);
  static Pool* cuda = new Pool(Device::cuda);
  return device == Device::cuda ? *cuda : *cpu;
}

}  // namespace

void* allocate(size_t bytes, Device device) { return pool(device).take(bytes, 0); }
void* allocate_apart(size_t bytes, int thread) { return pool(Device::cpu).take(bytes, size_t(thread) + 1); }
void release(void* block, Device device) { pool(device).give(block); }
MemoryStats memory_stats(Device device) { return pool(device).stats(); }
void reset_peak(Device device) { pool(device).reset_peak(); }
void trim_cache(Device device) {
  pool(device).trim();
  if (device == Device::cuda) pinned_pool().trim();
}
std::shared_ptr<void> allocate_pinned(size_t bytes) {
  void* block = pinned_pool().take(bytes);
  return {block, [bytes](void* p) { pinned_pool().give(p, bytes); }};
}

}  // namespace fovea
