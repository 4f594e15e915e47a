// The tape: sums, hooks, graphs that run twice, changes in place, long chains, falling memory; and the profiler.
#include "core/autograd.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/scope.h"
#include "ops/embedding.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "tests/files.h"
#include "tests/spoken.h"

using namespace fovea;
using namespace fovea::test;

static Tensor leaf(const std::vector<float>& v) {
  Tensor t = Tensor::from<float>({int64_t(v.size())}, v);
  return t.set_requires_grad();
}

TEST_CASE("a tensor that is used twice gets both gradients") {
  Tensor x = leaf({3, -2});
  backward(sum(x * x + x));  // 2x + 1
  CHECK(x.grad().values<float>() == std::vector<float>{7, -3});
  backward(sum(x + x));  // adds to what is there
  CHECK(x.grad().values<float>() == std::vector<float>{9, -1});
  x.set_grad({});
  CHECK(!x.grad());
}

TEST_CASE("add returns one tensor for both inputs, and no sum spoils the other") {
  Tensor x = leaf({1, 2}), y = leaf({5, 6});
  const Tensor s = x + y;           // both get the same dy tensor
  backward(sum(s + x * 10.0 + y));  // x: 1 + 10, y: 1 + 1
  CHECK(x.grad().values<float>() == std::vector<float>{11, 11});
  CHECK(y.grad().values<float>() == std::vector<float>{2, 2});
  CHECK(!x.grad().shares_storage(y.grad()));
  Tensor seed = Tensor::from<float>({2}, {1, 1}), z = leaf({0, 0});
  const Tensor twice = z + z;
  backward(twice, seed);
  CHECK(seed.values<float>() == std::vector<float>{1, 1});
  CHECK(z.grad().values<float>() == std::vector<float>{2, 2});
  Tensor a = leaf({1, 2}), b = leaf({3, 4});
  backward(a + b, seed);
  CHECK((!a.grad().shares_storage(b.grad()) && !a.grad().shares_storage(seed)));
}

TEST_CASE("NoGrad and detach cut the graph") {
  Tensor x = leaf({2});
  {
    NoGrad quiet;
    CHECK(!(x * x).requires_grad());
  }
  CHECK((x * x).requires_grad());
  backward(sum(x.detach() * x));
  CHECK(x.grad().item() == 2);
  CHECK_THROWS_AS(backward(x.detach()), Error);
  CHECK_THROWS_AS(backward(leaf({1, 2}) * 2.0), Error);  // not one element, and no seed
  CHECK_THROWS_AS((x * x).set_requires_grad(false), Error);
}

TEST_CASE("what left the tape has no gradient, and the error says what leaves it") {
  const Tensor x = Tensor::full({2}, 3, DType::f64).set_requires_grad();
  for (auto& y : {x.view({2, 1}), x.to(DType::f32), x.clone()})
    CHECK(message_of([&] { backward(y, y); }).find("hint: set_requires_grad() on a leaf") != std::string::npos);
  backward(sum(cast(reshape(x, {2, 1}), DType::f32)));
  CHECK(x.grad().at(1) == 1);
}

TEST_CASE("hooks see complete gradients, in a fixed order, and may replace them") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  std::vector<std::string> order;
  Tensor y = x * w;
  y.add_hook([&](Tensor& g) { order.push_back("y"), g = g * 2.0; });
  x.add_hook([&](Tensor& g) { order.push_back(g.at(0) == 12 ? "x" : "?"); });  // (1 + 1) * 2 * 3
  w.add_hook([&](Tensor& g) { order.push_back("w"), g = zeros_like(g); });
  backward(sum(y + y));
  CHECK(order == std::vector<std::string>{"y", "x", "w"});
  CHECK(w.grad().at(1) == 0);
  x.add_hook([](Tensor& g) { g = reshape(g, {2, 1}); });
  CHECK_THROWS_AS(backward(sum(x * 1.0)), Error);
}

