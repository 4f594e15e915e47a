// A training run from its first step to its last, across interruptions: what `fovea train` does once it knows what to
// do.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "tools/evaluate.h"
#include "tools/run_dir.h"
#include "tools/terminal.h"
#include "tools/trainer.h"

namespace fovea {

struct SessionRequest {
  Config config;
  std::string out;
  bool resume = false;
  int64_t stop_after = 0;  // pause when so many steps of the run are done; 0: at its end
};

class Session {
 public:
  // Opens the data, builds the network, restores the last checkpoint. A new run touches no file before all of that
  // worked.
  explicit Session(SessionRequest request);
  // Trains to the end. Throws Exit{130 or 143} after a signal, once a checkpoint is written and the way on is said.
  void run();
  Json summary() const;  // of the run so far: its best and last scores

 private:
  // Whose weights are loaded: where they have the data's classes in another order, theirs is taken.
  void open_data(const std::string& weights);
  void check_texts() const;
  void load_start_weights();
  void restore(const std::string& latest);
  CheckpointInfo load_latest(const std::string& latest);
  void note_changes(const std::string& before, const std::string& name) const;
  void announce() const;
  void loop();
  void one_step(Loader& loader);
  void log_step(const StepResult& result, const Batch& batch, double wait, double work);
  void check_first_loss(const StepResult& result);
  void save();
  bool evaluation_due() const;
  void evaluate_now();
  void log_scores(bool best);
  void say_epoch(const std::string& scores);
  void report() const;
  void leave(int signal);
  std::string how_to_resume() const;
  std::string how_to_verify() const;

  SessionRequest request_;
  Config& config_;
  std::optional<Dataset> train_, val_;
  std::unique_ptr<RetinaNet> model_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<RunDirectory> run_;
  std::optional<CheckpointFolder> checkpoints_;
  std::unique_ptr<Progress> progress_;
  std::optional<Evaluation> evaluation_;  // the last
  bool scoring_ = false;
  int64_t step_ = 0, saved_ = -1, total_ = 0, per_epoch_ = 1;
  double best_ap_ = -1, best_ap50_ = -1, loss_sum_ = 0;
  int64_t best_epoch_ = 0, loss_count_ = 0;
};

}  // namespace fovea
