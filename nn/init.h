// Initialisers: fill a tensor in place with numbers that are a pure function of (seed, stream, index).
#pragma once
#include "core/random.h"
#include "core/tensor.h"

namespace fovea {

// Inputs and outputs that a weight connects, receptive field included: [kh,kw,in,out] or [in,out]; torch's count, which
// does not divide by the groups. Throws for a tensor of rank below 2.
struct Fan {
  explicit Fan(const Shape& weight);
  double in, out;
};

// While one lives, this thread's random initialisers leave the numbers as they are: for a network that takes all its
// weights from a file at once.
class Uninitialised {
 public:
  Uninitialised();
  ~Uninitialised();
  Uninitialised(const Uninitialised&) = delete;
  Uninitialised& operator=(const Uninitialised&) = delete;

 private:
  bool outer_;
};

// f32 or f64 (the same draws, rounded); all but constant_ on the processor alone. `random` comes from
// Module::random(name), or is Philox{seed, stream}.
void constant_(Tensor w, double value);
void uniform_(Tensor w, Philox random, double low, double high);
void normal_(Tensor w, Philox random, double mean = 0, double deviation = 1);
// He et al. 2015: N(0, 2 / fan). ResNet's convolutions use the outputs.
void kaiming_normal_(Tensor w, Philox random, bool fan_out = true);
// U(-b, b), b = sqrt(6 / ((1 + a^2) fan_in)): torch's default for weights is a = sqrt(5), torchvision's FPN has a = 1.
void kaiming_uniform_(Tensor w, Philox random, double a);
// Glorot & Bengio 2010: U(-b, b), b = sqrt(6 / (in + out)).
void xavier_uniform_(Tensor w, Philox random);

}  // namespace fovea
