// From a file of weights to a network: a run's checkpoint knows its own configuration and classes, a foreign file needs
// a preset.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/retinanet.h"
#include "tools/command.h"
#include "tools/config.h"

namespace fovea {

struct LoadedModel {
  Config config;
  std::unique_ptr<RetinaNet> model;
  std::vector<std::string> classes;  // empty for a foreign file
  std::string path;                  // of the file
  // Foreign weights for COCO's 91 ids: their labels are the ids, 0 is the background.
  bool labels_are_ids() const { return classes.empty() && config.model.classes == 91; }
};

// What the network calls its classes.
struct ClassNames {
  std::vector<std::string> names;  // by label
  std::vector<int64_t> ids;        // COCO category ids: 1.. for our own classes, the label itself for torchvision's
  const std::string& of(int64_t id) const;
};
ClassNames names_of(const LoadedModel& loaded);

// The flags that `fovea eval` and `fovea detect` share.
struct WeightsOptions {
  std::string weights;                // a .safetensors file, or a run's folder: its best checkpoint, else its latest
  std::string preset;                 // for a file without a configuration
  std::vector<std::string> settings;  // --set key=value
  int64_t classes = 0;                // of a foreign file; 0: the preset's
  std::string precision = "f32";
  std::string device = "cpu";  // as use_device() takes it
  int threads = 0;             // of the computation; 0: all processors
};

void add_weights_flags(Command& app, WeightsOptions& options);

// Throws Code::usage where nothing or an unknown preset is named, or a key that changes nothing here; Code::model for a
// file that is missing or does not fit; Code::impossible for bf16 or tf32 on a processor without it.
LoadedModel load_model(const WeightsOptions& options);
// The file that `path` means: itself, or the best (else latest) checkpoint of the run in it.
std::string weights_file(const std::string& path);

}  // namespace fovea
