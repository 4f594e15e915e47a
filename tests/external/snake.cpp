// A new op in one file: Snake (Ziyin et al. 2020), its gradient, the check of that gradient, and a fit with it.
#include <cmath>
#include <cstdio>
#include <numbers>

#include "core/autograd.h"
#include "nn/layers.h"
#include "nn/optim.h"
#include "ops/gradcheck.h"
#include "ops/map.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"

using namespace fovea;

namespace {

struct Snake {  // y = x + sin^2(a x) / a;  dy/dx = 1 + sin(2 a x), since d sin^2(u)/du = sin(2u)
  static constexpr auto name = "snake";
  static constexpr auto keep = Keep::x;
  float a;
  template <class T> HD T f(T x) const {
    const T s = std::sin(T(a) * x);
    return x + s * s / T(a);
  }
  template <class T> HD T df(T x, T /*y*/) const { return 1 + std::sin(2 * T(a) * x); }
};
Tensor snake(const Tensor& x, float a) { return apply(Unary<Snake>{{a}}, x); }

class Net : public Layer<Net> {
 public:
  Net() : Layer(/*seed=*/7) {}
  Tensor forward(const Tensor& x) { return out(snake(in(x), 1.5f)); }

 private:
  Linear in{*this, "in", {.in = 1, .out = 16}}, out{*this, "out", {.in = 16, .out = 1}};
};

double fit() {  // of sin(2x) on [-pi, pi]: the mean squared error at the end
  std::vector<float> xs, ys;
  for (int i = 0; i < 64; ++i) {
    xs.push_back(float((i / 31.5 - 1) * std::numbers::pi));
    ys.push_back(std::sin(2 * xs.back()));
  }
  const Tensor x = Tensor::from<float>({64, 1}, xs), y = Tensor::from<float>({64, 1}, ys);
  Net net;
  AdamW optimizer(decay_groups(net, 0));
  double error = 0;
  for (int step = 0; step < 600; ++step) {
    optimizer.zero_grad();
    const Tensor difference = net(x) - y, loss = mean(difference * difference);
    backward(loss);
    optimizer.step(0.02);
    error = loss.item();
    if (step % 100 == 0) std::printf("step %3d  mean squared error %.4f\n", step, error);
  }
  return error;
}

}  // namespace

int main() {
  const OpCase row{"snake", [](Draw& draw) {
                     const Tensor x = draw.normal({draw.size(1, 4), draw.size(1, 9)});
                     return OpSample{{x}, [](const std::vector<Tensor>& in) { return snake(in[0], 1.5f); }};
                   }};
  const CheckResult result = gradcheck(row);
  std::printf("gradcheck of %s: worst relative error %.1e\n", result.op.c_str(), result.worst);
  const double error = fit();
  std::printf("after the fit: %.4f\n", error);
  return result.ok() && error < 0.02 ? 0 : 1;
}
