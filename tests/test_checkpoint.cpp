// Weights in files, checkpoints and their folder; runs that are killed and resumed.
#include "nn/checkpoint.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "core/atomic_file.h"
#include "nn/init.h"
#include "nn/schedule.h"
#include "tests/files.h"
#include "tests/spoken.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

// One tensor of each layout, without the ops.
struct Part : Module {
  Part(Module& parent, const std::string& name, int64_t out, Layout layout, const Shape& shape) : Module(parent, name) {
    Tensor w(shape);
    normal_(w, random("weight"));
    weight = parameter("weight", w, layout);
    bias = parameter("bias", Tensor::zeros({out}));
  }
  Tensor weight, bias;
};
struct Net : Module {
  explicit Net(uint64_t seed = 1, int64_t classes = 3) : Module(seed), classes(classes) {
    count = buffer("num_batches_tracked", Tensor::zeros({}, DType::i64));
  }
  const int64_t classes;
  Part conv{*this, "conv", 4, Layout::conv, {3, 2, 5, 4}};
  Part fc{*this, "fc", 3, Layout::linear, {7, 3}};
  Part up{*this, "up", 4, Layout::conv_transpose, {2, 2, 4, 5}};
  Part cls_logits{*this, "cls_logits", 2 * classes, Layout::conv, {1, 1, 4, 2 * classes}};
  Tensor count;
};
std::vector<std::vector<float>> values(const Module& m) {
  std::vector<std::vector<float>> out;
  for (auto& n : m.state()) out.push_back(n.value.to(DType::f32).values<float>());
  return out;
}
template <class Work> std::string refusal(const Work& work) { return message_of(work, Code::model); }
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("files have OIHW convolutions and [out,in] matrices, and come back unchanged") {
  const Folder folder(memory());
  const Net net;
  const NamedTensors file = weights_of(net);
  const Tensor &conv = file.at("conv.weight"), &fc = file.at("fc.weight"), &up = file.at("up.weight");
  CHECK(conv.shape() == Shape{4, 5, 3, 2});
  CHECK(fc.shape() == Shape{3, 7});
  CHECK(up.shape() == Shape{5, 4, 2, 2});
  for (int h = 0; h < 3; ++h)
    for (int w = 0; w < 2; ++w)
      for (int i = 0; i < 5; ++i)
        for (int o = 0; o < 4; ++o)
          REQUIRE(conv.at(((o * 5 + i) * 3 + h) * 2 + w) == net.conv.weight.at(((h * 2 + w) * 5 + i) * 4 + o));
  for (int i = 0; i < 7; ++i)
    for (int o = 0; o < 3; ++o) REQUIRE(fc.at(o * 7 + i) == net.fc.weight.at(i * 3 + o));
  for (auto& m : net.state()) {
    const Tensor back = from_file_layout(to_file_layout(m.value, m.layout), m.layout);
    CHECK(back.shape() == m.value.shape());
    CHECK(back.to(DType::f64).values<double>() == m.value.to(DType::f64).values<double>());
  }
  CHECK(to_file_layout(Tensor(Shape{3, 3, 0, 4}), Layout::conv).shape() == Shape{4, 0, 3, 3});
  for (const Shape& s :
       {Shape{1, 1, 17, 33}, Shape{5, 4, 31, 16}, Shape{3, 3, 40, 3}, Shape{3, 3, 20, 70}}) {  // more than a tile
    Tensor memory(s);
    for (int64_t i = 0; i < memory.size(); ++i) memory.data<float>()[i] = static_cast<float>(i);
    const Tensor oihw = to_file_layout(memory, Layout::conv);
    const int64_t field = s[0] * s[1];
    bool same = true;
    for (int64_t o = 0; o < s[3]; ++o)
      for (int64_t i = 0; i < s[2]; ++i)
        for (int64_t p = 0; p < field; ++p)
          same = same && oihw.at((o * s[2] + i) * field + p) == memory.at((p * s[2] + i) * s[3] + o);
    CHECK(same);
    CHECK(from_file_layout(oihw, Layout::conv).values<float>() == memory.values<float>());
    NamedTensors one;  // pages of a file are read, not touched
    one.add("before", Tensor::full({3}, 1)), one.add("w", oihw);
    write_safetensors(folder / "w.safetensors", one);
    const Tensor read = read_safetensors(folder / "w.safetensors").at("w");
    CHECK(from_file_layout(read, Layout::conv).values<float>() == memory.values<float>());
  }
}

