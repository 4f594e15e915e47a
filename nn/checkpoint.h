// Weights of a model as files under torchvision's names and layouts, and checkpoints that a run resumes from to the
// bit.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nn/ema.h"
#include "nn/module.h"
#include "nn/optim.h"
#include "nn/safetensors.h"

namespace fovea {

// Between a tensor in memory and its layout in a file (nn/module.h); also for gradients.
Tensor to_file_layout(const Tensor& value, Layout layout);
Tensor from_file_layout(const Tensor& value, Layout layout);
Shape file_shape(const Shape& memory, Layout layout);

struct LoadOptions {
  std::string file_prefix;   // names in the file begin with it, e.g. "param/"; others there are not looked at
  std::string model_prefix;  // only the model's names that begin with it are loaded, and the file has them without it:
                             // "backbone.body." loads a classifier's file into the detector's backbone
  std::string skip;          // pattern of model names to leave as they are (a head for other classes)
  std::string may_miss;      // pattern of model names that the file need not have
  std::string may_be_extra;  // pattern of names in the file that the model need not have
  bool average = true;       // prefer the averaged weights of a checkpoint that holds them
  // Where the only tensors of a wrong shape match `class_names`, the message speaks of classes; each of these tensors
  // has a multiple of the class count as its outputs, or with `background` of one more.
  std::string class_names = "*cls_logits*";
  int64_t classes = 0;  // of the model; 0: not known
  bool background = false;
  std::string class_advice =  // ends that message
      ": build the model with that many classes, or leave out the tensors that depend on them";
};

struct LoadReport {
  int64_t loaded = 0;                            // tensors
  std::vector<std::string> missing, unexpected;  // that the patterns allowed
};

// Copies weights into the model, converting layouts and element types. Before it changes anything it throws
// Error{Code::model} that names `file` and lists what is missing, unexpected or of a wrong shape. num_batches_tracked
// and loss_normaliser may always be absent or extra.
LoadReport load_weights(Module& model, const NamedTensors& weights, const LoadOptions& options = {},
                        const std::string& file = "weights");
LoadReport load_weights(Module& model, const std::string& path, const LoadOptions& options = {});

// The model's parameters and buffers in the file's names and layouts; metadata as given.
NamedTensors weights_of(const Module& model);
void save_weights(const std::string& path, const Module& model,
                  const std::map<std::string, std::string>& metadata = {});

// What a checkpoint says of the run that wrote it.
struct CheckpointInfo {
  int64_t step = 0;    // steps done
  std::string config;  // the effective configuration, as text
  std::vector<std::string> classes;
  std::string isa, version;                  // filled in by save_checkpoint
  std::map<std::string, std::string> extra;  // anything else, e.g. best_ap
};

// The state of a run: model, and what else there is (null where there is none).
struct RunState {
  Module* model = nullptr;
  Optimizer* optimizer = nullptr;
  Ema* ema = nullptr;
};

// How the names begin of what a checkpoint has beside the model's own tensors.
constexpr char kOptimizerPrefix[] = "optimizer/", kAveragePrefix[] = "average/";

// One safetensors file: the model's tensors under their own names (so it is a weights file too), "optimizer/<name>",
// "average/<name>", and the info as metadata. Atomic.
void save_checkpoint(const std::string& path, const RunState& state, const CheckpointInfo& info);
// Restores all of it to the bit. Throws Error{Code::model} where the file is no checkpoint or belongs to another
// network, optimiser or set of trained parameters, before anything is changed.
CheckpointInfo load_checkpoint(const std::string& path, const RunState& state);
// The same of a file that was read; `path` is for messages.
CheckpointInfo load_checkpoint(const NamedTensors& file, const RunState& state, const std::string& path);
// Of read_safetensors(); nothing where the file is a plain weights file.
std::optional<CheckpointInfo> checkpoint_info(const NamedTensors& file);

// A folder of checkpoints: step-<n>.safetensors, and the files `latest` and `best` that name one of them.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::string folder, int keep = 3);  // looks only: also for the folder of a running run
  // Writes, points `latest` at it, then deletes all but the newest `keep` and the best; keep 0: nothing. Returns the
  // path. The first time it makes the folder and removes what killed writers left there.
  std::string save(const RunState& state, const CheckpointInfo& info);
  void mark_best(const std::string& path);
  // Paths; empty where there is none. latest() falls back to the highest step where the pointer is lost.
  std::string latest() const;
  std::string best() const;
  std::vector<int64_t> steps() const;  // of all there are, ascending

 private:
  std::string pointed(const char* pointer) const;
  std::string folder_;
  int keep_;
  bool prepared_ = false;
};

}  // namespace fovea
