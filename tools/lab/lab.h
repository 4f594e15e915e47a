// The laboratory: what an experiment is. One row of the table in experiments.cpp says all that differs between them;
// the runner (tools/lab.cpp) trains the cells that are missing, judges the primary contrast and writes the page.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/config.h"
#include "tools/lab/stats.h"

namespace fovea::lab {

using Keys = std::vector<std::pair<std::string, std::string>>;
using Metrics = std::map<std::string, std::vector<double>>;  // of one training: a number or a list by name

struct Setting {
  std::string name;               // "gamma 2, alpha 0.25"
  Keys keys{};                    // what it changes in the configuration
  std::optional<double> paper{};  // the paper's AP in percent
  enum class When { always, full, grid } when = When::always;
};
// Appended to a setting's name, and this to its keys: the same on made scenes in which objects are rare (bench.h).
constexpr const char* kRare = "; rare";
inline const std::pair<std::string, std::string> kRareScenes{"lab.scenes", "rare"};

struct Quantity {
  std::string setting, metric;
};
// Stated before the run: a is above b, or (margin > 0) both are equal within the margin. Paired by seed.
struct Contrast {
  std::string statement{};  // "AP with gamma 2 is above AP with gamma 0"
  Quantity a{}, b{};
  double margin = 0;
};

struct LabOptions {
  bool quick = false, grid = false;
  int seeds = 0;  // 0: three with quick; otherwise 10 for the primary contrast and 5 for the others
  std::string data{}, format = "auto", out = "lab";
};

struct SettingResult {
  Setting setting;
  std::vector<std::pair<uint64_t, Metrics>> seeds;
  bool primary = false;
  std::vector<double> values(const std::string& metric) const;  // of each seed: a number
  std::vector<double> mean(const std::string& metric) const;    // over the seeds with the longest list: a list
};
using Results = std::vector<SettingResult>;
const SettingResult& find(const Results& results, const std::string& setting);
// a - b of the primary contrast, for every seed that has both, but for those that diverged in both: two APs of 0 would
// be an equality.
std::vector<double> differences(const Results& results, const Contrast& contrast);

// What a page shows beside claim, table and verdict.
struct Page {
  std::vector<std::pair<std::string, std::string>> figures{};  // file name without ending, SVG
  std::string more{};                                          // HTML, script included, after the figures
  std::vector<std::string> notes{};                            // sentences below the table
};

// Trains what an experiment needs; opens or makes the data at its first use.
class Bench;
using Measure = Metrics (*)(Bench& bench, const Keys& keys, uint64_t seed);
Metrics measure_detector(Bench& bench, const Keys& keys, uint64_t seed);    // tools/lab/detector.cpp
Metrics measure_classifier(Bench& bench, const Keys& keys, uint64_t seed);  // tools/lab/classifier.cpp

struct Experiment {
  std::string name, claim, source;
  std::string differs;              // from the paper, beside the data and the network
  std::vector<Setting> settings{};  // none: nothing is trained, and there is no verdict
  Contrast primary{};
  Measure measure = nullptr;
  std::vector<std::string> columns{};  // of the table: metrics
  void (*show)(const Results& results, Page& page) = nullptr;
};
const std::vector<Experiment>& experiments();  // in the order of `fovea lab list`

// What their pages show: tools/lab/figures.cpp.
void show_loss(const Results& results, Page& page);
void show_scores(const Results& results, Page& page);  // AP of every setting beside the paper's
void show_gamma(const Results& results, Page& page);
void show_prior(const Results& results, Page& page);
void show_anchors(const Results& results, Page& page);
void show_speed(const Results& results, Page& page);
void show_cdf(const Results& results, Page& page);
void show_variants(const Results& results, Page& page);
void show_classify(const Results& results, Page& page);
void show_imbalance(const Results& results, Page& page);

// The page of an experiment, whole in one file, and the index of several. verdict: empty where nothing is judged.
struct Report {
  const Experiment* experiment = nullptr;
  std::string verdict{}, judged{};  // "reproduced"; the numbers behind it
  std::string setting{}, command{};
  Results results{};
  Page page{};
};
bool percent(const std::string& metric);  // whether a page shows it as such
std::string html_page(const Report& report);
std::string html_index(const std::vector<Report>& reports);
std::string results_csv(const Results& results);

}  // namespace fovea::lab
