// The layers: parameters with torchvision's names and torch's default initial values, around the ops. Their tensors are
// handles to what is trained and saved: change them in place (copy_from(), nn/init.h) instead of assigning others.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"
#include "ops/conv.h"

namespace fovea {

// y = x w + b: x [..,in] -> [..,out]. Initial values: U(-1/sqrt(in), 1/sqrt(in)) for both.
class Linear : public Layer<Linear> {
 public:
  struct Options {
    int64_t in = 0, out = 0;
    bool bias = true;
  };
  Linear(Module& parent, std::string name, const Options& options);
  Tensor forward(const Tensor& x);
  const Options options;
  Tensor weight, bias;  // [in,out] [out]
};

// x [N,H,W,in] -> [N,H',W',out]. Initial values: U(-k, k) with k = 1/sqrt(in/groups kh kw), for both.
class Conv2d : public Layer<Conv2d> {
 public:
  struct Options {
    int64_t in = 0, out = 0;
    Int2 kernel = 1, stride = 1, pad = 0, dilation = 1;
    int groups = 1;
    bool bias = true;
    bool relu = false;  // y = max(0, conv + bias), in one pass
  };
  Conv2d(Module& parent, std::string name, const Options& options);
  Tensor forward(const Tensor& x);
  std::vector<Tensor> forward(const std::vector<Tensor>& maps);  // the levels of a pyramid: the same weights on each
  struct After {                                                 // see conv2d_norm: each tensor may be undefined
    Tensor scale, shift, residual;
    bool relu = false;
  };
  // In one pass; shift: instead of the bias. Throws where the layer has a relu of its own: its place is not clear.
  Tensor forward(const Tensor& x, After after);
  void round_weight();  // to bf16, for inference of maps of bf16: half as much to keep and to read, no gradient
  const Options options;
  Tensor weight, bias;  // [kh,kw,in/groups,out] [out]
};

// x [N,H,W,in] -> [N,H',W',out], H' = (H - 1) stride - 2 pad + dilation (kh - 1) + output_pad + 1.
class ConvTranspose2d : public Layer<ConvTranspose2d> {
 public:
  struct Options {
    int64_t in = 0, out = 0;
    Int2 kernel = 1, stride = 1, pad = 0, output_pad = 0, dilation = 1;
    int groups = 1;
    bool bias = true;
  };
  ConvTranspose2d(Module& parent, std::string name, const Options& options);
  Tensor forward(const Tensor& x);
  const Options options;
  Tensor weight, bias;  // [kh,kw,out/groups,in] [out]
};

// none: the identity. batch: statistics of the batch while training, running ones otherwise. fixed: the same, with
// running ones always. frozen: running ones and an affine map, all of them buffers: never trained. group: statistics of
// each image and group of channels.
enum class NormKind { none, batch, fixed, frozen, group };
NormKind norm_kind(const std::string& name);  // throws Error{Code::usage} for another word

// A norm chosen at run time: x [N,..,C], same shape out.
// Names: weight, bias; batch, fixed and frozen: running_mean, running_var; batch and fixed: num_batches_tracked, as in
// torchvision's files.
class Norm : public Layer<Norm> {
 public:
  struct Options {
    NormKind kind = NormKind::batch;
    int64_t channels = 0;
    int groups = 32;  // of kind group; must divide channels
    double eps = 1e-5;
    double momentum = 0.1;  // of the running statistics: r += momentum (batch - r)
    bool relu = false;      // y = max(0, norm), in one pass where the op can
  };
  Norm(Module& parent, std::string name, const Options& options);
  Tensor forward(const Tensor& x) { return forward(x, options.relu); }
  Tensor forward(const Tensor& x, bool relu);
  // scale and shift [C] of y = scale x + shift, where statistics are constants and nothing here wants a gradient;
  // otherwise undefined.
  std::pair<Tensor, Tensor> affine() const;
  const Options options;
  Tensor weight, bias, running_mean, running_var, num_batches_tracked;  // undefined where the kind has none
};

struct Relu : Layer<Relu> {  // without parameters, but torchvision's networks have it too: it shows in tables
  using Layer::Layer;
  Tensor forward(const Tensor& x);
};

// relu(norm(conv(x)) + residual) in as few passes as it takes, one if the norm has an affine(); without residual or
// relu where they are not given. While a CallObserver lives, module by module.
Tensor conv_norm(Conv2d& conv, Norm& norm, const Tensor& x, Relu* relu = nullptr, Tensor residual = {});

// No network here has a LayerNorm, a Dropout, an Embedding or a ConvTranspose2d: they are for other networks.

// Over the last axis: x [..,features].
class LayerNorm : public Layer<LayerNorm> {
 public:
  LayerNorm(Module& parent, std::string name, int64_t features, double eps = 1e-5);
  Tensor forward(const Tensor& x);
  Tensor weight, bias;

 private:
  const double eps_;
};

// While training, zeroes elements with probability p; the mask is a function of the module's seed and path and of
// `step`, which the training loop sets (a resumed run then draws the same masks) and each call of a step moves on from.
class Dropout : public Layer<Dropout> {
 public:
  Dropout(Module& parent, std::string name, double p);
  Tensor forward(const Tensor& x);
  static void set_step(int64_t step);  // of this thread

 private:
  const double p_;
  int64_t step_ = -1, call_ = 0;
};

// Rows of a table by index: ids i64 [..] -> [..,features]. Initial values N(0, 1).
class Embedding : public Layer<Embedding> {
 public:
  struct Options {
    int64_t count = 0, features = 0;
  };
  Embedding(Module& parent, std::string name, const Options& options);
  Tensor forward(const Tensor& ids);
  Tensor weight;  // [count,features]
};

// Parts run one after another, named "0", "1", ... by position. A plain function takes a position too, as torch's ReLU
// does:
//   Sequential conv{*this, "conv"};  conv.add<Conv2d>({.in = 3, .out = 8});  conv.add(relu);
class Sequential : public Layer<Sequential> {
 public:
  using Function = std::function<Tensor(Tensor)>;
  Sequential(Module& parent, std::string name) : Layer(parent, std::move(name)) {}
  template <class M, class... A> M& add_module(const A&... arguments) {  // M(*this, "position", arguments...)
    auto made = std::make_unique<M>(*this, std::to_string(steps_.size()), arguments...);
    M& module = *made;
    owned_.push_back(std::move(made));
    steps_.push_back([&module](Tensor x) { return module(std::move(x)); });
    return module;
  }
  template <class M> M& add(const typename M::Options& options) { return add_module<M>(options); }
  void add(Function function) { steps_.push_back(std::move(function)); }
  Tensor forward(Tensor x);  // each step is the only one to hold what the one before has made

 private:
  std::vector<std::unique_ptr<Module>> owned_;
  std::vector<Function> steps_;
};

}  // namespace fovea
