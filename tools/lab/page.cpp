// The pages: one HTML file each, with style, figures and script inside, and nothing that a network is needed for.
#include <cmath>

#include "core/words.h"
#include "tools/html.h"
#include "tools/lab/lab.h"
#include "tools/lab/svg.h"
#include "tools/terminal.h"

namespace fovea::lab {
namespace {

const char* const kStyle = R"(<style>
:root{color-scheme:light dark;--ink:#1c1e22;--soft:#5c636e;--line:#e3e5e9;--page:#fff;--card:#f6f7f9;--yes:#00704f;
--no:#a63c00;--open:#5c636e}
@media(prefers-color-scheme:dark){:root{--ink:#e7e9ec;--soft:#a2a9b3;--line:#33373d;--page:#16181b;--card:#1f2226;
--yes:#2fd0a0;--no:#ff9a52;--open:#a2a9b3}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:62rem;margin:1.5rem auto;
padding:0 .8rem}h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0}h2{font-size:1.1rem;margin:1.8rem 0 .4rem}
p{margin:.4rem 0}.soft,footer{color:var(--soft);font-size:.92rem}a{color:inherit}
.verdict{background:var(--card);border-left:.35rem solid var(--open);padding:.6rem .9rem;margin:1rem 0}
.verdict b{color:var(--open)}td .verdict{margin:0;padding:.1rem .4rem;border-left-width:.2rem}
.yes{border-color:var(--yes)}.yes b{color:var(--yes)}.no{border-color:var(--no)}
.no b{color:var(--no)}figure{margin:0;background:var(--page);border:1px solid var(--line);border-radius:.4rem;
padding:.4rem}figure:only-child{max-width:36rem}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.8rem}
svg{width:100%;height:auto;display:block}body>svg{max-width:34rem}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;margin:.4rem 0;width:100%}td,th{padding:.25rem .5rem;text-align:left;
border-bottom:1px solid var(--line)}th[scope=row]{font-weight:400}@media(max-width:26rem){td,th{padding:.25rem .3rem}}
.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.88rem;
overflow-wrap:anywhere}label{margin-right:1.2rem;white-space:nowrap}input{vertical-align:middle}
</style>)";

std::string head(const std::string& title) { return html_head(title, kStyle) + "\n"; }

std::string title_of(const std::string& metric) {
  static const std::map<std::string, std::string> titles = {
      {"ap", "AP"},
      {"ap50", "AP50"},
      {"auc", "ROC-AUC"},
      {"ece", "calibration error"},
      {"ms", "ms a picture"},
      {"rare", "rare pictures"},
      {"common", "common pictures"},
      {"coverage", "boxes covered"},
      {"easy_mean", "gradient of easy negatives"},
      {"positives", "positive anchors"},
      {"first_loss", "first loss"},
      {"expected_loss", "... by the formula"},
      {"hardest_fifth_ce", "loss of hardest 20 % positives, gamma 0"},
      {"hardest_fifth", "... gamma 2"},
      {"hardest_hundredth_ce", "loss of hardest 1 % negatives, gamma 0"},
      {"hardest_hundredth", "... gamma 2"},
      {"focus_positives", "focus of positives"},
      {"focus_negatives", "focus of negatives"}};
  const auto it = titles.find(metric);
  return it == titles.end() ? metric : it->second;
}

std::string verdict_class(const std::string& verdict) {
  return verdict == "reproduced" ? " yes" : verdict == "not reproduced" ? " no" : "";
}