TEST_CASE("a hook that leaves another element type is refused, and named") {
  Tensor x = leaf({1, 2}), z = leaf({1, 2}), y = z * 2.0;  // of a leaf, and of a result
  x.add_hook([](Tensor& g) { g = g.to(DType::f64); });
  y.add_hook([](Tensor& g) { g = g.to(DType::bf16); });
  const std::string of_leaf = message_of([&] { backward(sum(x * 1.0)); });
  CHECK(of_leaf == "hook: the gradient was f32 on cpu, the hook left f64 on cpu");
  CHECK(!x.grad());
  CHECK(message_of([&] { backward(sum(y)); }) == "hook: the gradient was f32 on cpu, the hook left bf16 on cpu");
}

TEST_CASE("a hook may add hooks, which see the next gradient") {
  Tensor x = leaf({1});
  std::string seen;
  x.add_hook([&](Tensor&) {
    seen += "a";
    for (int i = 0; i < 8; ++i) x.add_hook([&](Tensor&) { seen += "c"; });
  });
  x.add_hook([&](Tensor&) { seen += "b"; });
  backward(sum(x * 1.0));
  CHECK(seen == "ab");
  backward(sum(x * 1.0));
  CHECK(seen == "ababcccccccc");
}

TEST_CASE("a hook that changes a gradient in place changes no other one") {
  Tensor a = leaf({1, 2}), b = leaf({3, 4});
  const Tensor seed = Tensor::from<float>({2}, {5, 6});
  Tensor y = a + b, kept;  // one tensor goes to both
  y.add_hook([](Tensor& g) { g.fill(7); });
  a.add_hook([&](Tensor& g) { kept = g; });
  a.add_hook([](Tensor& g) { g.fill(0); });
  backward(y, seed);
  CHECK(a.grad().at(1) == 0);
  CHECK(b.grad().at(1) == 7);
  CHECK(kept.at(1) == 7);
  CHECK(seed.at(1) == 6);
}

TEST_CASE("a graph runs once, unless it is retained; the error says what to do") {
  Tensor x = leaf({2});
  const Tensor y = sum(x * x);
  backward(y, {}, {.retain_graph = true});
  backward(y);
  CHECK(x.grad().item() == 8);
  const std::string m = message_of([&] { backward(y); });
  CHECK(m.find("sum") != std::string::npos);
  CHECK(m.find("retain_graph") != std::string::npos);
  const Scope head("head");
  const Tensor z = sum(x * x);
  backward(z);
  CHECK(message_of([&] { backward(z); }).find("had saved\n  at head\n  hint") != std::string::npos);
}

TEST_CASE("changing in place what a gradient needs is an error; changing what none needs is not") {
  Tensor x = leaf({2, 3}), w = leaf({1, 1});
  Tensor a = x * 1.0;
  const Tensor y = sum(a * w);
  a.fill(9);
  const std::string m = message_of([&] { backward(y); });
  CHECK(m.find("changed in place") != std::string::npos);
  Tensor b = x * 1.0;
  const Tensor z = sum(b + w);  // add keeps nothing
  b.fill(9);
  backward(z);
  CHECK(w.grad().at(0) == 1);
}

TEST_CASE("an index that is changed in place is noticed too") {
  for (const int op : {0, 1, 2}) {
    Tensor x = Tensor::full({2, 3}, 1).set_requires_grad();
    Tensor index = Tensor::from<int64_t>({2}, {0, 1});
    const Tensor y = op == 0 ? gather(x, index, 1) : op == 1 ? pick(x, index) : embedding(x, index);
    index.fill(1'000'000);
    CHECK(message_of([&] { backward(sum(y)); }).find("changed in place") != std::string::npos);
  }
}

TEST_CASE("seeds and gradients have the type of their tensor") {
  Tensor x = Tensor::full({2, 3}, 1).set_requires_grad();
  const Tensor y = sum(x), seed = Tensor::full({}, 1, x.dtype() == DType::f64 ? DType::f32 : DType::f64);
  CHECK(message_of([&] { backward(y, seed); }).find("the seed is") != std::string::npos);
  CHECK(message_of([&] { x.set_grad(Tensor::zeros({2, 3}, seed.dtype())); }).find("set_grad") != std::string::npos);
}

