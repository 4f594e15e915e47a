// safetensors files: reading, with conversion of the types that a Tensor does not have, and writing.
#include "nn/safetensors.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "core/atomic_file.h"
#include "core/words.h"
#include "nn/pattern.h"

namespace fovea {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

static constexpr uint64_t kMaxHeader = 100'000'000;

const Tensor* NamedTensors::find(const std::string& name) const {
  for (auto& [n, t] : tensors)
    if (n == name) return &t;
  return nullptr;
}
const Tensor& NamedTensors::at(const std::string& name) const {
  if (const Tensor* t = find(name)) return *t;
  std::string like;  // names with the same last part
  const std::string tail = name.substr(name.find_last_of("./") + 1);
  int listed = 0;
  for (auto& [n, t] : tensors)
    if (n.ends_with(tail) && listed++ < 3) like += " " + n;
  fail(Code::model,
       text("there is no tensor \"", name, "\" among ", tensors.size(), like.empty() ? "" : "; the nearest:" + like));
}

namespace {

struct Unmap {
  uint64_t size;
  int file;
  void operator()([[maybe_unused]] void* bytes) const {
#ifdef MAP_PRIVATE
    munmap(bytes, size), close(file);
#endif
  }
};

// The bytes of a file, in memory as soon as they are touched: its tensors are views, nothing is copied.
class File {
 public:
  explicit File(const std::string& path) : path_(path) {
    std::error_code error;
    check(Code::model, !std::filesystem::is_directory(path, error), path, ": is a folder, not a safetensors file");
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    check(Code::model, in.good(), path, ": cannot be opened: ", std::strerror(errno), "; check the path");
    size_ = static_cast<uint64_t>(in.tellg());
#ifdef MAP_PRIVATE
    const int file = open(path.c_str(), O_RDONLY);
    void* bytes = size_ ? mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0) : MAP_FAILED;
    if (bytes != MAP_FAILED) {
      storage_ = std::make_shared<Storage>(bytes, size_, std::shared_ptr<void>(bytes, Unmap{size_, file}));
      return;
    }
    if (file >= 0) close(file);
#endif
    storage_ = std::make_shared<Storage>(size_, Device::cpu);
    in.seekg(0).read(static_cast<char*>(storage_->data), static_cast<std::streamsize>(size_));
    check(Code::model, in.good() || size_ == 0, path, ": could not be read to its end: ", std::strerror(errno));
  }
  SafetensorsHeader header() {
    const auto reject = [&](const std::string& why) {
      fail(Code::model, path_ + ": not a usable safetensors file: " + why + "; copy or download it again");
    };
    uint64_t length = 0;
    if (size_ < 8) reject(text("it has only ", size_, " bytes"));
    std::memcpy(&length, storage_->data, 8);
    if (length > size_ - 8) reject(text("it says that its header has ", length, " bytes, but the file has ", size_));
    if (length > kMaxHeader) reject(text("its header of ", length, " bytes is over the limit of ", kMaxHeader));
    begin_ = 8 + length;
    return parse_safetensors_header({static_cast<const char*>(storage_->data) + 8, length}, size_ - begin_, path_);
  }
  // Elements from byte `at` after the header on; copied where the file has them at an address that they cannot have.
  Tensor tensor(uint64_t at, const Shape& shape, DType type) const {
    Tensor t(storage_, begin_ + at, shape, type);
    return (begin_ + at) % static_cast<uint64_t>(size_of(type)) == 0 ? t : aligned(t);
  }
  const void* raw(uint64_t at) const { return static_cast<const char*>(storage_->data) + begin_ + at; }

 private:
  static Tensor aligned(const Tensor& t) {
    Tensor copy = empty_like(t);
    std::memcpy(copy.raw(), t.raw(), t.bytes());
    return copy;
  }
  const std::string& path_;
  std::shared_ptr<Storage> storage_;
  uint64_t size_ = 0, begin_ = 0;
};

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) {  // zero and denormals: fraction 2^-24
    const float f = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -f : f;
  }
  const uint32_t bits = exponent == 31 ? 0x7f800000 | fraction << 13 : (exponent + 112) << 23 | fraction << 13;
  return std::bit_cast<float>(sign | bits);
}

