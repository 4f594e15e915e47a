// The table of configuration keys, and the layers that fill it: preset, file, environment, flags.
#include "tools/config.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "tools/terminal.h"

extern char** environ;

namespace fovea {
namespace {

struct Range {
  double low = -1e300, high = 1e300;
};
constexpr Range kPositive{1e-300, 1e300}, kNotNegative{0, 1e300}, kCount{0, 1e15}, kPictures{1, 1e6}, kUnit{0, 1};

// Text of a value and back: numbers in the shortest form that reads back exactly.
std::string text_of(const std::string& v) { return v; }
std::string text_of(bool v) { return v ? "true" : "false"; }
std::string text_of(double v) { return shortest(v); }
template <class T>
requires std::is_integral_v<T> std::string text_of(T v) { return std::to_string(v); }
template <class T> std::string text_of(const std::vector<T>& list) {
  std::vector<std::string> words;
  for (auto& v : list) words.push_back(text_of(v));
  return joined(words);
}

void parse(std::string& out, const std::string& s, Range) { out = s; }
void parse(bool& out, const std::string& s, Range) {
  check(Code::usage, s == "true" || s == "false", "'", s, "' is neither true nor false");
  out = s == "true";
}
template <class T>
requires std::is_arithmetic_v<T>
void parse(T& out, const std::string& s, Range range) {
  double value = 0;
  check(Code::usage, read_number(s, value), "'", s, "' is not a number");
  check(Code::usage, value >= range.low && value <= range.high, s, " is out of range (", text_of(range.low), " to ",
        text_of(range.high), ")");
  if constexpr (std::is_integral_v<T>) {
    check(Code::usage, value == std::floor(value), s, " is not a whole number");
    if (!read_number(s, out)) out = static_cast<T>(value);  // "1e3", "-0"
  } else {
    out = static_cast<T>(value);
  }
}
template <class T> void parse(std::vector<T>& out, const std::string& s, Range range) {
  std::string inner = trimmed(s);
  if (inner.size() > 1 && inner.front() == '[' && inner.back() == ']') inner = inner.substr(1, inner.size() - 2);
  out.clear();
  for (auto& part : split(inner, ',')) parse(out.emplace_back(), part, range);
}

template <class T> const char* type_name(const T&) {
  if constexpr (std::is_same_v<T, bool>) return "true | false";
  else if constexpr (std::is_integral_v<T>) return "whole number";
  else if constexpr (std::is_floating_point_v<T>) return "number";
  else if constexpr (std::is_same_v<T, std::string>) return "text";
  else return "list of numbers";
}

// `field` finds it in a configuration. `choices`: "a | b" for text that must be one of these.
template <class T>
Key key(const std::string& name, T& (*field)(Config&), const std::string& help, Range range = {},
        const std::string& choices = "") {
  Config sample;
  Key k{name, choices.empty() ? type_name(field(sample)) : choices, help, {}, {}};
  k.get = [field](const Config& c) { return text_of(field(const_cast<Config&>(c))); };
  k.set = [field, range, choices](Config& c, const std::string& value) {
    if (!choices.empty()) {
      const auto names = split(choices, '|');
      if (std::find(names.begin(), names.end(), value) == names.end())
        fail(Code::usage, text("'", value, "' is not one of ", choices, suggestion(value, names)));
    }
    parse(field(c), value, range);
  };
  return k;
}

// KEY(train.lr, ...): the key "train.lr" is the field Config::train.lr.
#define KEY(path, ...) \
  key(                 \
      #path, +[](Config & c) -> auto& { return c.path; }, __VA_ARGS__)

std::vector<Key> train_keys() {
  return {
      KEY(train.epochs, "passes over the training pictures", kCount),
      KEY(train.steps, "steps to train instead of epochs; 0: epochs", kCount),
      KEY(train.batch, "pictures of a step", kPictures),
      KEY(train.optimizer, "how gradients become steps", {}, "adamw | sgd"),
      KEY(train.lr, "learning rate after warm-up, for train.batch pictures", kNotNegative),
      KEY(train.weight_decay, "of convolution weights", kNotNegative),
      KEY(train.norm_weight_decay, "of norms and biases", kNotNegative),
      KEY(train.momentum, "of sgd", kUnit),
      KEY(train.nesterov, "Nesterov's momentum (sgd)"),
      KEY(train.beta1, "of adamw: memory of gradients", kUnit),
      KEY(train.beta2, "of adamw: memory of their squares", kUnit),
      KEY(train.schedule, "course of the learning rate", {}, "cosine | constant | multistep | onecycle"),
      KEY(train.milestones, "multistep: where it drops, as parts of the whole run", kUnit),
      KEY(train.decay, "multistep: the factor of each drop", kUnit),
      KEY(train.final_lr, "cosine, onecycle: the last rate as part of train.lr", kUnit),
      KEY(train.warmup, "steps of linear warm-up", kCount),
      KEY(train.warmup_factor, "the first rate as part of train.lr", kUnit),
      KEY(train.clip_norm, "largest norm of all gradients together; 0: no limit", kNotNegative),
      KEY(train.clip_value, "largest size of one gradient; 0: no limit", kNotNegative),
      KEY(train.ema, "decay of the running mean of the weights that is evaluated; 0: off", kUnit),
      KEY(train.seed, "of weights, order and augmentation", kCount),
      KEY(train.checkpoint_every, "steps; 0: at the end of each epoch only", kCount),
      KEY(train.keep, "numbered checkpoints to keep; 0: all", {0, 1e6}),
      KEY(train.overfit, "train and score on the first N pictures; 0: off", kCount),
      KEY(train.weights, "a .safetensors file or a run to start from"),
      KEY(train.skip_weights, "names in it to leave out, e.g. *cls_logits*"),
      KEY(train.backbone_weights, "a classifier's .safetensors file to start from"),
      KEY(train.precision, "of maps and products; weights, statistics and losses are f32", {}, "f32 | tf32 | bf16"),
      KEY(train.threads, "of the computation; 0: all processors", {0, 256}),
      KEY(train.loader_threads, "that read and augment pictures", {0, 64}),
      KEY(train.device, "where to compute: cpu, cuda, cuda:N, or auto"),
  };
}

std::vector<Key> data_keys() {
  return {
      KEY(data.dir, "the data set's folder"),
      KEY(data.format, "of its files", {}, "auto | coco | voc | yolo | csv | shapes"),
      KEY(data.split, "what to train on"),
      KEY(data.val_split, "what to score on during training; empty: nothing"),
      KEY(data.annotations, "a COCO file, instead of data.dir"),
      KEY(data.images, "the folder of its pictures"),
      KEY(data.val_annotations, "the same for scoring; without it, a part of data.annotations"),
      KEY(data.val_images, "the same for scoring"),
      KEY(data.policy, "for boxes without area or outside", {}, "error | clip | drop"),
      KEY(data.val_fraction, "part to score on where the data has no splits", kUnit),
      KEY(data.short_side, "pixels of a picture's short side; several: one is drawn", {0, 1e5}),
      KEY(data.max_side, "most pixels of the long side; 0: no limit", {0, 1e5}),
      KEY(data.divisor, "batches are padded to multiples of it", {1, 1024}),
      KEY(data.group_by_aspect, "pictures of one shape in a batch"),
      KEY(data.aspect_groups, "how many shapes: 2 (wide, tall), 8 (torchvision), ...", {2, 100}),
      KEY(data.multi_scale, "of several short sides, what draws one", {}, "picture | batch"),
      KEY(data.filter, "pictures to leave out of training: without a box, or with none over a pixel", {},
          "none | empty | tiny"),
  };
}

std::vector<Key> other_keys() {
  return {
      KEY(augment.flip, "probability to mirror left and right", kUnit),
      KEY(augment.flip_vertical, "probability to mirror top and bottom", kUnit),
      KEY(augment.scale_min, "scale-and-crop: the smallest factor", kPositive),
      KEY(augment.scale_max, "scale-and-crop: the largest factor", kPositive),
      KEY(augment.min_visible, "boxes cropped to less are ignored", kUnit),
      KEY(augment.brightness, "factor 1 +- this", kUnit),
      KEY(augment.contrast, "factor 1 +- this", kUnit),
      KEY(augment.saturation, "factor 1 +- this", kUnit),
      KEY(augment.hue, "turn by +- this part of a circle", kUnit),
      KEY(augment.grey, "probability to lose all colour", kUnit),
      KEY(eval.every, "epochs between scorings during training; 0: only at the end", kCount),
      KEY(eval.batch, "pictures at a time; smaller ones are padded, which statistics of group norms see", kPictures),
      KEY(eval.pictures, "on the page of validation pictures", {0, 100}),
      KEY(conv.algo, "how f32 convolutions are computed", {}, "auto | direct | winograd | reference"),
  };
}

// "loss.gamma" of RetinaNetOptions is the key "model.loss.gamma"; "model." may be left out.
std::vector<Key> model_keys() {
  std::vector<Key> keys;
  for (auto& [name, unused] : to_text(RetinaNetOptions{})) {
    Key k{"model." + name, "", help_of_option(name), {}, {}};
    k.get = [name = name](const Config& c) {
      for (auto& [other, value] : to_text(c.model))
        if (other == name) return value;
      return std::string();
    };
    k.set = [name = name](Config& c, const std::string& value) { set_option(c.model, name, value); };
    keys.push_back(std::move(k));
  }
  return keys;
}

// Names of version 0.1's first configurations and checkpoints, which still load.
const std::map<std::string, std::string> kEarlierNames = {
    {"class_loss", "loss.kind"}, {"alpha", "loss.alpha"}, {"gamma", "loss.gamma"}, {"star_beta", "loss.beta"}};

std::vector<std::string> key_names() {
  std::vector<std::string> names{"preset"};
  for (auto& k : config_keys()) names.push_back(k.name);
  return names;
}
// For suggestions: those of the network without "model." too, unless a name has it.
std::vector<std::string> names_as(const std::string& name) {
  std::vector<std::string> names = key_names();
  if (!name.starts_with("model."))
    for (auto& k : key_names())
      if (k.starts_with("model.")) names.push_back(k.substr(6));
  return names;
}

std::string environment_name(const std::string& key) {
  std::string s = "FOVEA_" + key;
  for (char& c : s) c = c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return s;
}

// Kubernetes tells each container of each service: FOVEA_TRAIN_PORT and others are of one that is called fovea-train.
bool is_of_service(const std::string& variable) {
  return variable.ends_with("_SERVICE_HOST") || (variable + "_").find("_PORT_") != variable.npos;
}

// The preset's network and its training keys, given without their section ("lr" is train.lr).
void apply_preset(Config& config, const std::string& name) {
  const Preset found = preset(name);
  config.preset = name;
  const auto plain = to_text(RetinaNetOptions{}), wanted = to_text(found.model);
  config.model = found.model;
  const std::string origin = "preset " + name;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i].second != plain[i].second) config.origin["model." + wanted[i].first] = origin;
  for (auto& [short_name, value] : found.training) {
    std::string full = short_name;
    for (auto& section : {"eval.", "augment.", "data.", "train."})  // the last one wins: "batch" is train.batch
      if (find_key(section + short_name)) full = section + short_name;
    set_key(config, full, value, origin);
  }
}

// Learning a few pictures by heart wants steps rather than epochs, and one score at the end.
void apply_overfit(Config& config) {
  if (config.train.overfit == 0) return;
  const auto chosen = [&](const char* name) { return config.origin.count(name) > 0 && !from_preset(config, name); };
  const std::string origin = "train.overfit";
  if (!chosen("train.epochs") && !chosen("train.steps")) set_key(config, "train.steps", "300", origin);
  if (!chosen("eval.every")) set_key(config, "eval.every", "0", origin);
  if (!chosen("train.warmup")) set_key(config, "train.warmup", "20", origin);
}

struct Entry {
  std::string key, value, where;  // where: for messages, and the origin unless that is known
  std::string origin{};
  bool of_run = false;  // of a file by to_toml(), which names every key, chosen or not
};

std::string value_text(const toml::node& node, const std::string& where) {
  if (auto* list = node.as_array()) {
    std::vector<std::string> items;
    for (auto& item : *list) items.push_back(value_text(item, where));
    return joined(items);
  }
  if (auto v = node.value_exact<bool>()) return text_of(*v);
  if (auto v = node.value_exact<int64_t>()) return text_of(*v);
  if (auto v = node.value_exact<double>()) return text_of(*v);
  if (auto v = node.value_exact<std::string>()) return *v;
  fail(Code::usage, where + ": a value of this type is not used here");
}

void flatten(const toml::table& table, const std::string& prefix, const std::string& name, std::vector<Entry>& out) {
  for (auto&& [k, node] : table) {
    const std::string full = prefix + std::string(k.str());
    const std::string where = name + ":" + std::to_string(node.source().begin.line);
    if (auto* inner = node.as_table()) flatten(*inner, full + ".", name, out);
    else out.push_back({full, value_text(node, where), where});
  }
}

std::vector<Entry> toml_entries(const std::string& text, const std::string& name) {
  std::vector<Entry> entries;
  try {
    flatten(toml::parse(text, name), "", name, entries);
  } catch (const toml::parse_error& error) {
    fail(Code::usage, name + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  }
  return entries;
}

// What follows the # of a line, outside of quotes.
std::string comment_of(const std::string& line) {
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote == '"' && c == '\\') ++i;
    else if (quote ? c == quote : c == '"' || c == '\'') quote = quote ? '\0' : c;
    else if (!quote && c == '#') return trimmed(line.substr(i + 1));
  }
  return "";
}

