// The figures of each experiment, from its results.
#include <algorithm>
#include <cmath>

#include "core/words.h"
#include "tools/lab/probe.h"
#include "tools/lab/svg.h"
#include "tools/lab/terms.h"

namespace fovea::lab {
namespace {

DotChart dots(const Results& results, const std::string& metric, double factor, const std::string& title,
              const std::string& axis) {
  DotChart chart{.title = title, .x_title = axis};
  for (auto& r : results) {
    DotRow row{.name = r.setting.name, .strong = r.primary};
    if (metric == "ap") row.reference = r.setting.paper;
    for (double v : r.values(metric)) row.values.push_back(factor * v);
    const Interval i = interval(row.values);
    row.mean = i.n > 0 ? i.mean : NAN;
    row.low = i.n > 1 ? std::max(0.0, i.low) : NAN, row.high = i.n > 1 ? std::min(100.0, i.high) : NAN;  // percent
    chart.rows.push_back(row);
  }
  return chart;
}

double mean_of(const SettingResult& r, const std::string& metric) {
  const std::vector<double> v = r.values(metric);
  return v.empty() ? NAN : interval(v).mean;
}

std::vector<double> steps(double low, double high, int n) {
  std::vector<double> x;
  for (int i = 0; i <= n; ++i) x.push_back(low + (high - low) * i / n);
  return x;
}

}  // namespace

void show_scores(const Results& results, Page& page) {
  page.figures.push_back({"ap", svg(dots(results, "ap", 100, "Average precision by setting", "AP (%)"))});
}

// With --grid also AP over gamma and alpha.
void show_gamma(const Results& results, Page& page) {
  show_scores(results, page);
  HeatMap map{.title = "AP (%) by gamma and alpha", .x_title = "alpha", .y_title = "gamma", .ratio = false};
  const auto place = [](std::vector<std::string>& list, const std::string& name) {
    const auto at =
        std::lower_bound(list.begin(), list.end(), name, [](auto& a, auto& b) { return std::stod(a) < std::stod(b); });
    return at != list.end() && *at == name ? at : list.insert(at, name);
  };
  const auto gamma_alpha = [](const std::string& name) {  // of "gamma G, alpha A"
    const size_t comma = name.find(',');
    return std::pair{name.substr(6, comma - 6), name.substr(comma + 8)};
  };
  bool grid = false;
  for (auto& r : results) {
    if (r.setting.name.ends_with(kRare)) continue;
    const auto [gamma, alpha] = gamma_alpha(r.setting.name);
    place(map.rows, gamma), place(map.columns, alpha);
    grid = grid || r.setting.when == Setting::When::grid;
  }
  if (!grid) return;
  map.value.assign(map.rows.size(), std::vector<double>(map.columns.size(), NAN));
  for (auto& r : results) {
    if (r.setting.name.ends_with(kRare)) continue;
    const auto [gamma, alpha] = gamma_alpha(r.setting.name);
    map.value[size_t(place(map.rows, gamma) - map.rows.begin())]
             [size_t(place(map.columns, alpha) - map.columns.begin())] = 100 * mean_of(r, "ap");
  }
  page.figures.push_back({"grid", svg(map)});
}

void show_prior(const Results& results, Page& page) {
  show_scores(results, page);
  LineChart chart{.title = "The loss at step 0 is known before training",
                  .x = {.title = "prior: probability of an object at the start", .log = true},
                  .y = {.title = "first classification loss", .log = true}};
  for (const std::string kind : {"CE", "FL"}) {
    Curve said{.name = kind + ", formula"}, seen{.name = kind + ", measured", .marks = true, .line = false};
    for (auto& r : results) {
      if (!r.setting.name.starts_with(kind)) continue;
      const double p = std::stod(r.setting.name.substr(r.setting.name.rfind(' ')));
      said.x.push_back(p), said.y.push_back(mean_of(r, "expected_loss"));
      seen.x.push_back(p), seen.y.push_back(mean_of(r, "first_loss"));
    }
    chart.curves.push_back(said), chart.curves.push_back(seen);
  }
  page.figures.push_back({"first_loss", svg(chart)});
}

void show_anchors(const Results& results, Page& page) {
  show_scores(results, page);
  page.figures.push_back(
      {"coverage", svg(dots(results, "coverage", 100, "Boxes that some anchor overlaps by 0.5", "boxes (%)"))});
}

void show_speed(const Results& results, Page& page) {
  LineChart chart{.title = "AP against time, and the frontier",
                  .x = {.title = "time of a picture (ms), fastest of nine", .low = 0},
                  .y = {.title = "AP (%)"}};
  std::vector<std::pair<double, double>> points;
  for (auto& r : results) {
    const std::string width = r.setting.name.substr(0, r.setting.name.find(','));
    auto at = std::find_if(chart.curves.begin(), chart.curves.end(), [&](auto& c) { return c.name == width; });
    if (at == chart.curves.end()) at = chart.curves.insert(at, Curve{.name = width, .marks = true});
    at->x.push_back(mean_of(r, "ms")), at->y.push_back(100 * mean_of(r, "ap"));
    points.push_back({at->x.back(), at->y.back()});
  }
  std::sort(points.begin(), points.end());
  Curve frontier{.name = "frontier", .colour = 7};
  for (auto& [ms, ap] : points)
    if (frontier.y.empty() || ap > frontier.y.back()) {
      if (!frontier.y.empty()) frontier.x.push_back(ms), frontier.y.push_back(frontier.y.back());
      frontier.x.push_back(ms), frontier.y.push_back(ap);
    }
  chart.curves.push_back(frontier);
  page.figures.push_back({"speed", svg(chart)});
}

void show_cdf(const Results& results, Page& page) {
  const SettingResult& fl = results.at(0);
  if (fl.values("hardest_fifth").empty()) return;  // all seeds diverged
  for (const std::string kind : {"positive", "negative"}) {
    LineChart chart{.title = "Cumulative loss of the " + kind + "s",
                    .x = {.title = "part of the " + kind + "s, easiest first", .low = 0, .high = 1},
                    .y = {.title = "part of their loss", .low = 0, .high = 1}};
    for (const char* gamma : {"0", "0.5", "1", "2"}) {
      const LossCurve c = loss_curve(fl.mean(kind + "_histogram"), std::stod(gamma));
      chart.curves.push_back({.name = text("gamma ", gamma), .x = c.x, .y = c.y});
    }
    page.figures.push_back({kind + "s", svg(chart)});
  }
  page.more = curve_script(fl.mean("positive_histogram"), fl.mean("negative_histogram"));
  page.notes.push_back(text("With gamma 0 the hardest 20 % of the positives carry ",
                            short_number(std::round(100 * mean_of(fl, "hardest_fifth_ce"))),
                            " % of their loss, with gamma 2 ",
                            short_number(std::round(100 * mean_of(fl, "hardest_fifth"))),
                            " %; the paper says about half, and that gamma changes it little."));
  page.notes.push_back(
      "alpha plays no part: it multiplies the losses of all positives by one number and those of all negatives by "
      "another, and each curve shows parts of one of these sums.");
  page.notes.push_back(
      "Focus: how many powers of ten fewer samples carry half of the loss "
      "with gamma 2 than with gamma 0, in the same trained network.");
}

void show_variants(const Results& results, Page& page) {
  show_scores(results, page);
  struct Kind {
    const char* name;
    ClassLossOptions loss;
  };
  const std::vector<double> x = steps(-6, 6, 120);
  LineChart losses{.title = "Loss by x_t", .x = {.title = "x_t, the logit of p_t"}, .y = {.title = "loss", .high = 6}};
  LineChart slopes{.title = "Derivative by x_t", .x = losses.x, .y = {.title = "d loss / d x_t"}};
  for (auto& k : {Kind{"CE", {.kind = "ce"}}, Kind{"FL gamma 2", {.kind = "focal", .alpha = -1}},
                  Kind{"FL* gamma 2, beta 1", {.kind = "focal_star", .alpha = -1}},
                  Kind{"FL* gamma 4, beta 0", {.kind = "focal_star", .alpha = -1, .gamma = 4, .beta = 0}},
                  Kind{"hinge", {.kind = "hinge", .alpha = -1}}}) {
    const TermCurve c = terms_at(k.loss, x);
    losses.curves.push_back({.name = k.name, .x = x, .y = c.loss});
    slopes.curves.push_back({.name = k.name, .x = x, .y = c.slope});
  }
  page.figures.push_back({"losses", svg(losses)});
  page.figures.push_back({"derivatives", svg(slopes)});
  page.notes.push_back(
      "The hinge loss is flat where p_t is near 0: the worst mistakes have no gradient. The paper could "
      "not train with it.");
}

// The bins of all seeds together; those with fewer than five pictures are left out.
static Curve reliability(const SettingResult& r, const std::string& name) {
  std::vector<double> count(10), x(10), y(10);
  for (auto& [seed, m] : r.seeds)
    for (size_t i = 0; i < 10; ++i) {
      const double n = m.at("count").at(i);
      count[i] += n, x[i] += n * m.at("confidence").at(i), y[i] += n * m.at("frequency").at(i);
    }
  Curve c{.name = name, .marks = true};
  for (size_t i = 0; i < 10; ++i)
    if (count[i] >= 5) c.x.push_back(x[i] / count[i]), c.y.push_back(y[i] / count[i]);
  return c;
}

void show_classify(const Results& results, Page& page) {
  LineChart auc{.title = "Ranking by imbalance",
                .x = {.title = "common pictures for each rare one", .log = true},
                .y = {.title = "ROC-AUC, mean and 95 % interval", .high = 1}};
  LineChart reliable{.title = "Calibration at 1:10",
                     .x = {.title = "predicted probability", .low = 0, .high = 1},
                     .y = {.title = "part that is of the rare class", .low = 0, .high = 1}};
  for (const std::string kind : {"CE", "alpha-CE", "FL"}) {
    Curve c{.name = kind, .marks = true};
    for (auto& r : results) {
      if (!r.setting.name.starts_with(kind + ",")) continue;
      const Interval i = interval(r.values("auc"));
      c.x.push_back(std::stod(r.setting.name.substr(r.setting.name.find(':') + 1)));
      c.y.push_back(i.mean);  // of one seed there is no interval
      c.low.push_back(i.n > 1 ? std::max(0.0, i.low) : NAN), c.high.push_back(i.n > 1 ? std::min(1.0, i.high) : NAN);
    }
    auc.curves.push_back(c);
    reliable.curves.push_back(reliability(find(results, kind + ", 1:10"), kind));
  }
  reliable.curves.push_back({.name = "perfect", .x = {0, 1}, .y = {0, 1}, .colour = 7});
  page.figures.push_back({"auc", svg(auc)});
  page.figures.push_back({"calibration", svg(reliable)});
  if (mean_of(find(results, "CE, 1:1"), "auc") < 0.6)
    page.notes.push_back("Even at 1:1 the classes are hardly told apart: an equality says nothing here.");
  if (std::min(mean_of(find(results, "CE, 1:10"), "auc"), mean_of(find(results, "FL, 1:10"), "auc")) > 0.99)
    page.notes.push_back(
        "At 1:10 both rank almost without an error, so that equality is cheap; the steeper ratios have "
        "wider intervals, and --data with harder pictures is the stricter test.");
  page.notes.push_back(
      "Pictures are left out of the training only, so a network that learnt that one class is rare is "
      "not calibrated on the test set: the calibration error shows how far.");
}

void show_imbalance(const Results& results, Page& page) {
  LineChart chart{.title = "Whose the gradient is, while training goes on",
                  .x = {.title = "part of training", .low = 0, .high = 1},
                  .y = {.title = "part of the summed |gradient|", .low = 0, .high = 1}};
  for (auto& r : results) {
    const std::vector<double> x = r.mean("moment");
    chart.curves.push_back(
        {.name = r.setting.name + ": easy negatives", .x = x, .y = r.mean("easy_negatives"), .marks = true});
    chart.curves.push_back(
        {.name = r.setting.name + ": positives", .x = x, .y = r.mean("positives_share"), .marks = true});
  }
  page.figures.push_back({"gradient", svg(chart)});
  for (auto& r : results) {
    LineChart decile{.title = r.setting.name + ": where the loss is",
                     .x = {.title = "p_t", .low = 0, .high = 1},
                     .y = {.title = "part of the loss in a tenth of p_t", .low = 0}};
    const std::vector<double> all = r.mean("deciles");
    const size_t moments = all.size() / 10;
    for (auto& [name, at] : {std::pair{"first step", size_t{0}}, {"middle", moments / 2}, {"last step", moments - 1}}) {
      Curve c{.name = name, .marks = true};
      for (size_t i = 0; i < 10 && moments > 0; ++i)
        c.x.push_back(0.05 + 0.1 * double(i)), c.y.push_back(all[10 * at + i]);
      decile.curves.push_back(c);
    }
    page.figures.push_back({"deciles_" + r.setting.name, svg(decile)});
  }
  const double anchors = mean_of(results.at(0), "anchors"), positives = mean_of(results.at(0), "positives");
  page.notes.push_back(
      text("A picture has ", short_number(anchors), " anchors and ", short_number(positives), " positive ones: 1 in ",
           short_number(std::round(anchors / positives)),
           ". YOLOv2 has 13 x 13 x 5 = 845 candidates, the paper's one-stage detectors some 100,000."));
}

void show_loss(const Results&, Page& page) {
  LineChart curves{.title = "Focal loss by p_t",
                   .x = {.title = "p_t, probability of the true class", .low = 0, .high = 1},
                   .y = {.title = "loss (without alpha)", .low = 0, .high = 5}};
  LineChart slopes{.title = "Its derivative by the logit",
                   .x = {.title = "x_t, the logit of p_t"},
                   .y = {.title = "d loss / d x_t"}};
  std::vector<double> p = steps(0.005, 0.995, 198), logits, x = steps(-6, 6, 120);
  for (double v : p) logits.push_back(std::log(v / (1 - v)));
  for (const char* g : {"0", "0.5", "1", "2", "5"}) {
    const ClassLossOptions loss{.alpha = -1, .gamma = std::stod(g)};
    const std::string name = g[0] == '0' && !g[1] ? "gamma 0 (CE)" : text("gamma ", g);
    curves.curves.push_back({.name = name, .x = p, .y = terms_at(loss, logits).loss});
    slopes.curves.push_back({.name = name, .x = x, .y = terms_at(loss, x).slope});
  }
  HeatMap map{
      .title = "loss of 100,000 easy negatives / loss of 100 hard positives", .x_title = "alpha", .y_title = "gamma"};
  for (double a : {0.1, 0.25, 0.5, 0.75, 0.9}) map.columns.push_back(short_number(a));
  for (double g : {0.0, 0.5, 1.0, 2.0, 3.0, 5.0}) {
    map.rows.push_back(short_number(g));
    map.value.emplace_back();
    for (auto& a : map.columns) map.value.back().push_back(balance(g, std::stod(a)).ratio());
  }
  page.figures = {{"curves", svg(curves)}, {"derivatives", svg(slopes)}, {"balance", svg(map)}};
  const Balance ce = balance(0, -1), fl = balance(2, -1), both = balance(2, 0.25);
  const auto row = [](const char* name, const Balance& b) {
    char s[200];
    std::snprintf(s, sizeof s, "<tr><th scope=row>%s<td class=n>%.1f<td class=n>%.1f<td class=n>%.3g : 1\n", name,
                  b.easy, b.hard, b.ratio());
    return std::string(s);
  };
  page.more =
      "<table><tr><th scope=col>loss<th scope=col class=n>100,000 easy (p_t 0.9)"
      "<th scope=col class=n>100 hard (p_t 0.1)<th scope=col class=n>easy : hard\n" +
      row("cross entropy", ce) + row("focal, gamma 2", fl) + row("... and alpha 0.25", both) + "</table>" +
      loss_script();
  page.notes = {
      "45.8 : 1 is the first row's ratio; the authors' talk gives about 40, since it rounds the losses first.",
      "In the heat map a number above 1 means that the easy examples are still heavier."};
}

}  // namespace fovea::lab
