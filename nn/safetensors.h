// safetensors files: eight bytes of length, a JSON header, raw little-endian tensors. Read to the letter, written
// atomically. https://huggingface.co/docs/safetensors
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace fovea {

struct NamedTensors {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::map<std::string, std::string> metadata;
  void add(std::string name, Tensor value) { tensors.emplace_back(std::move(name), std::move(value)); }
  const Tensor* find(const std::string& name) const;  // null where absent
  const Tensor& at(const std::string& name) const;    // throws Error{Code::model} that lists similar names
};

// Reads F32, F64, BF16, I64, U8 and BOOL as they are (BOOL as u8); F16 becomes f32, I32 becomes i64. In the file's
// order, without those whose names match `skip` (nn/pattern.h). The tensors are views of the file's pages: it must not
// be cut while one lives (write_safetensors replaces files). Throws Error{Code::model}, naming the file, for anything
// that the format does not allow: a header over 100 MB or beyond the end of the file, JSON or UTF-8 that is not valid,
// duplicate names, unknown element types, sizes that do not fit the shape, offsets that overlap, leave a hole or do not
// end where the file ends.
NamedTensors read_safetensors(const std::string& path, const std::string& skip = "");
// Copies bytes [begin, begin + bytes) of a tensor. Those of a file's pages come from the file: to touch each page for
// the first and only time, and to unmap it, takes longer.
void read_once(const Tensor& t, size_t begin, size_t bytes, void* to);

// Through a temporary file in the same folder (core/atomic_file.h). Throws Error{Code::failure} where the disk is full
// or the folder cannot be written; the old file is then still there.
void write_safetensors(const std::string& path, const NamedTensors& content);

// The header's JSON by itself, against the number of bytes that follow it; `file` is for messages.
struct SafetensorsHeader {
  struct Entry {
    std::string name, dtype;
    Shape shape;
    uint64_t begin, end;  // bytes after the header
  };
  std::vector<Entry> entries;  // by offset
  std::map<std::string, std::string> metadata;
};
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes, const std::string& file);

}  // namespace fovea