TEST_CASE("a layout of another number of axes is refused") {
  const Tensor three = Tensor::zeros({2, 3, 4}), two = Tensor::zeros({2, 3});
  CHECK(has(message_of([&] { to_file_layout(three, Layout::linear); }), "a matrix has 2 axes, not [2, 3, 4]"));
  CHECK(has(message_of([&] { from_file_layout(three, Layout::linear); }), "a matrix has 2 axes"));
  CHECK(has(message_of([&] { to_file_layout(two, Layout::conv); }), "a convolution has 4 axes, not [2, 3]"));
  CHECK(has(message_of([&] { from_file_layout(two, Layout::conv_transpose); }), "a convolution has 4 axes"));
}

TEST_CASE("weights move from one model to another through a file, also into f64") {
  const Folder folder(memory());
  const Net source(1);
  save_weights(folder / "w.safetensors", source, {{"note", "x"}});
  Net target(2);
  REQUIRE(values(target) != values(source));
  CHECK(load_weights(target, folder / "w.safetensors").loaded == 9);
  CHECK(values(target) == values(source));
  CHECK(target.fc.weight.requires_grad());
  NamedTensors changed = read_safetensors(folder / "w.safetensors");
  for (auto& [name, t] : changed.tensors) t.fill(7);  // the file keeps its numbers
  load_weights(target, changed);
  for (auto& tensor : values(target)) CHECK(tensor == std::vector<float>(tensor.size(), 7));
}

TEST_CASE("what does not fit is listed in one message, and nothing is changed") {
  Net net(2);
  const auto before = values(net);
  NamedTensors file = weights_of(Net(1));
  std::erase_if(file.tensors, [](auto& t) { return t.first == "conv.bias" || t.first == "num_batches_tracked"; });
  file.add("layer9.weight", Tensor::zeros({1}));
  file.add("loss_normaliser", Tensor::zeros({1}));  // a counter of a training, as num_batches_tracked is
  for (auto& [name, t] : file.tensors)
    if (name == "fc.bias") t = Tensor::zeros({9});
  const std::string message = refusal([&] { load_weights(net, file, {}, "some.safetensors"); });
  INFO(message);
  CHECK(has(message, "some.safetensors: "));
  CHECK(has(message, "missing (1): conv.bias"));
  CHECK(has(message, "unexpected (1): layer9.weight"));
  CHECK(has(message, "fc.bias [9] in the file, [3] in the model"));
  CHECK(values(net) == before);
  const LoadOptions forgiving{.skip = "fc.bias", .may_miss = "*.bias", .may_be_extra = "layer9.*"};
  const LoadReport report = load_weights(net, file, forgiving);
  CHECK(report.missing == std::vector<std::string>{"conv.bias"});
  CHECK(report.unexpected == std::vector<std::string>{"layer9.weight"});
  CHECK(report.loaded == 6);
}

