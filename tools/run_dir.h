// A run directory: config.toml, env.json, log.jsonl (an event a line), metrics.csv (a scoring a line), checkpoints/.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/json.h"
#include "tools/config.h"

namespace fovea {

// What the report shows of an event. NaN where it says none.
struct StepFigures {
  double step, loss, ms;  // ms: with the wait for data
};
struct ScoreFigures {
  double step, epoch, loss, ap, ap50;
};

// As long as one lives it is the only one of its folder, whatever the program: create() and reopen() throw Code::usage
// where another trains there.
class RunDirectory {
 public:
  // A new run. Throws Code::usage where `path` exists and is not an empty folder.
  static RunDirectory create(const std::string& path, const Config& config, const Json& environment);
  // A run that goes on.
  static RunDirectory reopen(const std::string& path);
  void drop_after(int64_t step);  // later events and rows, and a line that a kill cut off

  // Both reach the file at once. Throw Code::failure where it cannot be written.
  void event(const Json& event);
  void metrics(const Json& row);  // its keys are the columns
  // Of the events "step" and "eval", and the last one of these that is the best. Of a run that goes on, after
  // drop_after(). Kept in memory: to read a log of 100,000 steps for each score would take longer than an epoch.
  const std::vector<StepFigures>& steps() const { return steps_; }
  const std::vector<ScoreFigures>& scores() const { return scores_; }
  const Json& best() const { return best_; }  // null where there is none
  Json environment() const;
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  explicit RunDirectory(std::string path);
  void append(const std::string& name, const std::string& line);
  void note(const Json& event);
  std::string path_;
  std::vector<StepFigures> steps_;
  std::vector<ScoreFigures> scores_;
  Json best_;
  std::shared_ptr<const int> lock_;  // the open file `.lock`
};

// Whether it is a folder without anything in it, or a new volume, which has lost+found alone.
bool holds_nothing(const std::string& path);
// What a run ran on: version, compiler, processor, instruction set, BLAS, threads.
Json environment_json(const std::string& device = "cpu");

}  // namespace fovea
