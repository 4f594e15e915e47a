// One loop over the elements of many tensors: what an optimiser does. On a device it is one launch, and its bodies, so
// the numbers that change with every step, too, lie in the device's memory.
#pragma once
#include <cstring>

#include "core/loops.h"

namespace fovea {

template <class Body> struct Part {
  Body body;
  int64_t size;
  int64_t first = 0;  // of its chunks, among those of all parts
};
template <class Body> struct ManyParts {  // a row is a chunk
  static constexpr int64_t kChunk = 4096;
  const Part<Body>* parts;
  int64_t count;
  template <class Team> HD void operator()(Team team, int64_t chunk) const {
    int64_t begin = 0, end = count;  // the last part that begins at or before the chunk
    while (end - begin > 1) {
      const int64_t middle = (begin + end) / 2;
      (parts[middle].first <= chunk ? begin : end) = middle;
    }
    const Part<Body> part = parts[begin];
    const int64_t at = (chunk - part.first) * kChunk, left = part.size - at;
    team.each(left < kChunk ? left : kChunk, [=](int64_t i) { part.body(at + i); });
  }
};

template <class Body> void run_parts(Device device, std::vector<Part<Body>> parts) {
  using Rows = ManyParts<Body>;
  std::erase_if(parts, [](const Part<Body>& p) { return p.size == 0; });
  if (device == Device::cpu)
    for (const Part<Body>& p : parts) for_each(device, p.size, p.body);
  if (device == Device::cpu || parts.empty()) return;
  int64_t chunks = 0;
  for (Part<Body>& p : parts) p.first = chunks, chunks += (p.size + Rows::kChunk - 1) / Rows::kChunk;
  const size_t bytes = parts.size() * sizeof parts[0];
  Tensor table({static_cast<int64_t>(bytes)}, DType::u8);
  std::memcpy(table.raw(), parts.data(), bytes);
  const Tensor there = table.to(device);
  const auto* first = static_cast<const Part<Body>*>(there.raw());
  detail::device_rows(chunks, Rows{first, static_cast<int64_t>(parts.size())});
}

// make.operator()<T>(i) is the body for the elements of tensors[i]; T is their type, f32 or f64.
template <class Make> void for_many(const std::vector<Tensor>& tensors, Make make) {
  for (const Tensor& t : tensors) dispatch_float(t.dtype(), []<class T>() {});  // throws for other types
  for (const Device device : {Device::cpu, Device::cuda})
    for (const DType type : {DType::f32, DType::f64})
      dispatch_float(type, [&]<class T>() {
        std::vector<Part<decltype(make.template operator()<T>(size_t{0}))>> parts;
        for (size_t i = 0; i < tensors.size(); ++i)
          if (tensors[i].device() == device && tensors[i].dtype() == type)
            parts.push_back({make.template operator()<T>(i), tensors[i].size()});
        if (!parts.empty()) run_parts(device, std::move(parts));
      });
}

}  // namespace fovea