TEST_CASE("another number of classes has its own explanation") {
  Net net(1, 3);
  const std::string message = refusal([&] { load_weights(net, weights_of(Net(1, 91)), {.classes = 3}, "coco"); });
  INFO(message);
  CHECK(has(message, "coco: these weights are for 91 classes, this model has 3"));
  const NamedTensors softmax = weights_of(Net(1, 3 + 1));  // of three classes and the background
  Net one(1, 1 + 1);
  CHECK(has(refusal([&] { load_weights(one, softmax, {.classes = 1, .background = true}); }), "for 3 classes, this"));
  NamedTensors odd = weights_of(Net(1, 3));
  for (auto& [name, t] : odd.tensors)
    if (name == "cls_logits.bias") t = Tensor::zeros({7});  // of no number of classes
  CHECK(has(refusal([&] { load_weights(net, odd, {.classes = 3}, "odd"); }), "for another number of classes"));
  NamedTensors other = weights_of(Net(1, 91));  // but not where more than the classes differs
  for (auto& [name, t] : other.tensors)
    if (name == "fc.bias") t = Tensor::zeros({9});
  CHECK(has(refusal([&] { load_weights(net, other, {.classes = 3}, "coco"); }), "belong to another network"));
  const std::string long_list = refusal([&] { load_weights(net, NamedTensors{}, {}, "empty"); });
  CHECK(has(long_list, "missing (8): conv.weight, "));
  CHECK(has(long_list, ", up.bias, ..."));  // the sixth
  const LoadReport report = load_weights(net, weights_of(Net(1, 91)), {.skip = "cls_logits.*"});
  CHECK(report.loaded == 7);
}

TEST_CASE("prefixes: a backbone from a classifier's file, weights inside a larger file") {
  struct Detector : Module {
    Part body{*this, "body", 3, Layout::linear, {7, 3}};
    Part head{*this, "head", 3, Layout::linear, {7, 3}};
  } net;
  NamedTensors file;
  file.add("param/weight", Tensor::full({3, 7}, 5));
  file.add("param/bias", Tensor::full({3}, 6));
  file.add("input/images", Tensor::zeros({1}));
  CHECK(load_weights(net, file, {.file_prefix = "param/", .model_prefix = "body."}).loaded == 2);
  CHECK(net.body.weight.at(20) == 5);
  CHECK(net.head.bias.at(0) == 0);
}

// A run without data: the gradient is a function of the weights and the step, so any error in the state shows.
struct Run {
  Net net{3};
  AdamW optimizer{decay_groups(net, 0.01)};
  Ema ema{net, 0.9};
  RunState state{&net, &optimizer, &ema};
  void step(int64_t step) {
    for (auto& p : net.parameters()) {
      Tensor g(p.value.shape());
      for (int64_t i = 0; i < g.size(); ++i)
        g.data<float>()[i] = static_cast<float>(std::sin(p.value.at(i) * 3 + static_cast<double>(step + i)));
      p.value.set_grad(g);
    }
    clip_grad_norm(optimizer.params(), 1);
    optimizer.step(cosine(0.1, 60)(step));
    net.count.fill(static_cast<double>(step + 1));
    ema.update(step);
  }
  std::vector<std::vector<float>> everything() {
    auto all = values(net);
    for (auto& s : optimizer.state()) all.push_back(s.value.to(DType::f32).values<float>());
    for (auto& s : ema.state()) all.push_back(s.value.to(DType::f32).values<float>());
    return all;
  }
};

TEST_CASE("forty steps are twenty steps, a checkpoint and twenty steps, to the bit") {
  const Folder folder(memory());
  Run whole, first, second;
  for (int64_t s = 0; s < 40; ++s) whole.step(s);
  for (int64_t s = 0; s < 20; ++s) first.step(s);
  const CheckpointInfo info{
      .step = 20, .config = "lr = 0.1\n", .classes = {"red cell", "white \"cell\""}, .extra = {{"ap", "0.5"}}};
  const std::string path = folder / "c.safetensors";
  save_checkpoint(path, first.state, info);
  const CheckpointInfo back = load_checkpoint(path, second.state);
  CHECK((back.step == 20 && back.config == info.config && back.classes == info.classes && back.extra == info.extra));
  CHECK((!back.isa.empty() && !back.version.empty()));
  CHECK(second.optimizer.steps() == 20);
  for (int64_t s = 20; s < 40; ++s) second.step(s);
  CHECK(second.everything() == whole.everything());
  CHECK(checkpoint_info(read_safetensors(path))->step == 20);

  Net net;  // as a weights file: the averages, unless told otherwise
  load_weights(net, path);
  CHECK(net.fc.weight.values<float>() != first.net.fc.weight.values<float>());
  load_weights(net, path, {.average = false});
  CHECK(net.fc.weight.values<float>() == first.net.fc.weight.values<float>());
}

