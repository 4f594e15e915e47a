// Tensor: creation, views, copies and element conversion.
#include "core/tensor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/autograd.h"
#include "core/loops.h"

namespace fovea {

static constexpr int64_t kCopyGrain = 1 << 16;  // elements a chunk

Tensor::Tensor(const Shape& shape, DType dtype, Device device)
    : storage_(std::make_shared<Storage>(static_cast<size_t>(shape.numel()) * size_of(dtype), device)),
      shape_(shape),
      dtype_(dtype) {}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }
Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill(value);
  return t;
}

Tensor Tensor::pinned(const Shape& shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  const std::shared_ptr<void> block = allocate_pinned(bytes);
  return {std::make_shared<Storage>(block.get(), bytes, block), 0, shape, dtype};
}
Tensor Tensor::send() const {
  using Stream = Runtime::Stream;
  Tensor t(shape_, dtype_, Device::cuda);
  runtime().wait(Stream::copy, Stream::compute);  // which may still work on what had this memory before
  runtime().copy(t.raw(), raw(), bytes(), Runtime::Way::to_device, Stream::copy);
  runtime().keep(storage_, Stream::copy);
  return t;
}

void check_defined(const char* what, const Tensor& x) {
  check(bool(x), what, ": the tensor is undefined\n  hint: so is grad() of a leaf before backward() and after ",
        "zero_grad(), of one that requires no gradient, and of every result of an op");
}

double Tensor::at(int64_t i) const {
  check_defined("at", *this);
  check(i >= 0 && i < size(), "tensor: element ", i, " of a tensor of shape ", shape_);
  if (device() == Device::cuda) {
    Tensor one = view({size()}).rows(i, i + 1);
    return one.to(Device::cpu).at(0);
  }
  return dispatch_any(dtype_, [&]<class T>() { return static_cast<double>(data<T>()[i]); });
}
double Tensor::item() const {
  check_defined("item", *this);
  check(size() == 1, "item: needs exactly one element, the tensor has shape ", shape_);
  return at(0);
}

Tensor Tensor::view(const Shape& shape) const {
  check(bool(*this), "view: the tensor is undefined");
  check(shape.numel() == size(), "view: ", shape_, " has ", size(), " elements, ", shape, " has ", shape.numel());
  Tensor t = detach();
  t.shape_ = shape;
  return t;
}
Tensor Tensor::rows(int64_t begin, int64_t end) const {
  check(rank() >= 1 && begin >= 0 && begin <= end && end <= shape_[0], "rows: [", begin, ", ", end, ") of ", shape_);
  Tensor t = detach();
  const int64_t row = shape_.span(1, rank());
  t.shape_ = shape_.with(0, end - begin);
  t.offset_ += static_cast<size_t>(begin * row) * size_of(dtype_);
  return t;
}
Tensor Tensor::detach() const {
  Tensor t = *this;
  t.record_ = nullptr;
  return t;
}
Tensor Tensor::clone() const { return to(dtype_); }
Tensor Tensor::to(DType dtype) const {
  Tensor t(shape_, dtype, device());
  t.copy_from(*this);
  return t;
}
Tensor Tensor::to(Device device) const {
  if (!storage_ || device == this->device()) return detach();
  Tensor t(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}

namespace {

template <class T> struct Fill {
  T* x;
  T value;
  HD void operator()(int64_t i) const { x[i] = value; }
};
template <class To, class From> struct Convert {
  To* to;
  const From* from;
  static constexpr int kWidth = sizeof(To) + sizeof(From) == 6 ? 8 : 1;  // f32 and bf16
  bool aligned() const { return all_aligned(to, from); }
  template <int kFew> HD void operator()(const Few<kFew>& at) const {
    const auto in = at.load(from);
    auto out = at.fresh(to);
    at.each([&](int64_t i) { out[i] = static_cast<To>(static_cast<compute_t<From>>(in[i])); });
    at.store(to, out);
  }
};

// What for_each() does, but for the clones by instruction set: 25 pairs of types are not worth them.
template <class Body> void plain_each(Device device, int64_t n, const Body& body) {
  if (n == 0) return;
  if (device == Device::cuda) return detail::device_each(n, body);
  detail::by_index(false, n, body, [](int64_t count, const auto& one) {
    parallel_for(count, kCopyGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) one(i);
    });
  });
}

