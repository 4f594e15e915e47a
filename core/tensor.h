// Tensor: a handle to pooled storage + shape + element type + device + an optional record on the tape.
#pragma once
#include <functional>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace fovea {

struct Node;  // core/autograd.h
class Tensor;
void check_defined(const char* what, const Tensor& x);  // throws where it is undefined, as grad() often is

// A block of memory that several tensors may share. `version` counts in-place changes. move() changes where it is.
struct Storage {
  Storage(size_t bytes, Device device) : data(allocate(bytes, device)), bytes(bytes), device(device) {}
  // Memory of somebody else on the CPU, whom `owner` keeps alive.
  Storage(void* data, size_t bytes, std::shared_ptr<void> owner)
      : data(data), bytes(bytes), device(Device::cpu), owner(std::move(owner)) {}
  ~Storage() {
    if (!owner) release(data, device);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void move(Device to);
  void* data;
  size_t bytes;
  Device device;
  uint64_t version = 0;
  std::shared_ptr<void> owner;  // null: the pool
};

// What the tape knows of a tensor: shared by the handles that were copied since there is one.
struct Record {
  bool requires_grad = false;
  std::shared_ptr<Node> node;                     // the op that made it; null for a leaf
  int slot = 0;                                   // which output of that op
  std::unique_ptr<Tensor> grad;                   // of a leaf, after backward()
  std::list<std::function<void(Tensor&)>> hooks;  // see the finished gradient, and may change it
};

// Dense and row-major, always. Copying a Tensor copies the handle, not the elements.
class Tensor {
 public:
  Tensor() = default;                                                                 // undefined: no storage
  Tensor(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);  // not initialised
  Tensor(const Tensor&) = default;
  Tensor& operator=(const Tensor&) = default;
  Tensor(Tensor&& o) noexcept { *this = std::move(o); }  // o is undefined afterwards, as a new one: no shape either
  Tensor& operator=(Tensor&& o) noexcept {
    storage_ = std::move(o.storage_), record_ = std::move(o.record_), offset_ = std::exchange(o.offset_, 0);
    shape_ = std::exchange(o.shape_, {}), dtype_ = std::exchange(o.dtype_, DType::f32);
    return *this;
  }
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::cpu);
  Tensor(std::shared_ptr<Storage> storage, size_t offset, const Shape& shape, DType dtype)  // from byte `offset` on
      : storage_(std::move(storage)), offset_(offset), shape_(shape), dtype_(dtype) {}
  // Copies the values in row-major order. Throws if their number is not the shape's.
  template <class T> static Tensor from(const Shape& shape, const std::vector<T>& values);
  static Tensor pinned(const Shape& shape, DType dtype = DType::f32);  // not initialised; on the host, for send()

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_.at(axis); }  // checked; -1 is the last
  int64_t size() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device : Device::cpu; }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype_); }

  template <class T> T* data() const {  // throws if T is not the element type; of a device only its loops may follow it
    check(dtype_of<T> == dtype_, "tensor of ", name_of(dtype_), " read as ", name_of(dtype_of<T>),
          "\n  hint: convert it with to(DType::", name_of(dtype_of<T>), ")");
    return static_cast<T*>(raw());
  }
  void* raw() const { return storage_ ? static_cast<char*>(storage_->data) + offset_ : nullptr; }
  // On a device these two, values() and to(Device::cpu) wait until all work is done: not for the inside of a step.
  double item() const;         // the only element, of any type. Throws if there is not exactly one
  double at(int64_t i) const;  // element i in row-major order, of any type
  template <class T> std::vector<T> values() const {
    check_defined("values", *this);
    const Tensor here = to(Device::cpu);
    return {here.data<T>(), here.data<T>() + size()};
  }

  // Views: share the storage and drop the record (the ops reshape() and slice() of ops/shape.h keep it).
  Tensor view(const Shape& shape) const;          // same number of elements; one -1 is not accepted
  Tensor rows(int64_t begin, int64_t end) const;  // [begin, end) of the leading axis
  Tensor detach() const;
  Tensor clone() const;            // copies the elements, drops the record
  Tensor to(DType dtype) const;    // converts the elements, drops the record; an integer out of range may become any
  Tensor to(Device device) const;  // copies them there, drops the record; the same storage where it is there already

  // Of a pinned tensor: a copy on the device by the copy stream, while the device computes. May be let go of at once.
  // The copy is to be used, and let go of, only after runtime().wait(Stream::compute, Stream::copy).
  Tensor send() const;

  // In-place changes of the elements; each raises the version, so that backward() notices where an op had saved
  // them. (An op's result changes alone: the gradient is that of what it was.)
  void fill(double value);
  void copy_from(const Tensor& source);  // same shape; converts the element type, between devices too
  void move_to(Device device);           // all tensors of the storage with it: a network's weights
  void touch() { storage_->version++; }  // for code that writes through data()
  uint64_t version() const { return storage_ ? storage_->version : 0; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  bool sole_owner() const { return storage_.use_count() == 1; }  // no other tensor sees a change of the elements
  bool shares_storage(const Tensor& o) const { return storage_ && storage_ == o.storage_; }

  // The tape.
  bool requires_grad() const { return record_ && record_->requires_grad; }
  Tensor& set_requires_grad(bool on = true);  // of a leaf
  Tensor grad() const { return record_ && record_->grad ? *record_->grad : Tensor(); }
  void set_grad(const Tensor& grad);  // replaces what backward() left; undefined clears it
  // Runs when this tensor's gradient is complete; one that a hook adds, from the next gradient on.
  void add_hook(std::function<void(Tensor&)> hook);
  const std::shared_ptr<Record>& record() const { return record_; }
  void set_record(std::shared_ptr<Record> record) { record_ = std::move(record); }

 private:
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::f32;
  std::shared_ptr<Record> record_;
};

void check_float(const char* op, const Tensor& x);  // throws where it is undefined, and of integers
// How to get from these types to one that an op takes: the end of a message, or "".
const char* type_hint(DType a, DType b);
inline const char* type_hint(const Tensor& a, const Tensor& b) { return a && b ? type_hint(a.dtype(), b.dtype()) : ""; }
inline Tensor empty_like(const Tensor& x) { return Tensor(x.shape(), x.dtype(), x.device()); }
inline Tensor zeros_like(const Tensor& x) { return Tensor::zeros(x.shape(), x.dtype(), x.device()); }

template <class T> Tensor Tensor::from(const Shape& shape, const std::vector<T>& values) {
  check(shape.numel() == static_cast<int64_t>(values.size()), "tensor: ", values.size(), " values for shape ", shape);
  Tensor t(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace fovea
