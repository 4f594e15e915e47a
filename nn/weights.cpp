// Weights in files: layouts, matching names against a model, and the message where they do not fit.
#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_map>

#include "core/threads.h"
#include "nn/checkpoint.h"
#include "nn/load_plan.h"
#include "nn/pattern.h"
#include "ops/cpu/kernels.h"

namespace fovea {

// All three layouts are one transposition: memory [field, a, b] <-> file [b, a, field].
static void check_rank(const Shape& s, Layout layout) {
  const bool linear = layout == Layout::linear;
  check(layout == Layout::plain || s.rank() == (linear ? 2 : 4), "weights: the layout of a ",
        linear ? "matrix has 2" : "convolution has 4", " axes, not ", s,
        "\n  hint: Layout::plain stores any shape as it is");
}
Shape file_shape(const Shape& m, Layout layout) {
  check_rank(m, layout);
  if (layout == Layout::plain) return m;
  if (layout == Layout::linear) return {m.at(1), m.at(0)};
  return {m.at(3), m.at(2), m.at(0), m.at(1)};
}
static Shape memory_shape(const Shape& f, Layout layout) {
  check_rank(f, layout);
  if (layout == Layout::plain) return f;
  if (layout == Layout::linear) return {f.at(1), f.at(0)};
  return {f.at(2), f.at(3), f.at(1), f.at(0)};
}

// y[(i A + j) F + k] = x[(k A + j) B + i], i < B, j < A, k < F; in tiles of i, j and k, which read and write whole
// lines of memory.
static void transpose(const Tensor& x, const Tensor& y, int64_t field, int64_t a, int64_t b) {
  dispatch_any(x.dtype(), [&]<class T>() {
    const T* from = x.data<T>();
    T* to = y.data<T>();
    constexpr int64_t kTile = 16;
    const int64_t across = (field + kTile - 1) / kTile;
    parallel_for((b + kTile - 1) / kTile * across, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t i0 = tile / across * kTile, i1 = std::min(i0 + kTile, b);
        const int64_t k0 = tile % across * kTile, k1 = std::min(k0 + kTile, field);
        for (int64_t j0 = 0; j0 < a; j0 += kTile)
          for (int64_t i = i0; i < i1; ++i)
            for (int64_t j = j0; j < std::min(j0 + kTile, a); ++j)
              for (int64_t k = k0; k < k1; ++k) to[(i * a + j) * field + k] = from[(k * a + j) * b + i];
      }
    });
  });
}
Tensor to_file_layout(const Tensor& value, Layout layout) {
  if (layout == Layout::plain) return value.detach();
  const Shape& s = value.shape();
  Tensor y(file_shape(s, layout), value.dtype());
  transpose(value.to(Device::cpu), y, s.span(0, s.rank() - 2), s[-2], s[-1]);
  return y;
}
// Rows [begin, end) of outputs of a weight in a file's layout, into `to`: f32 alone. By 16 inputs at a time.
static constexpr int64_t kRows = 64;
static void turn_rows(const Tensor& value, const Tensor& to, int64_t begin, int64_t end) {
  constexpr int64_t kInputs = 16;
  const Shape& s = value.shape();
  const int64_t out = s[0], in = s[1], field = s.span(2, s.rank()), row = in * field, n = end - begin;
  Workspace memory(static_cast<size_t>(n * row + kInputs * field * kRows) * 4);
  float *x = memory.as<float>(), *turned = x + n * row;
  read_once(value, static_cast<size_t>(begin * row) * 4, static_cast<size_t>(n * row) * 4, x);
  for (int64_t j = 0; j < in; j += kInputs) {
    const int64_t columns = std::min(kInputs, in - j) * field;
    cpu::kernels().transpose(x + j * field, row, n, columns, turned, kRows);
    for (int64_t q = 0; q < columns; ++q)
      std::memcpy(to.data<float>() + (q % field * in + j + q / field) * out + begin, turned + q * kRows,
                  static_cast<size_t>(n) * 4);
  }
}
Tensor from_file_layout(const Tensor& value, Layout layout) {
  if (layout == Layout::plain) return value.detach();
  Tensor y(memory_shape(value.shape(), layout), value.dtype());
  const Shape& s = value.shape();
  if (value.dtype() != DType::f32) transpose(value, y, s[0], s[1], s.span(2, s.rank()));
  else parallel_for(s[0], kRows, [&](int64_t begin, int64_t end) { turn_rows(value, y, begin, end); });
  return y;
}

namespace {

std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string out = text("\n  ", what, " (", names.size(), "):");
  for (size_t i = 0; i < names.size() && i < 6; ++i) out += (i ? ", " : " ") + names[i];
  return names.size() > 6 ? out + ", ..." : out;
}

// Counters of a training, which a network does not need.
bool counter(const std::string& name) { return name.ends_with("num_batches_tracked") || name == "loss_normaliser"; }

// One walk over model and file. Nothing is changed: the result says what would be.
class Matching {
 public:
  Matching(const NamedTensors& file, const LoadOptions& options, const std::string& name)
      : file_(file), options_(options), name_(name) {
    for (auto& [n, t] : file.tensors)
      if (n.starts_with(options.file_prefix)) by_name_.emplace(n.substr(options.file_prefix.size()), &t);
  }

