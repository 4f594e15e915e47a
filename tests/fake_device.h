// A device on the processor, as strict as a GPU: nothing runs before somebody waits for it, and its memory cannot be
// touched from outside (the pages are locked while no work of the device runs), nor may its work point at the host's.
// Counts what was asked of it. Loops are of f64, as those of a rehearsal are.
#pragma once
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>

#include "core/device.h"
#include "core/error.h"
#include "core/gemm.h"
#include "core/platform.h"

namespace fovea::test {

class FakeDevice final : public Runtime {
 public:
  struct Shared : std::atomic<int64_t> {  // a loader's threads raise it while a test copies it
    Shared() : atomic(0) {}
    Shared(const Shared& o) : atomic(o.load()) {}
    Shared& operator=(const Shared& o) { return store(o.load()), *this; }
  };
  struct Counts {
    int64_t loops = 0, products = 0, to_device = 0, to_host = 0, within = 0, synchronizations = 0, allocations = 0,
            pageable = 0;
    Shared pinned;
  };
  Counts counts;
  std::string last_loop;  // what it was given
  size_t capacity;
  int major = 0;  // compute capability

  explicit FakeDevice(size_t capacity = size_t{2} << 30) : capacity(capacity) {
    arena_ = static_cast<char*>(mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    check(arena_ != MAP_FAILED, "FakeDevice: no address space");
    holes_[arena_] = kArena;
  }
  ~FakeDevice() override { munmap(arena_, kArena); }

  DeviceInfo info() override { return {"a processor that plays a GPU", "0.0", major, 0, capacity, capacity - used_}; }
  void* allocate(size_t bytes) override {
    bytes = (bytes + 4095) / 4096 * 4096;
    if (used_ + bytes > capacity) return nullptr;
    for (auto& [begin, size] : holes_) {
      if (size < bytes) continue;
      char* block = begin;
      const size_t rest = size - bytes;
      holes_.erase(block);
      if (rest) holes_[block + bytes] = rest;
      live_[block] = bytes, used_ += bytes, counts.allocations++;
      return block;
    }
    return nullptr;
  }
  void free(void* p) override {
    finish();
    char* block = static_cast<char*>(p);
    const size_t bytes = live_.at(block);
    live_.erase(block), used_ -= bytes;
    madvise(block, bytes, MADV_DONTNEED);
    holes_[block] = bytes;
    for (auto it = holes_.begin(); it != holes_.end();) {  // neighbours become one
      const auto next = std::next(it);
      if (next == holes_.end() || it->first + it->second != next->first) it = next;
      else it->second += next->second, holes_.erase(next);
    }
  }
  void* allocate_pinned(size_t bytes) override {
    std::lock_guard lock(pinned_mutex_);
    void* block = std::malloc(bytes);
    pinned_[static_cast<char*>(block)] = bytes, counts.pinned++;
    return block;
  }
  void free_pinned(void* block) override {
    finish();
    std::lock_guard lock(pinned_mutex_);
    pinned_.erase(static_cast<char*>(block)), std::free(block);
  }

  void copy(void* to, const void* from, size_t bytes, Way way, Stream stream) override {
    check((way == Way::to_host || here(to)) && (way == Way::to_device || here(from)),
          "FakeDevice: a copy of the host's");
    (way == Way::to_device ? counts.to_device : way == Way::to_host ? counts.to_host : counts.within)++;
    if (way != Way::to_device || is_pinned(static_cast<const char*>(from)))
      return put(stream, [=] { std::memmove(to, from, bytes); });
    counts.pageable++;  // of to_device
    auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    put(stream, [=] { std::memcpy(to, staged->data(), bytes); });
  }
  void keep(std::shared_ptr<void> what, Stream stream) override {
    put(stream, [what = std::move(what)] {});
  }
  void wait(Stream waiting, Stream first) override {
    const size_t so_far = queue(first).queued;
    put(waiting, [=, this] { run(first, so_far); });
  }
  bool waiting(Stream stream) { return queue(stream).done < queue(stream).queued; }  // whether work is
  void synchronize(Stream stream) override { counts.synchronizations++, finish(stream); }
  void gemm(const Gemm<float>& g) override { multiply(g); }
  void gemm(const Gemm<double>& g) override { multiply(g); }
  void* handle(Stream) override { return nullptr; }
  void launched() override {}
  void play(void (*loop)(const void* body, int64_t n), int64_t n, const void* body, size_t bytes) override {
    last_loop.assign(static_cast<const char*>(body), bytes);
    const char* p = static_cast<const char*>(body);
    for (; FOVEA_CLEARS_PADDING && bytes >= sizeof(void*); p += sizeof(void*)) {  // else what lies between may look so
      void* word;
      std::memcpy(&word, p, sizeof word);
      check(here(word) || !mapped(word), "FakeDevice: a loop for the device points at memory of the host");
      bytes -= sizeof word;
    }
    counts.loops++, put(Stream::compute, [loop, n, body = last_loop] { loop(body.data(), n); });
  }

 private:
  static constexpr size_t kArena = size_t{64} << 30;  // of addresses
  struct Queue {
    std::deque<std::function<void()>> work;
    size_t queued = 0, done = 0;
  };
  Queue& queue(Stream s) { return queues_[static_cast<int>(s)]; }
  void put(Stream s, std::function<void()> work) { queue(s).work.push_back(std::move(work)), queue(s).queued++; }
  void run(Stream s, size_t until) {
    for (Queue& q = queue(s); q.done < until;) {
      const auto work = std::move(q.work.front());
      q.work.pop_front(), q.done++;
      work();
    }
  }
  void finish(Stream s) {
    mprotect(arena_, kArena, PROT_READ | PROT_WRITE);
    run(s, queue(s).queued);
    mprotect(arena_, kArena, PROT_NONE);
  }
  void finish() { finish(Stream::compute), finish(Stream::copy); }
  bool is_pinned(const char* p) {
    std::lock_guard lock(pinned_mutex_);
    const auto after = pinned_.upper_bound(const_cast<char*>(p));
    return after != pinned_.begin() && p < std::prev(after)->first + std::prev(after)->second;
  }
  bool here(const void* p) const { return !p || (p >= arena_ && p < arena_ + kArena); }
  static bool mapped(void* word) {  // whether it may be a pointer: small numbers and floating-point ones are none
    const auto number = reinterpret_cast<uintptr_t>(word);
    unsigned char resident;
    return number >> 40 != 0 && mincore(reinterpret_cast<void*>(number / 4096 * 4096), 1, &resident) == 0;
  }
  template <class T> void multiply(const Gemm<T>& g) {
    check(here(g.a.data) && here(g.b.data) && here(g.c) && here(g.end.added) && here(g.end.bias),
          "FakeDevice: a matrix is the host's");
    counts.products++;
    put(Stream::compute, [=] { fovea::gemm(Device::cpu, g); });
  }

  char* arena_;
  std::map<char*, size_t> holes_, live_;
  size_t used_ = 0;
  Queue queues_[2];
  std::mutex pinned_mutex_;  // workers ask for pinned memory
  std::map<char*, size_t> pinned_;
};

// Installs a fake device for the length of a scope.
struct WithFakeDevice {
  FakeDevice* device;
  explicit WithFakeDevice(size_t capacity = size_t{2} << 30) {
    auto fake = std::make_unique<FakeDevice>(capacity);
    device = fake.get();
    set_runtime(std::move(fake));
  }
  ~WithFakeDevice() { set_runtime(nullptr); }
};

}  // namespace fovea::test