// By memory that the device reads on its own, so that nothing waits. What is larger than this are weights, on loading.
constexpr size_t kStaged = size_t{32} << 20;
void send_staged(void* to, const void* from, size_t bytes) {
  const std::shared_ptr<void> stage = allocate_pinned(std::max(size_t{4096}, std::bit_ceil(bytes)));
  std::memcpy(stage.get(), from, bytes);
  runtime().copy(to, stage.get(), bytes, Runtime::Way::to_device, Runtime::Stream::compute);
  runtime().keep(stage, Runtime::Stream::compute);
}

// Waits for the end where the bytes come from a device to the host.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (bytes == 0) return;
  const bool there = to_device == Device::cuda, was_there = from_device == Device::cuda;
  if (!there && !was_there)
    return parallel_for(static_cast<int64_t>(bytes), 8 * kCopyGrain, [&](int64_t b, int64_t e) {
      std::memcpy(static_cast<char*>(to) + b, static_cast<const char*>(from) + b, static_cast<size_t>(e - b));
    });
  if (!was_there && bytes <= kStaged) return send_staged(to, from, bytes);
  const auto way = !was_there ? Runtime::Way::to_device : there ? Runtime::Way::within : Runtime::Way::to_host;
  runtime().copy(to, from, bytes, way, Runtime::Stream::compute);
  if (!there) runtime().synchronize(Runtime::Stream::compute);
}

}  // namespace

void Storage::move(Device to) {
  if (device == to) return;
  Storage other(bytes, to);
  copy_bytes(other.data, to, data, device, bytes);
  std::swap(data, other.data), std::swap(device, other.device), std::swap(owner, other.owner);
  version++;
}
void Tensor::move_to(Device device) {
  if (storage_) storage_->move(device);
}

void Tensor::fill(double value) {
  check(bool(*this), "fill: the tensor is undefined");
  dispatch_any(dtype_, [&]<class T>() { plain_each(device(), size(), Fill<T>{data<T>(), static_cast<T>(value)}); });
  touch();
}

void Tensor::copy_from(const Tensor& source) {
  check(*this && source, "copy_from: a tensor is undefined");
  const auto *to = static_cast<const char*>(raw()), *from = static_cast<const char*>(source.raw());
  check(!shares_storage(source) || from == to || from + source.bytes() <= to || to + bytes() <= from,
        "copy_from: source and target overlap\n  hint: clone() the source");
  check(shape_ == source.shape(), "copy_from: shapes differ: ", shape_, " and ", source.shape());
  touch();
  if (dtype_ == source.dtype()) return copy_bytes(raw(), device(), source.raw(), source.device(), bytes());
  if (device() != source.device()) return copy_from(source.to(dtype_));  // converted where it is
  dispatch_any(dtype_, [&]<class To>() {
    dispatch_any(source.dtype(), [&]<class From>() {
      plain_each(device(), size(), Convert<To, From>{data<To>(), source.data<From>()});
    });
  });
}

void check_float(const char* op, const Tensor& x) {
  check(x && is_float(x.dtype()), op, ": expected a floating-point tensor, got ", x ? name_of(x.dtype()) : "none",
        type_hint(x, x));
}
const char* type_hint(DType a, DType b) {
  if (!is_float(a) || !is_float(b)) return "\n  hint: to(DType::f32) makes numbers of integers, which have no gradient";
  return a == b ? "" : "\n  hint: convert one with cast(), which stays on the tape";
}

Tensor& Tensor::set_requires_grad(bool on) {
  check(!record_ || !record_->node, "set_requires_grad: the tensor is the result of an op; detach() it first");
  check(!on || is_float(dtype_), "set_requires_grad: only floating-point tensors have gradients, this one is ",
        name_of(dtype_));
  if (!record_) record_ = std::make_shared<Record>();
  record_->requires_grad = on;
  return *this;
}
void Tensor::set_grad(const Tensor& grad) {
  check(bool(record_), "set_grad: the tensor does not require a gradient");
  check(!grad || grad.shape() == shape_, "set_grad: gradient ", grad.shape(), " for a tensor of shape ", shape_);
  check(!grad || grad.dtype() == dtype_, "set_grad: the gradient is ", grad ? name_of(grad.dtype()) : "",
        ", the tensor ", name_of(dtype_));
  check(!grad || grad.device() == device(), "set_grad: the gradient is on ", name_of(grad.device()), ", the tensor on ",
        name_of(device()));
  record_->grad = grad ? std::make_unique<Tensor>(grad.detach()) : nullptr;
}
void Tensor::add_hook(std::function<void(Tensor&)> hook) {
  check(requires_grad(), "add_hook: the tensor does not require a gradient");
  record_->hooks.push_back(std::move(hook));
}

}  // namespace fovea
