// Checkpoints of a run, and the folder that holds them.
#include "nn/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/atomic_file.h"
#include "core/isa.h"
#include "core/version.h"
#include "core/words.h"
#include "nn/load_plan.h"

namespace fovea {

namespace fs = std::filesystem;

static const std::string kFormat = "fovea checkpoint 1", kExtra = "extra/";

static std::map<std::string, std::string> to_metadata(const CheckpointInfo& info) {
  std::string classes;
  for (auto& name : info.classes) {
    check(Code::data, name.find('\n') == name.npos, "class name \"", name, "\" holds a line break");
    classes += name + "\n";
  }
  std::map<std::string, std::string> m{{"format", kFormat},     {"step", std::to_string(info.step)},
                                       {"config", info.config}, {"classes", classes},
                                       {"isa", name_of(isa())}, {"version", kVersion}};
  for (auto& [key, value] : info.extra) m[kExtra + key] = value;
  return m;
}

static std::optional<CheckpointInfo> from_metadata(const std::map<std::string, std::string>& m) {
  const auto get = [&](const char* key) {
    const auto at = m.find(key);
    return at == m.end() ? std::string() : at->second;
  };
  if (get("format") != kFormat) return {};
  CheckpointInfo info{.config = get("config"), .isa = get("isa"), .version = get("version")};
  const std::string classes = get("classes");
  if (!read_number(get("step"), info.step) || info.step < 0) return {};
  for (size_t at = 0, stop; (stop = classes.find('\n', at)) != classes.npos; at = stop + 1)
    info.classes.push_back(classes.substr(at, stop - at));
  for (auto& [key, value] : m)
    if (key.starts_with(kExtra)) info.extra[key.substr(kExtra.size())] = value;
  return info;
}

void save_checkpoint(const std::string& path, const RunState& state, const CheckpointInfo& info) {
  NamedTensors content = weights_of(*state.model);
  if (state.optimizer)
    for (auto& s : state.optimizer->state()) content.add(kOptimizerPrefix + s.name, s.value);
  if (state.ema)
    for (auto& s : state.ema->state()) content.add(kAveragePrefix + s.name, to_file_layout(s.value, s.layout));
  content.metadata = to_metadata(info);
  write_safetensors(path, content);
}

// Adds the tensors that the file has under `prefix` to the plan; they must be exactly those of `state`.
static void plan_state(LoadPlan& plan, const NamedTensors& file, const std::vector<Module::Named>& state,
                       const std::string& prefix, const std::string& path, const char* what) {
  size_t have = 0;
  std::map<std::string, const Tensor*> by_name;
  for (auto& [name, t] : file.tensors)
    if (name.starts_with(prefix)) by_name[name.substr(prefix.size())] = &t, ++have;
  check(Code::model, have > 0, path, ": this checkpoint holds no ", what,
        ": resume it with the settings of its own run");
  for (auto& s : state) {
    const auto at = by_name.find(s.name);
    const bool fits = at != by_name.end() && at->second->shape() == file_shape(s.value.shape(), s.layout) &&
                      at->second->dtype() == s.value.dtype();
    check(Code::model, fits, path, ": the ", what, " in this checkpoint does not fit (", s.name,
          at == by_name.end() ? " is missing" : " differs", "): resume it with the settings of its own run");
    plan.copies.push_back({s.value, *at->second, s.layout});
  }
  check(Code::model, have == state.size(), path, ": the ", what, " in this checkpoint has ", have,
        " tensors, this run's has ", state.size(), ": resume it with the settings of its own run");
}

CheckpointInfo load_checkpoint(const std::string& path, const RunState& state) {
  return load_checkpoint(read_safetensors(path), state, path);
}
CheckpointInfo load_checkpoint(const NamedTensors& file, const RunState& state, const std::string& path) {
  const auto info = from_metadata(file.metadata);
  check(Code::model, info.has_value(), path, ": holds weights but is no checkpoint of a run: start a new run from it");
  LoadPlan plan = plan_load(*state.model, file, {.average = false}, path);
  if (state.optimizer) plan_state(plan, file, state.optimizer->state(), kOptimizerPrefix, path, "optimiser's state");
  if (state.ema) plan_state(plan, file, state.ema->state(), kAveragePrefix, path, "average of the weights");
  plan.apply();
  return *info;
}

std::optional<CheckpointInfo> checkpoint_info(const NamedTensors& file) { return from_metadata(file.metadata); }

static std::string step_file(int64_t step) { return "step-" + std::to_string(step) + ".safetensors"; }

CheckpointFolder::CheckpointFolder(std::string folder, int keep)
    : folder_(std::move(folder)), keep_(std::max(0, keep)) {}

std::string CheckpointFolder::pointed(const char* pointer) const {
  std::ifstream in(fs::path(folder_) / pointer);
  std::string name;
  if (!std::getline(in, name) || name.empty()) return "";
  const fs::path path = fs::path(folder_) / name;
  std::error_code ignored;  // such as a name that is too long
  return fs::exists(path, ignored) ? path.string() : "";
}
std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> all;
  std::error_code ignored;
  for (auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string(), head = "step-", tail = ".safetensors";
    if (!name.starts_with(head) || !name.ends_with(tail) || name.size() <= head.size() + tail.size()) continue;
    int64_t step = 0;
    if (read_number(std::string_view(name).substr(head.size(), name.size() - head.size() - tail.size()), step))
      all.push_back(step);
  }
  std::sort(all.begin(), all.end());
  return all;
}
std::string CheckpointFolder::latest() const {
  if (const std::string path = pointed("latest"); !path.empty()) return path;
  const auto all = steps();
  return all.empty() ? "" : (fs::path(folder_) / step_file(all.back())).string();
}
std::string CheckpointFolder::best() const { return pointed("best"); }

std::string CheckpointFolder::save(const RunState& state, const CheckpointInfo& info) {
  if (!prepared_) {
    std::error_code error;
    fs::create_directories(folder_, error);
    check(fs::is_directory(folder_), folder_, ": cannot be made: ", error.message(), "; choose another output folder");
    remove_temporaries(folder_);
    prepared_ = true;
  }
  const std::string path = (fs::path(folder_) / step_file(info.step)).string();
  save_checkpoint(path, state, info);
  write_file_atomically((fs::path(folder_) / "latest").string(), step_file(info.step) + "\n");
  const auto all = steps();
  for (size_t i = 0; keep_ > 0 && i + static_cast<size_t>(keep_) < all.size(); ++i) {
    const std::string old = (fs::path(folder_) / step_file(all[i])).string();
    std::error_code ignored;
    if (old != best() && old != path) fs::remove(old, ignored);
  }
  return path;
}
void CheckpointFolder::mark_best(const std::string& path) {
  write_file_atomically((fs::path(folder_) / "best").string(), fs::path(path).filename().string() + "\n");
}

}  // namespace fovea