TEST_CASE("a checkpoint of other settings is refused, and nothing is changed") {
  const Folder folder(memory());
  const std::string path = folder / "c.safetensors";
  Run run;
  save_checkpoint(path, {&run.net, &run.optimizer, nullptr}, {.step = 1});
  const auto before = run.everything();
  CHECK(has(refusal([&] { load_checkpoint(path, run.state); }), "no average"));
  save_checkpoint(folder / "six.safetensors", {&run.net}, {.classes = std::vector<std::string>(6, "c")});
  Net other(1, 1);
  CHECK(has(refusal([&] { load_checkpoint(folder / "six.safetensors", {&other}); }), "this model has others"));
  SGD sgd(decay_groups(run.net, 0));
  CHECK(has(refusal([&] { load_checkpoint(path, {&run.net, &sgd, nullptr}); }), "optimiser"));
  run.net.set_trainable("fc.*", false);
  AdamW fewer(decay_groups(run.net, 0));
  CHECK(has(refusal([&] { load_checkpoint(path, {&run.net, &fewer, nullptr}); }), "optimiser"));
  save_weights(path, run.net);
  CHECK(has(refusal([&] { load_checkpoint(path, run.state); }), "no checkpoint"));
  CHECK_FALSE(checkpoint_info(read_safetensors(path)).has_value());
  CHECK(run.everything() == before);
}

TEST_CASE("a checkpoint whose state has another shape or type is refused before anything is loaded") {
  const Folder folder(memory());
  Run run;
  run.step(0);
  save_checkpoint(folder / "c.safetensors", run.state, {.step = 1});
  const auto before = run.everything();
  for (const std::string name : {"optimizer/m/fc.bias", "average/fc.bias"})
    for (const Tensor& other : {Tensor::zeros({3}, DType::f64), Tensor::zeros({1, 3})}) {
      NamedTensors file = read_safetensors(folder / "c.safetensors");
      for (auto& [n, t] : file.tensors)
        if (n == name) t = other;
      const std::string message = refusal([&] { load_checkpoint(file, run.state, "c"); });
      INFO(message);
      CHECK(has(message, "does not fit (" + name.substr(name.find('/') + 1) + " differs)"));
      CHECK(run.everything() == before);
    }
  CHECK_THROWS_WITH(save_checkpoint(folder / "d.safetensors", run.state, {.classes = {"a", "b\nc"}}),
                    contains("line break"));
}

TEST_CASE("the folder keeps the newest and the best, and finds the latest without its pointer") {
  const Folder folder(memory());
  std::ofstream(folder / ".step-1.safetensors.tmp-123") << "left by a killed writer";
  std::ofstream(folder / "mine.tmp-123") << "of somebody else";
  const std::string place = folder / "new";
  CHECK(CheckpointFolder(place).latest().empty());
  CHECK_FALSE(fs::exists(place));
  CheckpointFolder checkpoints(folder.path.string(), 2);
  CHECK(checkpoints.latest().empty());
  Run run;
  for (const int64_t step : {1, 2, 3, 10, 20}) {
    const std::string path = checkpoints.save(run.state, {.step = step});
    if (step == 2) checkpoints.mark_best(path);
  }
  std::set<std::string> names;
  for (auto& entry : fs::directory_iterator(folder.path)) names.insert(entry.path().filename().string());
  CHECK(names == std::set<std::string>{"best", "latest", "mine.tmp-123", "step-10.safetensors", "step-2.safetensors",
                                       "step-20.safetensors"});
  CHECK(has(checkpoints.latest(), "step-20."));
  CHECK(has(checkpoints.best(), "step-2."));
  std::ofstream(folder / "step-30 copy.safetensors") << "none of the run's";
  std::ofstream(folder / "latest") << "step-25.safetensors\n";  // which is gone
  CHECK(has(checkpoints.latest(), "step-20."));
  std::ofstream(folder / "latest") << std::string(300, 'x') << "\n";  // longer than a name can be
  CHECK(has(checkpoints.latest(), "step-20."));
  std::ofstream(folder / "step-99999999999999999999.safetensors") << "past the last number";
  CHECK(checkpoints.steps() == std::vector<int64_t>{2, 10, 20});
  fs::remove(folder / "latest");
  CHECK(has(checkpoints.latest(), "step-20."));
  CheckpointFolder all(folder / "all", 0);
  for (const int64_t step : {1, 2, 3, 10, 20}) {
    all.save(run.state, {.step = step});
    CHECK(fs::exists(folder / "all/step-1.safetensors"));
  }
}

