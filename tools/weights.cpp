// Finding the file that is meant, and building the network that it belongs to.
#include "tools/weights.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/threads.h"
#include "models/names.h"
#include "nn/checkpoint.h"
#include "nn/init.h"
#include "tools/coco_names.h"
#include "tools/device.h"
#include "tools/run_dir.h"

namespace fovea {
namespace fs = std::filesystem;

static const char* const kHint = "\n  hint: give the folder of `fovea train --out`, or a .safetensors file";

std::string weights_file(const std::string& path) {
  check(Code::usage, !path.empty(), "--weights is required: a .safetensors file or the folder of a run");
  check(Code::model, fs::exists(path), "no file or run '", path, "'", kHint);
  const std::string name = fs::path(path).filename().string();
  check(Code::model, fs::is_directory(path) || (name != "latest" && name != "best"), "'", path,
        "' only names a checkpoint of its run", kHint);
  if (!fs::is_directory(path)) return path;
  check(Code::model, fs::exists(path + "/checkpoints"), "'", path, "' is no run: it has no checkpoints", kHint);
  const CheckpointFolder folder(path + "/checkpoints", 0);
  const std::string file = folder.best().empty() ? folder.latest() : folder.best();
  check(Code::model, !file.empty(), "the run '", path, "' has no checkpoint yet");
  return file;
}

void add_weights_flags(Command& app, WeightsOptions& options) {
  app.option("--weights", options.weights, "a .safetensors file, or a run: its best checkpoint").type("FILE|RUN");
  app.option("--preset", options.preset, "the network of weights that do not name it").type("NAME");
  app.option("--classes", options.classes, "their number of classes, where it is not the preset's")
      .type("N")
      .range(1, 1e6);
  app.option("--device", options.device, kDeviceHelp).type("DEVICE").show_default();
  app.option("--precision", options.precision, kPrecisionHelp).one_of({"f32", "tf32", "bf16"});
  app.option("--threads", options.threads, "of the computation; 0: all processors").type("N").range(0, 256);
  app.option("--set", options.settings, "a key of the configuration, e.g. model.nms_threshold=0.6").type("KEY=VALUE");
}

// Whether weights that are scored or looked with depend on this key.
static bool has_effect(const std::string& key) {
  if (key.starts_with("model.") || key.starts_with("conv.")) return true;
  for (const char* other : {"data.short_side", "data.max_side", "data.divisor", "data.val_fraction", "eval.batch"})
    if (key == other) return true;
  return false;
}

LoadedModel load_model(const WeightsOptions& options) {
  for (auto& setting : options.settings) {
    const std::string name = setting_of(setting).first;
    const Key* k = find_key(name);  // loading names the nearest of one that is unknown
    check(Code::usage, k ? has_effect(k->name) : name != "preset", "--set ", setting,
          " is for fovea train, and changes nothing here",
          "\n  hint: --precision, --threads and --device say how to compute, other flags on which data");
  }
  if (options.threads > 0) set_num_threads(options.threads);
  LoadedModel loaded;
  loaded.path = weights_file(options.weights);
  const NamedTensors file = read_weights(loaded.path);
  const auto info = checkpoint_info(file);
  ConfigSources sources;
  sources.settings = options.settings;
  if (!options.preset.empty()) sources.flags.push_back({"preset", options.preset, "--preset"});
  if (options.classes > 0) sources.flags.push_back({"model.classes", std::to_string(options.classes), "--classes"});
  if (info && !info->config.empty()) {
    check(Code::usage, options.preset.empty(), "--preset is for foreign weights: '", loaded.path,
          "' knows its own network");
    sources.text = info->config, sources.text_name = loaded.path;
    loaded.classes = info->classes;
  } else {
    check(Code::usage, !options.preset.empty(), "'", loaded.path,
          "' does not say which network it belongs to: name it with --preset, e.g. --preset tv_retinanet_r50");
  }
  loaded.config = load_config(sources);
  set_conv_algo(conv_algo_named(loaded.config.conv.algo));
  const Device device = use_device(options.device);
  use_precision(options.precision, device);
  {
    const Uninitialised loaded_below;
    loaded.model = std::make_unique<RetinaNet>(loaded.config.model);
  }
  LoadOptions load;
  load.classes = loaded.config.model.classes, load.background = loaded.config.model.loss.kind == "softmax";
  load.class_advice = info ? "\n  hint: leave out --classes and model.classes" : "\n  hint: --classes says how many";
  load_weights(*loaded.model, file, load, loaded.path);
  loaded.model->train(false);
  loaded.model->in_bf16 = options.precision == "bf16";
  if (loaded.model->in_bf16 && device == Device::cpu) loaded.model->round_weights();
  loaded.model->move_to(device);
  return loaded;
}

const std::string& ClassNames::of(int64_t id) const {
  return names[static_cast<size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin())];
}

ClassNames names_of(const LoadedModel& loaded) {
  ClassNames n;
  const bool coco = loaded.labels_are_ids();
  for (int64_t label = 0; label < loaded.config.model.classes; ++label) {
    const size_t l = static_cast<size_t>(label);
    n.ids.push_back(coco ? label : label + 1);
    n.names.push_back(l < loaded.classes.size()         ? loaded.classes[l]
                      : coco && l < coco_names().size() ? coco_names()[l]
                                                        : "class " + std::to_string(label));
  }
  return n;
}

}  // namespace fovea