// The entries of a file that to_toml() wrote, with the origins in it.
std::vector<Entry> run_entries(const std::string& text, const std::string& name) {
  std::vector<Entry> entries = toml_entries(text, name);
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(comment_of(line));
  for (auto& entry : entries) {
    entry.of_run = true;
    const size_t line = std::stoul(entry.where.substr(entry.where.rfind(':') + 1));
    if (line >= 1 && line <= lines.size()) entry.origin = lines[line - 1];
  }
  return entries;
}

std::vector<Entry> environment_entries() {
  std::map<std::string, std::string> known;
  for (auto& name : key_names()) known[environment_name(name)] = name;
  std::vector<Entry> entries;
  std::vector<std::string> names;
  for (auto& [variable, unused] : known) names.push_back(variable);
  for (char** e = environ; *e; ++e) {
    const std::string line = *e, variable = line.substr(0, line.find('='));
    if (auto it = known.find(variable); it != known.end()) {
      entries.push_back({it->second, line.substr(variable.size() + 1), variable});
    } else {
      for (const char* section :
           {"FOVEA_TRAIN_", "FOVEA_DATA_", "FOVEA_AUGMENT_", "FOVEA_EVAL_", "FOVEA_CONV_", "FOVEA_MODEL_"})
        if (variable.starts_with(section) && !is_of_service(variable))
          fail(Code::usage,
               text("the environment variable ", variable, " names no configuration key", suggestion(variable, names)));
    }
  }
  return entries;
}

