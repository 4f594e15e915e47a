// Tensor: creation, views, copies and element conversion.
#include "core/tensor.h"

#include <algorithm>
#include <cstring>

#include "core/autograd.h"
#include "core/threads.h"

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

double Tensor::at(int64_t i) const {
  check(storage_ && i >= 0 && i < size(), "tensor: element ", i, " of a tensor of shape ", shape_);
  return dispatch_any(dtype_, [&]<class T>() { return static_cast<double>(data<T>()[i]); });
}
double Tensor::item() const {
  check(size() == 1 && storage_, "item: needs exactly one element, the tensor has shape ", shape_);
  return at(0);
}

Tensor Tensor::view(const Shape& shape) const {
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

void Tensor::fill(double value) {
  check(bool(*this), "fill: the tensor is undefined");
  dispatch_any(dtype_, [&]<class T>() {
    T* p = data<T>();
    const T v = static_cast<T>(value);
    parallel_for(size(), kCopyGrain, [&](int64_t b, int64_t e) { std::fill(p + b, p + e, v); });
  });
  touch();
}

template <class To, class From> static void convert(To* to, const From* from, int64_t n) {
  parallel_for(n, kCopyGrain, [&](int64_t b, int64_t e) {
    if constexpr (std::is_same_v<To, From>) std::memcpy(to + b, from + b, static_cast<size_t>(e - b) * sizeof(To));
    else
      for (int64_t i = b; i < e; ++i) to[i] = static_cast<To>(static_cast<compute_t<From>>(from[i]));
  });
}

void Tensor::copy_from(const Tensor& source) {
  check(*this && source, "copy_from: a tensor is undefined");
  check(shape_ == source.shape(), "copy_from: shapes differ: ", shape_, " and ", source.shape());
  dispatch_any(dtype_, [&]<class To>() {
    dispatch_any(source.dtype(), [&]<class From>() { convert(data<To>(), source.data<From>(), size()); });
  });
  touch();
}

Tensor& Tensor::set_requires_grad(bool on) {
  check(!record_ || !record_->node, "set_requires_grad: the tensor is the result of an op; detach() it first");
  check(!on || dtype_ == DType::f32 || dtype_ == DType::f64 || dtype_ == DType::bf16,
        "set_requires_grad: only floating-point tensors have gradients, this one is ", name_of(dtype_));
  if (!record_) record_ = std::make_shared<Record>();
  record_->requires_grad = on;
  return *this;
}
void Tensor::set_grad(const Tensor& grad) {
  check(bool(record_), "set_grad: the tensor does not require a gradient");
  check(!grad || grad.shape() == shape_, "set_grad: gradient ", grad.shape(), " for a tensor of shape ", shape_);
  record_->grad = grad ? std::make_unique<Tensor>(grad.detach()) : nullptr;
}
void Tensor::add_hook(std::function<void(Tensor&)> hook) {
  check(requires_grad(), "add_hook: the tensor does not require a gradient");
  record_->hooks.push_back(std::move(hook));
}

}  // namespace fovea