TEST_CASE("a folder that moves keeps its best, and what was saved last stays whatever later steps there are") {
  const Folder folder(memory());
  Run run;
  CheckpointFolder checkpoints(folder / "old", 1);
  checkpoints.mark_best(checkpoints.save(run.state, {.step = 20}));
  fs::rename(folder / "old", folder / "new");
  CheckpointFolder moved(folder / "new", 1);
  CHECK(has(moved.best(), "new/step-20."));
  moved.save(run.state, {.step = 3});
  CHECK(has(moved.latest(), "step-3."));
}

TEST_CASE("a checkpoint says what step it is of, or is none") {
  const Folder folder(memory());
  Run run;
  save_checkpoint(folder / "c.safetensors", run.state, {.step = 7});
  NamedTensors file = read_safetensors(folder / "c.safetensors");
  REQUIRE(checkpoint_info(file)->step == 7);
  for (const char* step : {"", "-1", "7x", "99999999999999999999"}) {
    file.metadata["step"] = step;
    CHECK_FALSE(checkpoint_info(file).has_value());
  }
}

TEST_CASE("files do not depend on the language that the program speaks") {
  const Folder folder(memory());
  Run run;
  {
    const Spoken spoken;
    save_checkpoint(folder / "c.safetensors", run.state, {.step = 12345});
    CHECK(text(12345) == "12345");
  }
  CHECK(load_checkpoint(folder / "c.safetensors", run.state).step == 12345);
}

TEST_CASE("a run killed at twenty random moments ends with the bits of one that was not") {
  const Folder folder(memory());
  constexpr int64_t steps = 60;
  Run whole;
  for (int64_t s = 0; s < steps; ++s) whole.step(s);
  const auto resume = [&](Run& run, CheckpointFolder& checkpoints) {
    const std::string latest = checkpoints.latest();
    return latest.empty() ? 0 : load_checkpoint(latest, run.state).step;
  };
  Dice dice(5);
  int hits = 0;
  for (bool done = false; !done;) {  // a run that comes to its end is checked, and another one shot at
    const pid_t child = fork();
    if (child == 0) {
      CheckpointFolder checkpoints(folder.path.string(), 2);
      Run run;
      for (int64_t s = resume(run, checkpoints); s < steps;) {
        run.step(s++);
        checkpoints.save(run.state, {.step = s});
      }
      _exit(0);
    }
    if (hits < 20) {
      std::this_thread::sleep_for(std::chrono::microseconds(dice.integer(0, 20'000)));
      kill(child, SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    const bool hit = WIFSIGNALED(status);
    REQUIRE((hit || WEXITSTATUS(status) == 0));
    CheckpointFolder checkpoints(folder.path.string());
    Run run;
    const int64_t at = resume(run, checkpoints);
    hits += hit;
    if (at < steps) {
      REQUIRE(hit);
      continue;
    }
    CHECK(run.everything() == whole.everything());
    done = hits == 20;
    for (auto& entry : fs::directory_iterator(folder.path)) fs::remove_all(entry);
  }
}