std::string read_text(const std::string& path) {
  std::error_code error;
  check(Code::usage, !std::filesystem::is_directory(path, error), "the configuration file '", path, "' is a folder");
  std::ifstream file(path, std::ios::binary);
  check(Code::usage, file.good(), "cannot read the configuration file '", path, "'");
  std::string content((1 << 20) + 1, '\0');  // more than any has; a device or a pipe may have no end
  content.resize(size_t(file.read(content.data(), std::streamsize(content.size())).gcount()));
  check(Code::usage, content.size() <= 1 << 20, "the configuration file '", path, "' is larger than 1 MiB; is it one?");
  return content;
}

const char* const kFirstLine = "# The configuration of a run";  // of to_toml()

// Numbers and booleans bare, text quoted, lists in brackets.
std::string toml_value(const Key& k, const Config& config) {
  const std::string value = k.get(config);
  const bool list = k.type == "list of numbers" || (k.type.empty() && value.find(',') != std::string::npos);
  if (list) return "[" + value + "]";
  double ignored = 0;
  const bool bare = value == "true" || value == "false" || read_number(value, ignored);
  const bool is_text = k.type == "text" || k.type.find('|') != std::string::npos;
  return bare && !(is_text && k.type != "true | false") ? value : quoted(value);
}

}  // namespace