TEST_CASE("seeds, gradients and sums have the shape of their tensor, and hooks need a gradient") {
  Tensor x = leaf({1, 2}), plain = Tensor::zeros({2});
  CHECK(message_of([&] { backward(x * 1.0, Tensor::zeros({3})); }) == "backward: the seed has shape [3], the loss [2]");
  CHECK(message_of([&] { x.set_grad(Tensor::zeros({3})); }) == "set_grad: gradient [3] for a tensor of shape [2]");
  CHECK(message_of([&] { plain.set_grad(plain); }).find("does not require a gradient") != std::string::npos);
  CHECK(message_of([&] { plain.add_hook([](Tensor&) {}); }).find("does not require a gradient") != std::string::npos);
  const uint64_t before = plain.version();
  add_into(plain, Tensor::full({2}, 3));
  CHECK(plain.values<float>() == std::vector<float>{3, 3});
  CHECK(plain.version() > before);
  for (const Tensor& other : {Tensor::zeros({3}), Tensor::zeros({2}, DType::f64)})
    CHECK(message_of([&] { add_into(plain, other); }).find("add_into: f32 [2] += ") == 0);
}

TEST_CASE("a chain of 100,000 ops runs backward and is destroyed without recursion") {
  Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 100'000; ++i) y = y + 1.0;
  backward(y);
  CHECK(x.grad().item() == 1);
  y = x;
  for (int i = 0; i < 100'000; ++i) y = y + x;
  backward(y, {}, {.retain_graph = true});
  CHECK(x.grad().item() == 100'002);
  y = Tensor();  // a graph that is dropped whole
}

TEST_CASE("memory falls while backward runs") {
  Tensor x = Tensor::full({1 << 18}, 0.5).set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 16; ++i) y = sigmoid(y);  // each keeps its output
  size_t first = 0, last = 0;
  Tensor early = x * 1.0;
  early.add_hook([&](Tensor&) { last = memory_stats().current; });
  Tensor z = early;
  for (int i = 0; i < 16; ++i) z = sigmoid(z);
  y = Tensor();
  Tensor loss = sum(z);
  z.add_hook([&](Tensor&) { first = memory_stats().current; });
  z = Tensor(), early = Tensor();
  backward(loss);
  CHECK(last + 12 * (size_t{1} << 20) < first);  // 16 MiB of outputs are gone before the end
}

namespace {

struct Halves {  // two outputs: x's halves
  static constexpr auto name = "halves";
  std::vector<Tensor> forward(const Tensor& x) { return {x.rows(0, 1).clone(), x.rows(1, 2).clone()}; }
  void backward(const std::vector<Tensor>& dy, Grads& g) const {
    g[0] = Tensor::zeros({2});
    for (int i = 0; i < 2; ++i)
      if (dy[i]) g[0].data<float>()[i] = dy[i].data<float>()[0];
  }
};
struct Careless {  // forgets that its input was [2]
  static constexpr auto name = "careless";
  Tensor forward(const Tensor& x) { return x.clone(); }
  void backward(const Tensor&, Grads& g) const { g[0] = Tensor::zeros({3}); }
};
struct Forgetful {  // fills the gradient of an input that it has not
  static constexpr auto name = "forgetful";
  size_t filled;
  Tensor forward(const Tensor& x) { return x.clone(); }
  void backward(const Tensor& dy, Grads& g) const { g[filled] = dy; }
};
struct Widening {  // of another type than its input
  static constexpr auto name = "widening";
  Tensor forward(const Tensor& x) { return x.clone(); }
  void backward(const Tensor& dy, Grads& g) const { g[0] = dy.to(DType::f64); }
};
struct Lazy {
  static constexpr auto name = "lazy";
  Tensor forward(const Tensor& x) { return x.clone(); }
  void backward(const Tensor&, Grads&) const {}
};
struct Values {
  static constexpr auto name = "values";
  Tensor forward(const Tensor& x, const Tensor& none) { return none ? x : x.clone(); }
};

}  // namespace

TEST_CASE("several outputs, ops without a gradient, and wrong gradients") {
  Tensor x = leaf({5, 6});
  auto parts = apply(Halves{}, x);
  backward(parts[1] * 3.0);  // nothing flows into the first
  CHECK(x.grad().values<float>() == std::vector<float>{0, 3});
  CHECK(!apply(Values{}, x, Tensor()).requires_grad());
  Scope scope("head");
  const Tensor y = apply(Careless{}, x);
  const std::string m = message_of([&] { backward(sum(y)); });
  CHECK(m.find("careless: the gradient of input 0 has shape [3], the input has [2]") != std::string::npos);
  CHECK(m.ends_with("\n  at head"));  // once, though backward() was called there too
  const auto says = [](const Tensor& loss, const std::string& part) {
    const std::string message = message_of([&] { backward(loss); });
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  };
  says(apply(Lazy{}, leaf({1})), "lazy: backward() gave input 0 no gradient");
  says(apply(Widening{}, leaf({1})), "widening: the gradient of input 0 is f64, the input is f32");
  says(apply(Forgetful{1}, leaf({1})), "there is no input 1: the op has 1, counted from 0");
}

TEST_CASE("the profiler counts ops, and its trace is JSON that names their modules") {
  Tensor x = leaf({1, 2, 3});
  Profiler::start();
  Tensor loss;
  {
    Scope scope("quo\"te");
    loss = sum(relu(x) * x);
  }
  {
    const Scope elsewhere("elsewhere");
    backward(loss);
  }
  Profiler::stop();
  relu(x);  // not counted
  int64_t calls = 0, bytes = 0;
  std::set<std::string> ops;
  for (auto& s : Profiler::by_op()) {
    if (s.op == "relu") calls += s.calls, bytes += s.bytes;
    CHECK(s.ms >= 0);
    ops.insert(s.op);
  }
  CHECK(calls == 1);
  CHECK(bytes == 12);
  for (const char* op : {"relu", "mul", "sum", "relu.backward", "mul.backward", "sum.backward"}) CHECK(ops.count(op));
  CHECK(Profiler::table().find("mul.backward") != std::string::npos);
  const std::string trace = Profiler::chrome_trace();
  const auto spoken = [] {
    const Spoken german;
    return Profiler::chrome_trace();
  }();
  CHECK(spoken == trace);
  CHECK(nlohmann::json::accept(trace));
  const auto events = nlohmann::json::parse(trace)["traceEvents"];
  REQUIRE(events.size() >= 6);
  for (auto& event : events) CHECK(event["args"]["module"] == "quo\"te");
  for (size_t i = 1; i < events.size(); ++i) {  // each begins after the end of the one before, to the ns
    const double begin = events[i - 1]["ts"], us = events[i - 1]["dur"], next = events[i]["ts"];
    CHECK(begin + us < next + 0.002);
  }
  const auto list = Profiler::by_op();
  for (size_t i = 1; i < list.size(); ++i) CHECK(list[i - 1].ms >= list[i].ms);
  const std::string two = Profiler::table(2);
  CHECK(std::count(two.begin(), two.end(), '\n') == 3);
  const auto modules = Profiler::by_module();
  REQUIRE(modules.size() == 1);
  CHECK(modules[0].op == "quo\"te");
  CHECK(modules[0].calls == int64_t(events.size()));
  Profiler::start(), Profiler::stop();
  CHECK(nlohmann::json::accept(Profiler::chrome_trace()));
  CHECK(Profiler::by_op().empty());
}

TEST_CASE("the profiler sums by the first names of modules, gradients included") {
  Tensor x = leaf({1, 2, 3}), y = relu(x);
  Profiler::start();
  for (const char* path : {"a.b.c", "a.b", "a.bb", "a"}) {
    Scope scope(path);
    y = y * x;
  }
  relu(x);
  backward(sum(y));
  Profiler::stop();
  const auto calls = [](int depth) {
    std::map<std::string, int64_t> calls;
    for (auto& s : Profiler::by_module(depth)) calls[s.op] = s.calls;
    return calls;
  };
  auto one = calls(1), two = calls(2);
  CHECK((one.size() == 2 && one["a"] == 8));
  CHECK((two.size() == 4 && two["a.b"] == 4 && two["a.bb"] == 2 && two["a"] == 2 && two["(no module)"] > 2));
  CHECK(Profiler::module_table().find("\na.bb ") != std::string::npos);
}
