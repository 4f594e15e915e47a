// A caching allocator: freed blocks are kept and handed out again, whole or in parts, since fresh pages cost more than
// most ops.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/device.h"

namespace fovea {

struct MemoryStats {
  size_t current = 0, peak = 0;        // bytes handed out (rounded sizes)
  size_t cached = 0;                   // bytes kept for re-use
  size_t allocations = 0;              // requests
  size_t system_allocations = 0;       // requests that the cache could not serve
  std::map<std::string, size_t> tags;  // current bytes by the first part of the module path ("" outside modules)
};

// Throws Error{Code::resource} with what holds the memory and what to try.
void* allocate(size_t bytes, Device device = Device::cpu);  // 64 bytes aligned; never null, also for 0 bytes
void release(void* block, Device device = Device::cpu);
MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak(Device device = Device::cpu);
void trim_cache(Device device = Device::cpu);  // gives the kept blocks back to the system

// Memory of the host that the device copies from by itself. It is kept, too, as part of the device's cache.
std::shared_ptr<void> allocate_pinned(size_t bytes);

// Scratch memory for the length of a scope.
class Workspace {
 public:
  explicit Workspace(size_t bytes, Device device = Device::cpu) : data_(allocate(bytes, device)), device_(device) {}
  ~Workspace() { release(data_, device_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  template <class T> T* as() { return static_cast<T*>(data_); }

 private:
  void* data_;
  Device device_;
};

}  // namespace fovea
