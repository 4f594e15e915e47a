// Results of an experiment as lists, differences and CSV.
#include <cmath>

#include "core/error.h"
#include "core/words.h"
#include "tools/lab/cells.h"

namespace fovea::lab {

std::vector<double> SettingResult::values(const std::string& metric) const {
  std::vector<double> all;
  for (auto& [seed, metrics] : seeds)
    if (auto it = metrics.find(metric); it != metrics.end() && it->second.size() == 1) all.push_back(it->second[0]);
  return all;
}

std::vector<double> SettingResult::mean(const std::string& metric) const {
  std::vector<double> sum;
  double n = 0;
  for (auto& [seed, metrics] : seeds) {
    const auto it = metrics.find(metric);
    if (it == metrics.end() || it->second.size() < sum.size()) continue;  // a training that diverged ends early
    if (it->second.size() > sum.size()) sum.assign(it->second.size(), 0), n = 0;
    ++n;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += it->second[i];
  }
  for (double& v : sum) v /= n;
  return sum;
}

const SettingResult& find(const Results& results, const std::string& setting) {
  for (auto& r : results)
    if (r.setting.name == setting) return r;
  fail(Code::failure, "lab: there is no setting '" + setting + "'");
}

std::vector<double> differences(const Results& results, const Contrast& c) {
  std::vector<double> d;
  const auto diverged = [](const Metrics& m) {
    return m.contains("diverged") && m.at("diverged") == std::vector<double>{1};
  };
  const SettingResult &a = find(results, c.a.setting), &b = find(results, c.b.setting);
  for (auto& [seed, metrics] : a.seeds)
    for (auto& [other, others] : b.seeds) {
      if (seed != other || (diverged(metrics) && diverged(others))) continue;
      const auto x = metrics.find(c.a.metric), y = others.find(c.b.metric);
      if (x == metrics.end() || y == others.end() || x->second.size() != 1 || y->second.size() != 1) continue;
      d.push_back(x->second[0] - y->second[0]);
    }
  return d;
}

std::string results_csv(const Results& results) {
  std::map<std::string, bool> columns;  // numbers only: lists, which may have one entry, stay in the file of cells
  for (auto& r : results)
    for (auto& [seed, metrics] : r.seeds)
      for (auto& [name, values] : metrics) {
        bool& all = columns.try_emplace(name, true).first->second;
        all = all && values.size() == 1;
      }
  std::erase_if(columns, [](auto& column) { return !column.second; });
  std::string s = "setting,seed";
  for (auto& [name, unused] : columns) s += "," + name;
  s += "\n";
  for (auto& r : results)
    for (auto& [seed, metrics] : r.seeds) {
      s += csv_field(r.setting.name) + "," + std::to_string(seed);
      for (auto& [name, unused] : columns) {
        const auto it = metrics.find(name);
        s += "," + (it == metrics.end() ? std::string() : shortest(it->second[0]));
      }
      s += "\n";
    }
  return s;
}

}  // namespace fovea::lab