template <class From, class To, class Convert>
Tensor converted(const File& file, const SafetensorsHeader::Entry& e, Convert convert) {
  Tensor t(e.shape, dtype_of<To>);
  std::vector<From> raw(static_cast<size_t>(t.size()));
  if (raw.empty()) return t;  // memcpy() wants places, also for nothing
  std::memcpy(raw.data(), file.raw(e.begin), raw.size() * sizeof(From));
  std::transform(raw.begin(), raw.end(), t.data<To>(), convert);
  return t;
}

Tensor read_tensor(const File& file, const SafetensorsHeader::Entry& e) {
  if (e.dtype == "F16") return converted<uint16_t, float>(file, e, half_to_float);
  if (e.dtype == "I32") return converted<int32_t, int64_t>(file, e, [](int32_t v) { return int64_t{v}; });
  const DType type = e.dtype == "F32"    ? DType::f32
                     : e.dtype == "F64"  ? DType::f64
                     : e.dtype == "BF16" ? DType::bf16
                     : e.dtype == "I64"  ? DType::i64
                                         : DType::u8;
  return file.tensor(e.begin, e.shape, type);
}

const char* file_type(DType type) {
  constexpr const char* names[] = {"F32", "F64", "BF16", "I64", "U8"};
  return names[static_cast<int>(type)];
}

std::string header_json(const NamedTensors& content, const std::vector<size_t>& order) {
  std::string json = "{", comma;
  if (!content.metadata.empty()) {
    json += "\"__metadata__\":{";
    for (auto& [key, value] : content.metadata) json += comma + quoted(key) + ":" + quoted(value), comma = ",";
    json += "}";
  }
  size_t at = 0;
  for (const size_t i : order) {
    auto& [name, t] = content.tensors[i];
    json += text(comma, quoted(name), ":{\"dtype\":\"", file_type(t.dtype()), "\",\"shape\":", t.shape(),
                 ",\"data_offsets\":[", at, ",", at + t.bytes(), "]}");
    comma = ",";
    at += t.bytes();
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');  // tensors begin at a multiple of 8
  return json;
}

}  // namespace

NamedTensors read_safetensors(const std::string& path, const std::string& skip) {
  File file(path);
  SafetensorsHeader header = file.header();
  NamedTensors content;
  content.metadata = std::move(header.metadata);
  for (auto& e : header.entries)
    if (!matches(skip, e.name)) content.add(e.name, read_tensor(file, e));
  return content;
}

void read_once(const Tensor& t, size_t begin, size_t bytes, void* to) {
  const auto& storage = *t.storage();
  const char* from = static_cast<const char*>(t.raw()) + begin;
#ifdef MAP_PRIVATE
  const auto* mapping = std::get_deleter<Unmap>(storage.owner);
  if (mapping && storage.version == 0) {  // the file has what was read, not what was changed since
    const auto at = from - static_cast<const char*>(storage.data);
    if (pread(mapping->file, to, bytes, at) == static_cast<ssize_t>(bytes)) return;
  }
#endif
  std::memcpy(to, from, bytes);
}

void write_safetensors(const std::string& path, const NamedTensors& content) {
  // Wide elements first, so that every tensor is aligned to its elements.
  std::vector<size_t> order(content.tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto width = [&](size_t i) { return size_of(content.tensors[i].second.dtype()); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return width(a) > width(b); });
  size_t total = 0;
  for (auto& [name, t] : content.tensors) {
    check(bool(t), path, ": tensor \"", name, "\" is undefined");
    total += t.bytes();
  }
  const std::string json = header_json(content, order);
  const uint64_t length = json.size();
  check(length <= kMaxHeader, path, ": the header would have ", length, " bytes, over the limit of ", kMaxHeader);
  parse_safetensors_header(json, total, path);  // what cannot be read is never written: names in UTF-8, none twice
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(json.data(), json.size());
  for (const size_t i : order) {
    const Tensor t = content.tensors[i].second.to(Device::cpu);
    file.write(t.raw(), t.bytes());
  }
  file.commit();
}

}  // namespace fovea
