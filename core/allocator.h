// A caching allocator: freed blocks are kept and handed out again, whole or in parts, since fresh pages cost more than
// most ops.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "core/device.h"

namespace fovea {

struct MemoryStats {
  size_t current = 0, peak = 0;        // bytes handed out (rounded sizes)
  size_t cached = 0;                   // bytes kept for re-use
  size_t allocations = 0;              // requests
  size_t system_allocations = 0;       // requests that the cache could not serve
  std::map<std::string, size_t> tags;  // current bytes by the first part of the module path ("" outside modules)
};

// Throws Error{Code::memory} with what holds the memory and what to try.
void* allocate(size_t bytes, Device device = Device::cpu);  // 64 bytes aligned; never null, also for 0 bytes
// Memory of the host for one thread of the loops, by its thread_number(), apart from all other: where cores share no
// cache, what one has written is slow to overwrite for another.
void* allocate_apart(size_t bytes, int thread);
void release(void* block, Device device = Device::cpu);
MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak(Device device = Device::cpu);
void trim_cache(Device device = Device::cpu);  // gives the kept blocks back to the system

// Memory of the host that the device copies from by itself. It is kept, too, as part of the device's cache.
std::shared_ptr<void> allocate_pinned(size_t bytes);

// Scratch memory for the length of a scope; of a thread: apart, as above.
class Workspace {
 public:
  explicit Workspace(size_t bytes, Device device = Device::cpu) : data_(allocate(bytes, device)), device_(device) {}
  static Workspace of_thread(size_t bytes, int thread) { return Workspace(allocate_apart(bytes, thread)); }
  ~Workspace() { release(data_, device_); }
  Workspace(Workspace&& other) noexcept : data_(std::exchange(other.data_, nullptr)), device_(other.device_) {}
  Workspace& operator=(Workspace&&) = delete;
  template <class T> T* as() { return static_cast<T*>(data_); }

 private:
  explicit Workspace(void* data) : data_(data), device_(Device::cpu) {}
  void* data_;
  Device device_;
};

}  // namespace fovea