const std::vector<Key>& config_keys() {
  static const std::vector<Key> keys = [] {
    std::vector<Key> all;
    for (auto& part : {train_keys(), data_keys(), other_keys(), model_keys()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return keys;
}

const Key* find_key(std::string name) {
  const auto earlier = kEarlierNames.find(name.starts_with("model.") ? name.substr(6) : name);
  if (earlier != kEarlierNames.end()) name = "model." + earlier->second;
  for (auto& k : config_keys())
    if (k.name == name || (k.name.starts_with("model.") && k.name.compare(6, std::string::npos, name) == 0)) return &k;
  return nullptr;
}

bool from_preset(const Config& config, const std::string& name) {
  const auto it = config.origin.find(name);
  return it != config.origin.end() && it->second == "preset " + config.preset;
}

std::pair<std::string, std::string> setting_of(const std::string& text) {
  const auto equals = text.find('=');
  check(Code::usage, equals != std::string::npos, "--set ", text, ": expected key=value");
  return {trimmed(text.substr(0, equals)), trimmed(text.substr(equals + 1))};
}

void set_key(Config& config, const std::string& name, const std::string& value, const std::string& origin) {
  const Key* k = find_key(name);
  if (!k) fail(Code::usage, text(origin, ": unknown key '", name, "'", suggestion(name, names_as(name))));
  try {
    k->set(config, value);
  } catch (const Error& error) { fail(error.code, origin + ": " + name + ": " + error.what()); }
  config.origin[k->name] = origin;
}

// The entries of a stronger source. Where it says how many epochs, the steps of a weaker one end.
static void add_layer(std::vector<Entry>& layers, std::vector<Entry> more) {
  const auto last = [](const std::vector<Entry>& entries, const char* key) -> const Entry* {
    const auto at = std::find_if(entries.rbegin(), entries.rend(), [&](const Entry& e) { return e.key == key; });
    return at == entries.rend() ? nullptr : &*at;
  };
  const Entry *epochs = last(more, "train.epochs"), *steps = last(layers, "train.steps");
  if (epochs && steps && steps->value != "0" && !last(more, "train.steps")) {
    Entry none = *epochs;
    none.key = "train.steps", none.value = "0";
    more.push_back(none);
  }
  layers.insert(layers.end(), more.begin(), more.end());
}

static std::string preset_of(const std::vector<Entry>& layers) {
  std::string name = Config().preset;
  for (auto& entry : layers)
    if (entry.key == "preset") name = entry.value;
  return name;
}

Config load_config(const ConfigSources& sources) {
  std::vector<Entry> layers;  // weakest first
  if (!sources.text.empty()) layers = toml_entries(sources.text, sources.text_name);
  if (!sources.file.empty()) {
    const std::string file = read_text(sources.file);
    const bool of_run = sources.own || file.starts_with(kFirstLine);
    layers = (of_run ? run_entries : toml_entries)(file, sources.file);
  }
  const std::string begun = preset_of(layers);
  // Of a run's own file: what its first command line said stays above the environment, but for what is of a machine.
  const auto first_asked = std::stable_partition(layers.begin(), layers.end(), [&](const Entry& e) {
    const Key* k = find_key(e.key);
    const bool said = e.origin.starts_with("--") || e.origin == "flag";  // as earlier runs have it
    return !sources.own || !said || !k || k->of_machine();
  });
  std::vector<Entry> kept(first_asked, layers.end());
  layers.erase(first_asked, layers.end());
  if (sources.environment) add_layer(layers, environment_entries());
  add_layer(layers, std::move(kept));
  std::vector<Entry> asked;  // on the command line
  for (auto& setting : sources.settings) {
    auto [key, value] = setting_of(setting);
    asked.push_back({std::move(key), std::move(value), "--set"});
  }
  for (auto& [k, value, flag] : sources.flags) asked.push_back({k, value, flag});
  add_layer(layers, std::move(asked));
  Config config;
  const std::string name = preset_of(layers);
  // Another would only rename the run: its own file names every key.
  check(Code::usage, !sources.own || name == begun, "'", std::filesystem::path(sources.file).parent_path().string(),
        "' was begun with preset ", begun, ", not ", name, ": a run keeps its preset\n  hint: leave out --preset (and ",
        "FOVEA_PRESET), or begin a new run with --out");
  apply_preset(config, name);
  for (auto& entry : layers) {
    if (entry.key == "preset") continue;
    const Key* k = find_key(entry.key);
    const std::string before = k && entry.of_run ? k->get(config) : "";
    auto origin = config.origin.extract(k ? k->name : "");
    set_key(config, entry.key, entry.value, entry.where);
    if (!entry.of_run) continue;
    const bool chosen = !entry.origin.empty() && entry.origin != "preset " + begun;
    if (sources.own && !entry.origin.empty()) {
      config.origin[k->name] = entry.origin;
    } else if (!chosen && k->get(config) == before) {  // neither by that run nor by hand
      config.origin.erase(k->name), config.origin.insert(std::move(origin));
    }
  }
  apply_overfit(config);
  check(Code::usage, config.augment.scale_min <= config.augment.scale_max,
        "augment.scale_min is larger than scale_max");
  return config;
}

std::string to_toml(const Config& config, bool with_origin) {
  std::ostringstream s;
  s << kFirstLine << ", as it was used. `fovea train --config FILE` reads it back.\n";
  s << "preset = " << quoted(config.preset) << "\n";
  // Keys by section, those without a dot of their own first: TOML wants a table's keys before its sub-tables.
  std::map<std::string, std::string> tables;
  std::vector<std::string> order;
  for (auto& k : config_keys()) {
    if (!with_origin && k.of_machine()) continue;
    const auto dot = k.name.rfind('.');
    const std::string table = k.name.substr(0, dot);
    if (tables.emplace(table, "").second) order.push_back(table);
    std::string line = k.name.substr(dot + 1) + " = " + toml_value(k, config);
    if (auto it = config.origin.find(k.name); with_origin && it != config.origin.end())
      line += std::string(line.size() < 40 ? 40 - line.size() : 1, ' ') + "# " + it->second;
    tables[table] += line + "\n";
  }
  for (auto& table : order) s << "\n[" << table << "]\n" << tables[table];
  return s.str();
}

std::string key_table(const Config& config) {
  Table table({"key", "value", "what it is", "type"});
  for (auto& k : config_keys()) {
    const std::string value = k.get(config);
    table.row({k.name, k.type.empty() ? joined(split(value, ',')) : value, k.help, k.type});  // "1,2" may be folded
  }
  return table.str();
}

}  // namespace fovea
