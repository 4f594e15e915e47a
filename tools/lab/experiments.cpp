// The table of experiments: claim, settings with the paper's numbers, and the one contrast that decides, all of it
// stated before anything is trained.
#include "core/words.h"
#include "tools/lab/lab.h"

namespace fovea::lab {
namespace {

using When = Setting::When;

Keys focal(const std::string& gamma, const std::string& alpha) {
  if (gamma == "2" && alpha == "0.25") return {};  // the default, which many experiments share
  return {{"loss.gamma", gamma}, {"loss.alpha", alpha}};
}
Keys cross_entropy(const std::string& alpha = "") {
  if (alpha.empty()) return {{"loss.kind", "ce"}};
  return {{"loss.kind", "alpha_ce"}, {"loss.alpha", alpha}};
}
Keys with(Keys a, const Keys& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Setting rare(const std::string& name, const Keys& keys) {
  return {.name = name + kRare, .keys = with(keys, {kRareScenes}), .when = When::full};
}

Experiment loss() {
  return {.name = "loss",
          .claim = "Focal loss turns the balance between 100,000 easy and 100 hard examples",
          .source = "Figure 1, section 3, and the arithmetic of the authors' ICCV 2017 talk",
          .differs = "Nothing: it is arithmetic, done by the engine that trains.",
          .show = show_loss};
}

Experiment prior() {
  Experiment e{.name = "prior",
               .claim = "Cross entropy needs the prior: without it (p = 0.5 at the start) training fails",
               .source = "Sections 4.1 and 5.1",
               .differs = "SGD with momentum and no gradient clipping here, as in the paper: AdamW hides the effect.",
               .measure = measure_detector,
               .columns = {"ap", "diverged", "first_loss", "expected_loss"},
               .show = show_prior};
  const Keys sgd = {
      {"train.optimizer", "sgd"}, {"train.lr", "0.02"}, {"train.momentum", "0.9"}, {"train.clip_norm", "0"}};
  for (const char* kind : {"ce", "focal"})
    for (const char* p : {"0.5", "0.1", "0.01", "0.001"}) {
      Setting s{.name = (kind[0] == 'c' ? "CE, prior " : "FL, prior ") + std::string(p),
                .keys = with(with(sgd, {{"model.prior", p}}), kind[0] == 'c' ? cross_entropy() : Keys{})};
      if (s.name == "CE, prior 0.01") s.paper = 30.2;
      if (s.name == "FL, prior 0.01") s.paper = 34.0;
      e.settings.push_back(s);
    }
  e.primary = {.statement = "AP of cross entropy with prior 0.01 is above AP with prior 0.5",
               .a = {"CE, prior 0.01", "ap"},
               .b = {"CE, prior 0.5", "ap"}};
  return e;
}

Experiment alpha() {
  Experiment e{
      .name = "alpha",
      .claim = "Weighting cross entropy by alpha helps a little, and 0.75 is best",
      .source = "Table 1a",
      .differs = "The best alpha depends on the imbalance; with fewer negatives than on COCO it should be lower.",
      .measure = measure_detector,
      .columns = {"ap", "ap50", "diverged"},
      .show = show_scores};
  for (auto& [a, paper] : {std::pair{"0.1", 0.0},
                           {"0.25", 10.8},
                           {"0.5", 30.2},
                           {"0.75", 31.1},
                           {"0.9", 30.8},
                           {"0.99", 28.7},
                           {"0.999", 25.1}})
    e.settings.push_back({.name = "alpha " + std::string(a), .keys = cross_entropy(a), .paper = paper});
  for (const char* a : {"0.5", "0.75"}) e.settings.push_back(rare("alpha " + std::string(a), cross_entropy(a)));
  e.primary = {.statement = "AP with alpha 0.75 is above AP with alpha 0.5",
               .a = {"alpha 0.75", "ap"},
               .b = {"alpha 0.5", "ap"}};
  return e;
}

Experiment gamma() {
  Experiment e{.name = "gamma",
               .claim = "Focusing helps: gamma 2 beats cross entropy with its best alpha",
               .source = "Table 1b",
               .differs = "0.75 is the best alpha on COCO; which one is best here, the experiment alpha says.",
               .measure = measure_detector,
               .columns = {"ap", "ap50", "diverged"},
               .show = show_gamma};
  struct Row {
    const char *gamma, *alpha;
    double paper;
    When when;
  };
  for (auto& r : {Row{"0", "0.75", 31.1, When::always}, Row{"0.1", "0.75", 31.4, When::full},
                  Row{"0.2", "0.75", 31.9, When::full}, Row{"0.5", "0.5", 32.9, When::always},
                  Row{"1", "0.25", 33.7, When::always}, Row{"2", "0.25", 34.0, When::always},
                  Row{"5", "0.25", 32.2, When::always}})
    e.settings.push_back({.name = text("gamma ", r.gamma, ", alpha ", r.alpha),
                          .keys = r.gamma[0] == '0' && !r.gamma[1] ? cross_entropy(r.alpha) : focal(r.gamma, r.alpha),
                          .paper = r.paper,
                          .when = r.when});
  e.settings.push_back(rare("gamma 0, alpha 0.75", cross_entropy("0.75")));
  e.settings.push_back(rare("gamma 2, alpha 0.25", focal("2", "0.25")));
  for (const char* g : {"0.5", "1", "2", "5"})
    for (const char* a : {"0.1", "0.25", "0.5", "0.75", "0.9"}) {
      const std::string name = text("gamma ", g, ", alpha ", a);
      bool there = false;
      for (auto& s : e.settings) there = there || s.name == name;
      if (!there) e.settings.push_back({.name = name, .keys = focal(g, a), .when = When::grid});
    }
  e.primary = {.statement = "AP with gamma 2 (alpha 0.25) is above AP with gamma 0 (alpha 0.75)",
               .a = {"gamma 2, alpha 0.25", "ap"},
               .b = {"gamma 0, alpha 0.75", "ap"}};
  return e;
}

Experiment ohem() {
  Experiment e{.name = "ohem",
               .claim = "Focal loss beats online hard example mining",
               .source = "Table 1d (there with ResNet-101)",
               .differs = "The paper's batches come from 100,000 anchors a picture, ours from 3,060 (--quick: 1,737).",
               .measure = measure_detector,
               .columns = {"ap", "ap50", "positives"},
               .show = show_scores};
  const auto mined = [](const char* kind, const char* batch, const char* nms) {
    return with(cross_entropy(), {{"model.sampler", kind}, {"model.sampler_batch", batch}, {"model.sampler_nms", nms}});
  };
  e.settings.push_back({.name = "FL", .keys = {}, .paper = 36.0});
  struct Row {
    const char *kind, *batch, *nms;
    double paper;
    When when;
  };
  for (auto& r : {Row{"ohem", "128", "0.7", 31.1, When::full}, Row{"ohem", "256", "0.7", 31.8, When::full},
                  Row{"ohem", "512", "0.7", 30.6, When::full}, Row{"ohem", "128", "0.5", 32.8, When::always},
                  Row{"ohem", "256", "0.5", 31.0, When::always}, Row{"ohem", "512", "0.5", 27.6, When::always},
                  Row{"ohem_1_3", "128", "0.5", 31.1, When::always}, Row{"ohem_1_3", "256", "0.5", 28.3, When::full},
                  Row{"ohem_1_3", "512", "0.5", 24.0, When::full}})
    e.settings.push_back({.name = text(r.kind[4] ? "OHEM 1:3 " : "OHEM ", r.batch, ", nms ", r.nms),
                          .keys = mined(r.kind, r.batch, r.nms),
                          .paper = r.paper,
                          .when = r.when});
  e.settings.push_back(rare("FL", {}));
  e.settings.push_back(rare("OHEM 128, nms 0.5", mined("ohem", "128", "0.5")));
  e.primary = {.statement = "AP with focal loss is above AP with the paper's best OHEM (128, nms 0.5)",
               .a = {"FL", "ap"},
               .b = {"OHEM 128, nms 0.5", "ap"}};
  return e;
}

Experiment anchors() {
  Experiment e{.name = "anchors",
               .claim = "Dense anchors pay: 3 scales x 3 ratios beat one square anchor a cell",
               .source = "Table 1c",
               .differs = "The shapes' boxes span two octaves, less than COCO's.",
               .measure = measure_detector,
               .columns = {"ap", "ap50", "coverage", "anchors"},
               .show = show_anchors};
  const char* const scales[] = {"1", "1,1.414213562", "1,1.259921,1.587401", "1,1.189207,1.414214,1.681793"};
  struct Row {
    int scales, ratios;
    double paper;
  };
  for (auto& r : {Row{1, 1, 30.3}, Row{2, 1, 31.9}, Row{3, 1, 31.8}, Row{1, 3, 32.4}, Row{2, 3, 34.2}, Row{3, 3, 34.0},
                  Row{4, 3, 33.8}}) {
    const bool usual = r.scales == 3 && r.ratios == 3;
    e.settings.push_back({.name = counted(r.scales, "scale") + " x " + counted(r.ratios, "ratio"),
                          .keys = usual ? Keys{}
                                        : Keys{{"model.anchors.scales", scales[r.scales - 1]},
                                               {"model.anchors.ratios", r.ratios == 1 ? "1" : "0.5,1,2"}},
                          .paper = r.paper});
  }
  e.primary = {.statement = "AP with 3 scales x 3 ratios is above AP with 1 x 1",
               .a = {"3 scales x 3 ratios", "ap"},
               .b = {"1 scale x 1 ratio", "ap"}};
  return e;
}

Experiment speed() {
  Experiment e{.name = "speed",
               .claim = "Larger pictures and networks buy AP with time",
               .source = "Table 1e and Figure 2 (there: 30.5 AP in 64 ms to 37.8 AP in 198 ms)",
               .differs = "Networks of the widths and pixels named, not ResNet-50 and 101; times of this machine.",
               .measure = measure_detector,
               .columns = {"ap", "ap50", "ms"},
               .show = show_speed};
  for (const char* width : {"8", "16", "32"})
    for (const char* size : {"64", "96", "128"}) {
      Setting s{.name = text("width ", width, ", ", size, " px"),
                .keys = {{"model.width", width}, {"data.short_side", size}, {"data.max_side", size}}};
      if (width[0] == '1') s.when = When::full;
      e.settings.push_back(s);
    }
  e.primary = {.statement = "AP of width 32 at 128 pixels is above AP of width 8 at 64 pixels",
               .a = {"width 32, 128 px", "ap"},
               .b = {"width 8, 64 px", "ap"}};
  return e;
}

Experiment cdf() {
  Experiment e{.name = "cdf",
               .claim = "Gamma hardly changes which positives carry the loss, but focuses it on few negatives",
               .source = "Figure 4 (ResNet-101, gamma 2)",
               .measure = measure_detector,
               .columns = {"hardest_fifth_ce", "hardest_fifth", "hardest_hundredth_ce", "hardest_hundredth",
                           "focus_positives", "focus_negatives"},
               .show = show_cdf};
  e.settings.push_back({.name = "FL", .keys = {}});
  e.primary = {.statement =
                   "From gamma 0 to 2, the part of the negatives that carries half of their loss shrinks by "
                   "more powers of ten than that of the positives",
               .a = {"FL", "focus_negatives"},
               .b = {"FL", "focus_positives"}};
  return e;
}

Experiment variants() {
  Experiment e{.name = "variants",
               .claim = "The exact form does not matter: FL* trains as well as FL",
               .source = "Appendix A, Figures 5 to 7, Table 3",
               .measure = measure_detector,
               .columns = {"ap", "ap50", "diverged"},
               .show = show_variants};
  const auto star = [](const char* g, const char* b) {
    return Keys{{"loss.kind", "focal_star"}, {"loss.gamma", g}, {"loss.beta", b}};
  };
  e.settings = {{.name = "FL", .keys = {}, .paper = 34.0},
                {.name = "FL* gamma 2, beta 1", .keys = star("2", "1"), .paper = 33.8},
                {.name = "FL* gamma 4, beta 0", .keys = star("4", "0"), .paper = 33.9},
                {.name = "CE, alpha 0.75", .keys = cross_entropy("0.75"), .paper = 31.1},
                {.name = "hinge on p_t", .keys = {{"loss.kind", "hinge"}}}};
  e.primary = {.statement = "AP with FL* (gamma 2, beta 1) equals AP with FL within 2 points",
               .a = {"FL* gamma 2, beta 1", "ap"},
               .b = {"FL", "ap"},
               .margin = 0.02};
  return e;
}

Experiment classify() {
  Experiment e{
      .name = "classify",
      .claim =
          "For imbalanced classification focal loss is no better than cross entropy: hard examples, not "
          "imbalance, are what it cures",
      .source = "The authors' ICCV 2017 talk (cats and dogs)",
      .differs = "A small ResNet at 32 pixels. Without --data: circles and squares, half and half in the test.",
      .measure = measure_classifier,
      .columns = {"auc", "ap", "ece", "rare", "common"},
      .show = show_classify};
  for (const char* ratio : {"1", "10", "100", "1000"})
    for (const char* kind : {"CE", "alpha-CE", "FL"}) {
      const std::string k = kind;
      const Keys keys = k == "CE" ? cross_entropy() : k == "FL" ? focal("2", "-1") : cross_entropy("0.75");
      e.settings.push_back({.name = k + ", 1:" + ratio,
                            .keys = with({{"lab.ratio", ratio}}, keys),
                            .when = std::string(ratio) == "1000" ? When::full : When::always});
    }
  e.primary = {.statement = "At 1:10, ROC-AUC with focal loss equals that with cross entropy within 0.02",
               .a = {"FL, 1:10", "auc"},
               .b = {"CE, 1:10", "auc"},
               .margin = 0.02};
  return e;
}

Experiment imbalance() {
  Experiment e{.name = "imbalance",
               .claim = "Easy negatives take a large part of cross entropy's gradient, and little of focal loss's",
               .source = "Sections 1 and 3",
               .measure = measure_detector,
               .columns = {"ap", "easy_mean", "anchors", "positives"},
               .show = show_imbalance};
  e.settings = {{.name = "CE", .keys = cross_entropy()}, {.name = "FL", .keys = {}}};
  e.primary = {.statement =
                   "The mean share of the gradient from easy negatives (p_t >= 0.9) is higher with cross "
                   "entropy than with focal loss",
               .a = {"CE", "easy_mean"},
               .b = {"FL", "easy_mean"}};
  return e;
}

}  // namespace

const std::vector<Experiment>& experiments() {
  static const std::vector<Experiment> all = {loss(),  prior(), alpha(),    gamma(),    ohem(),     anchors(),
                                              speed(), cdf(),   variants(), classify(), imbalance()};
  return all;
}

}  // namespace fovea::lab