std::string table(const Report& r) {
  bool paper = false;
  for (auto& row : r.results) paper = paper || row.setting.paper;
  std::string s = "<div class=wide><table><tr><th scope=col>setting<th scope=col class=n>seeds";
  for (auto& c : r.experiment->columns)
    s += "<th scope=col class=n>" + escaped(title_of(c)) + (percent(c) ? " (%)" : "");
  s += std::string(paper ? "<th scope=col class=n>the paper's AP" : "") + "\n";
  for (auto& row : r.results) {
    const std::string name = escaped(row.setting.name);
    s += "<tr><th scope=row>" + (row.primary ? "<b>" + name + "</b>" : name) + "<td class=n>" +
         std::to_string(row.seeds.size());
    for (auto& c : r.experiment->columns) {
      const Interval i = interval(row.values(c));
      const double f = percent(c) ? 100 : 1;
      char cell[80] = "";
      if (i.n > 0) std::snprintf(cell, sizeof cell, "%.4g", f * i.mean);
      s += std::string("<td class=n>") + cell;
      if (i.n > 1 && i.deviation > 1e-9 * std::abs(i.mean))
        std::snprintf(cell, sizeof cell, " &plusmn; %.2g", f * (i.high - i.mean)), s += cell;
    }
    if (paper) s += "<td class=n>" + (row.setting.paper ? short_number(*row.setting.paper) : std::string());
    s += "\n";
  }
  return s + "</table></div>";
}

}  // namespace

bool percent(const std::string& metric) {
  return metric == "ap" || metric == "ap50" || metric == "coverage" || metric == "easy_mean" ||
         metric.starts_with("hardest");
}

std::string html_page(const Report& r) {
  const Experiment& e = *r.experiment;
  std::string s = head("Fovea lab: " + e.name) + "<p class=soft>fovea lab " + e.name + " &middot; " +
                  escaped(e.source) + "</p><h1>" + escaped(e.claim) + "</h1>\n";
  if (!r.verdict.empty())
    s += "<div class=\"verdict" + verdict_class(r.verdict) + "\"><b>" + escaped(r.verdict) +
         "</b>: " + escaped(e.primary.statement) + ".<p class=soft>" + escaped(r.judged) + "</p></div>\n";
  s += "<div class=two>\n";
  for (auto& [name, figure] : r.page.figures) s += "<figure id=\"" + escaped(name) + "\">" + figure + "</figure>\n";
  s += "</div>\n";
  if (!r.results.empty())
    s += "<h2>All settings</h2>" + table(r) +
         "<p class=soft>Mean &plusmn; half of the 95 % interval "
         "over seeds; bold: the primary contrast, stated before the run and alone in the verdict. "
         "All else is description.</p>";
  s += r.page.more;
  s += "<h2>How to read it</h2>";
  for (auto& note : r.page.notes) s += "<p>" + escaped(note) + "</p>\n";
  if (!r.results.empty())
    s += e.measure == measure_classifier
             ? "<p>Here: " + escaped(r.setting) + ".</p>\n"
             : "<p>What differs from the paper, which trained ResNets from ImageNet weights on COCO for 90,000 steps "
               "of 16 "
               "pictures: here " +
                   escaped(r.setting) + ". The numbers beside ours are for the direction, not the level.</p>\n";
  if (!e.differs.empty())
    s += std::string(r.results.empty() ? "<p>What differs from the paper? " : "<p>") + escaped(e.differs) + "</p>\n";
  double seconds = 0;
  for (auto& row : r.results)
    for (double v : row.values("seconds")) seconds += v;
  s += "<footer><p>Made by <code>" + escaped(r.command) + "</code>";
  return s + (seconds > 0 ? "; its cells took " + duration(seconds) : "") + "</p></footer></html>\n";
}

std::string html_index(const std::vector<Report>& reports) {
  std::string s = head("Fovea lab") +
                  "<h1>The paper's claims, run</h1><p class=soft>Focal Loss for Dense Object Detection "
                  "(Lin et al. 2017): each claim with one contrast that was stated before the run.</p>"
                  "<table><tr><th scope=col>experiment<th scope=col>claim<th scope=col>verdict\n";
  for (auto& r : reports)
    s += "<tr><th scope=row><a href=\"" + r.experiment->name + "/report.html\">" + r.experiment->name + "</a><td>" +
         escaped(r.experiment->claim) + "<td><div class=\"verdict" + verdict_class(r.verdict) + "\"><b>" +
         (r.verdict.empty() ? "arithmetic" : escaped(r.verdict)) + "</b></div>\n";
  s += "</table>";
  if (!reports.empty()) s += "<p class=soft>" + escaped(reports.back().setting) + ".</p>";
  return s + "</html>\n";
}

}  // namespace fovea::lab
