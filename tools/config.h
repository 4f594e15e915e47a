// The configuration of a run: one table of typed keys, from which files, environment, --set, messages and docs follow.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/augment.h"
#include "models/presets.h"

namespace fovea {

struct Config {
  std::string preset = "retinanet_small";
  struct Train {
    int64_t epochs = 20, steps = 0, batch = 4;
    std::string optimizer = "adamw";
    double lr = 2e-4, weight_decay = 0.01, norm_weight_decay = 0, momentum = 0.9, beta1 = 0.9, beta2 = 0.999;
    bool nesterov = false;
    std::string schedule = "cosine";
    std::vector<double> milestones = {0.6, 0.85};
    double decay = 0.1, final_lr = 0;
    int64_t warmup = 100;
    double warmup_factor = 0.001;
    double clip_norm = 10, clip_value = 0, ema = 0;
    uint64_t seed = 0;
    int64_t checkpoint_every = 0, keep = 3, overfit = 0;
    std::string weights, skip_weights, backbone_weights;
    std::string precision = "f32";
    int64_t threads = 0, loader_threads = 1;
    std::string device = "cpu";
  } train;
  struct Data {
    std::string dir, format = "auto", split = "train", val_split = "val", annotations, images, val_annotations,
                     val_images;
    std::string policy = "clip";
    double val_fraction = 0.1;
    std::vector<int64_t> short_side = {320};
    int64_t max_side = 0, divisor = 32;
    bool group_by_aspect = false;
    int64_t aspect_groups = 2;
    std::string multi_scale = "picture", filter = "none";
  } data;
  AugmentOptions augment;  // its sizes are those of `data`
  struct Eval {
    int64_t every = 1, batch = 8, pictures = 12;
  } eval;
  struct Conv {
    std::string algo = "auto";
  } conv;
  RetinaNetOptions model;

  std::map<std::string, std::string> origin;  // where a key that is not a default was set: "preset toy", "--set" ...
};

struct Key {
  std::string name, type, help;  // "train.lr", "number", "..."
  std::function<std::string(const Config&)> get;
  std::function<void(Config&, const std::string&)> set;  // throws Code::usage for a value that does not fit
  bool of_machine() const { return name.ends_with("threads") || name == "train.device"; }  // and not of the run
};
const std::vector<Key>& config_keys();
const Key* find_key(std::string name);                            // "model." may be left out; null where there is none
bool from_preset(const Config& config, const std::string& name);  // whether its preset set this key, and nobody since

// Sets one key from text. Throws Code::usage naming `origin`, and the nearest key where `name` is unknown.
void set_key(Config& config, const std::string& name, const std::string& value, const std::string& origin);

// The key and the value of "key=value", as --set takes it. Throws Code::usage for other text.
std::pair<std::string, std::string> setting_of(const std::string& text);

// A key's value that has a flag of its own, as it is written: "--epochs".
struct FlagValue {
  std::string key, value, flag = "flag";
};

// What was asked for, weakest first: default < preset < file < environment FOVEA_TRAIN_LR ... < settings of flags.
struct ConfigSources {
  std::string file;             // TOML; empty: none
  std::string text, text_name;  // TOML from elsewhere (a checkpoint), and what it is
  std::vector<FlagValue> flags;
  std::vector<std::string> settings;  // "key=value" of --set
  bool environment = true;
  bool own = false;  // the file is the run's own: its comments still say where its values came from, its preset stays
};
Config load_config(const ConfigSources& sources);

// All keys, by section; load_config() of this text gives the same configuration back. with_origin: where what is not a
// default came from, and what concerns this machine alone (threads, device); a checkpoint has neither.
std::string to_toml(const Config& config, bool with_origin = true);
// The table of all keys, for `fovea train --keys`.
std::string key_table(const Config& config);

}  // namespace fovea
