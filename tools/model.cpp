// fovea model: a preset's network as a table of layers, costs, receptive fields and anchors.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "models/presets.h"
#include "models/summary.h"
#include "tools/command.h"
#include "tools/config.h"

namespace fovea {
namespace {

// The first `depth` names of a path: layers with the same ones are one row.
std::string head_of(const std::string& path, int depth) {
  size_t end = 0;
  for (int i = 0; i < depth && end != std::string::npos; ++i) end = path.find('.', end == 0 ? 0 : end + 1);
  return path.substr(0, end);
}

std::string shapes_text(const std::vector<Shape>& shapes) {
  if (shapes.size() < 2) return shapes.empty() ? "" : shapes[0].str();
  return shapes.front().str() + " .. " + shapes.back().str();
}

std::vector<LayerSummary> grouped(const std::vector<LayerSummary>& layers, int depth) {
  std::vector<LayerSummary> rows;
  for (const LayerSummary& layer : layers) {
    const std::string path = head_of(layer.path, depth);
    auto row = std::find_if(rows.begin(), rows.end(), [&](const LayerSummary& r) { return r.path == path; });
    if (row == rows.end()) row = rows.insert(rows.end(), {.path = path, .outputs = {}});
    row->outputs = layer.outputs;  // of the last layer of the group
    row->parameters += layer.parameters, row->multiply_adds += layer.multiply_adds, row->bytes += layer.bytes;
  }
  return rows;
}

void print(const std::string& name, const Summary& s, std::pair<int64_t, int64_t> hw, int depth) {
  std::printf("%s, one image of %lldx%lld\n\n", name.c_str(), static_cast<long long>(hw.first),
              static_cast<long long>(hw.second));
  Table layers({"module", "output", "parameters", "multiply-adds", "outputs"});
  for (const LayerSummary& row : grouped(s.layers, depth))
    layers.row({row.path, shapes_text(row.outputs), count_text(row.parameters), count_text(row.multiply_adds),
                bytes_text(static_cast<double>(row.bytes))});
  layers.row({"total", "", count_text(s.parameters), count_text(s.multiply_adds), ""});
  std::printf("%s\n", layers.str().c_str());
  std::printf("%s parameters, %s of them trained; %.2f GMAC; a training step keeps %s of activations\n\n",
              count_text(s.parameters).c_str(), count_text(s.trainable).c_str(),
              static_cast<double>(s.multiply_adds) * 1e-9, bytes_text(static_cast<double>(s.activations)).c_str());
  Table levels({"level", "stride", "map", "anchors", "every", "sides", "inside the image", "receptive field"});
  int64_t total = 0;
  for (const LevelSummary& l : s.levels) {
    total += l.anchors;
    levels.row({l.name, count_text(l.stride), text(l.height, "x", l.width), count_text(l.anchors),
                text(l.anchor_step.first, "x", l.anchor_step.second),
                number(l.smallest, 0) + " .. " + number(l.largest, 0), number(100 * l.inside, 0) + " %",
                count_text(l.receptive_field)});
  }
  std::printf("%s%s anchors; their steps and sides, and receptive fields, in pixels\n", levels.str().c_str(),
              count_text(total).c_str());
}

Json to_json(const std::string& name, const Summary& s, std::pair<int64_t, int64_t> hw) {
  Json out = {{"model", name}, {"height", hw.first}, {"width", hw.second}};
  out["parameters"] = s.parameters, out["trainable"] = s.trainable;
  out["multiply_adds"] = s.multiply_adds, out["activation_bytes"] = s.activations;
  for (const LevelSummary& l : s.levels)
    out["levels"].add({{"level", l.name},
                       {"stride", l.stride},
                       {"height", l.height},
                       {"width", l.width},
                       {"anchors", l.anchors},
                       {"anchor_step", {l.anchor_step.first, l.anchor_step.second}},
                       {"smallest", l.smallest},
                       {"largest", l.largest},
                       {"inside", l.inside},
                       {"receptive_field", l.receptive_field}});
  for (const LayerSummary& l : s.layers) {
    Json shapes = Json::list();
    for (const Shape& shape : l.outputs) shapes.add(shape.dims());
    out["layers"].add({{"module", l.path},
                       {"outputs", shapes},
                       {"parameters", l.parameters},
                       {"multiply_adds", l.multiply_adds},
                       {"bytes", l.bytes}});
  }
  return out;
}

std::pair<int64_t, int64_t> read_size(const std::string& size, const Preset& p) {
  if (!size.empty()) return parse_size(size);
  int64_t side = 320;  // or the training's short side
  for (const auto& [key, value] : p.training)
    if (key == "short_side") side = std::stoll(value);
  return {side, side};
}

struct Flags {
  std::string name, size;
  std::vector<std::string> settings;
  int depth = 4;
  bool json = false;
};

void show_model(const Flags& flags) {
  if (flags.name.empty()) {
    Table table({"preset", "what it is"});
    Json all = Json::list();
    for (const Preset& p : presets()) {
      table.row({p.name, p.description});
      all.add({{"name", p.name}, {"description", p.description}});
    }
    if (flags.json) return print_json(all);
    std::printf("%s", table.str().c_str());
    return;
  }
  Preset p = preset(flags.name);
  for (const std::string& setting : flags.settings) {
    const auto [key, value] = setting_of(setting);
    set_option(p.model, key.starts_with("model.") ? key.substr(6) : key, value);
  }
  const auto hw = read_size(flags.size, p);
  const Summary s = summarise(p.model, hw);
  if (flags.json) print_json(to_json(p.name, s, hw));
  else print(p.name, s, hw, flags.depth);
}

}  // namespace

void add_model(Command& program) {
  Command command = program.command("model", "Shows a network: layers, costs, receptive fields, anchors.",
                                    "fovea model\nfovea model toy\nfovea model retinanet_r50 --size 512x640 --depth 3");
  auto flags = std::make_shared<Flags>();
  command.option("preset", flags->name, "the network's preset; without it: the list of them");
  command.option("--size", flags->size, "of the image; default: what the preset trains on").type("HxW");
  command.option("--depth", flags->depth, "names of a path that make a row of their own (9: every layer)").range(1, 9);
  command.option("--set", flags->settings, "an option of the network, e.g. model.channels=128").type("KEY=VALUE");
  command.flag("--json", flags->json, "machine-readable result, every layer");
  command.run([flags] { show_model(*flags); });
}

}  // namespace fovea