  LoadPlan run(const Module& model) {
    for (auto& m : model.state()) {
      if (!m.name.starts_with(options_.model_prefix)) continue;
      const std::string name = m.name.substr(options_.model_prefix.size());
      used_.insert(name);
      if (!matches(options_.skip, m.name)) match(m, name);
    }
    for (auto& [n, t] : file_.tensors) {
      if (!n.starts_with(options_.file_prefix) || n.starts_with(kAveragePrefix) || n.starts_with(kOptimizerPrefix))
        continue;
      const std::string name = n.substr(options_.file_prefix.size());
      if (used_.contains(name) || counter(name)) continue;
      (matches(options_.may_be_extra, name) ? plan_.report.unexpected : unexpected_).push_back(name);
    }
    if (!missing_.empty() || !unexpected_.empty() || !wrong_.empty()) reject();
    return std::move(plan_);
  }

 private:
  const Tensor* find(const std::string& name) const {
    const auto average = by_name_.find(kAveragePrefix + name), plain = by_name_.find(name);
    if (options_.average && average != by_name_.end()) return average->second;
    return plain != by_name_.end() ? plain->second : nullptr;
  }
  void match(const Module::Named& m, const std::string& name) {
    const Tensor* value = find(name);
    if (!value) {
      if (matches(options_.may_miss, m.name)) plan_.report.missing.push_back(m.name);
      else if (!counter(name)) missing_.push_back(m.name);
      return;
    }
    const Shape want = file_shape(m.value.shape(), m.layout);
    if (value->shape() == want) {
      plan_.copies.push_back({m.value, *value, m.layout});
      ++plan_.report.loaded;
      return;
    }
    wrong_.push_back(text(m.name, " ", value->shape(), " in the file, ", want, " in the model"));
    if (!matches(options_.class_names, m.name)) return void(class_only_ = false);
    const int64_t have = value->rank() > 0 ? value->dim(0) : 0;
    const int64_t own = options_.classes + options_.background;
    if (options_.classes > 0 && want[0] > 0 && have * own % want[0] == 0)
      file_classes_ = have * own / want[0] - options_.background;
  }
  [[noreturn]] void reject() const {
    if (!wrong_.empty() && class_only_ && missing_.empty() && unexpected_.empty()) {
      const std::string theirs = file_classes_ > 0 ? text(file_classes_, " classes") : "another number of classes";
      const std::string ours = options_.classes > 0 ? text(options_.classes) : "others";
      fail(Code::model,
           text(name_, ": these weights are for ", theirs, ", this model has ", ours, options_.class_advice));
    }
    fail(Code::model,
         text(name_, ": these weights belong to another network: check the preset and its options",
              listed("missing", missing_), listed("unexpected", unexpected_), listed("wrong shape", wrong_)));
  }

  const NamedTensors& file_;
  const LoadOptions& options_;
  const std::string& name_;
  std::unordered_map<std::string, const Tensor*> by_name_;
  std::set<std::string> used_;
  LoadPlan plan_;
  std::vector<std::string> missing_, unexpected_, wrong_;
  bool class_only_ = true;
  int64_t file_classes_ = 0;
};

}  // namespace

LoadPlan plan_load(const Module& model, const NamedTensors& weights, const LoadOptions& options,
                   const std::string& file) {
  return Matching(weights, options, file).run(model);
}
// What can go straight to its place goes there in one loop, so that no thread waits for another at every weight.
void LoadPlan::apply() {
  struct Rows {
    const Copy* copy;
    int64_t begin, end;
  };
  std::vector<Rows> rows;
  for (auto& c : copies) {
    const bool f32 = c.to.dtype() == DType::f32 && c.from.dtype() == DType::f32;
    if (c.layout == Layout::plain || !f32 || c.to.device() != Device::cpu) {
      c.to.copy_from(from_file_layout(c.from, c.layout));
      continue;
    }
    for (int64_t r = 0, n = c.from.dim(0); r < n; r += kRows) rows.push_back({&c, r, std::min(r + kRows, n)});
    c.to.touch();
  }
  parallel_for(static_cast<int64_t>(rows.size()), 1, [&](int64_t i, int64_t) {
    turn_rows(rows[i].copy->from, rows[i].copy->to, rows[i].begin, rows[i].end);
  });
}

LoadReport load_weights(Module& model, const NamedTensors& weights, const LoadOptions& options,
                        const std::string& file) {
  LoadPlan plan = plan_load(model, weights, options, file);
  plan.apply();
  return plan.report;
}
LoadReport load_weights(Module& model, const std::string& path, const LoadOptions& options) {
  return load_weights(model, read_safetensors(path), options, path);
}

NamedTensors weights_of(const Module& model) {
  NamedTensors content;
  for (auto& m : model.state()) content.add(m.name, to_file_layout(m.value, m.layout));
  return content;
}
void save_weights(const std::string& path, const Module& model, const std::map<std::string, std::string>& metadata) {
  NamedTensors content = weights_of(model);
  content.metadata = metadata;
  write_safetensors(path, content);
}

}  // namespace fovea
