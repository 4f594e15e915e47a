// The laboratory: its numbers against brute force; its cells and pages as a user meets them, killed runs included.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <numeric>
#include <set>
#include <thread>

#include "core/random.h"
#include "data/image.h"
#include "data/json.h"
#include "tests/catch.h"
#include "tests/program.h"
#include "tools/lab/cells.h"
#include "tools/lab/probe.h"
#include "tools/lab/scores.h"
#include "tools/lab/svg.h"
#include "tools/lab/terms.h"

using namespace fovea;
using namespace fovea::lab;

TEST_CASE("the arithmetic of the talk, to the printed digit") {
  const auto near = [](double v, double printed, double digit) { CHECK(std::abs(v - printed) <= digit / 2); };
  const Balance ce = balance(0, -1), fl = balance(2, -1), both = balance(2, 0.25);
  near(ce.easy, 10536, 1), near(ce.hard, 230.3, 0.1), near(ce.ratio(), 45.8, 0.1);
  near(fl.easy, 105.4, 0.1), near(fl.hard, 186.5, 0.1), near(fl.ratio(), 0.565, 0.001);
  near(both.easy, 79.0, 0.1), near(both.hard, 46.6, 0.1);
  // Section 3: with gamma 2, p_t 0.9 costs 100 times less than with cross entropy, 0.968 about 1000 times less.
  for (auto [p, factor] : {std::pair{0.9, 100.0}, {0.96875, 1024.0}, {0.5, 4.0}}) {
    const std::vector<double> x{std::log(p / (1 - p))};
    CHECK(terms_at({.alpha = -1, .gamma = 0}, x).loss[0] / terms_at({.alpha = -1}, x).loss[0] == Approx(factor));
  }
}

TEST_CASE("drawn derivatives are central differences of the drawn losses") {
  const double h = 1e-5;
  for (const ClassLossOptions& loss : {ClassLossOptions{.kind = "ce"},
                                       {.kind = "focal", .gamma = 0.5},
                                       {.kind = "focal"},
                                       {.kind = "focal_star"},
                                       {.kind = "focal_star", .gamma = 4, .beta = 0},
                                       {.kind = "hinge"}})
    for (double x = -6.05; x < 6; x += 0.5) {
      const TermCurve c = terms_at(loss, {x - h, x, x + h});
      INFO(loss.kind << " " << x);
      CHECK(c.slope[1] == Approx((c.loss[2] - c.loss[0]) / (2 * h)).epsilon(1e-6).margin(1e-9));
    }
}

TEST_CASE("loss curves of Figure 4 equal sorting every sample by the engine's loss") {
  Dice dice(5);
  std::vector<double> histogram(kBins), samples;
  for (int i = 0; i < 2000; ++i) {
    const int bin = int(std::clamp<int64_t>(std::llround(dice.normal(170, 40)), 0, kBins - 1));
    histogram[size_t(bin)] += 1, samples.push_back(bin_logit(bin));
  }
  for (double gamma : {0.0, 0.5, 1.0, 2.0, 5.0}) {
    std::vector<double> loss = terms_at({.alpha = -1, .gamma = gamma}, samples).loss;
    std::sort(loss.begin(), loss.end());
    double total = 0, hard = 0;
    for (double v : loss) total += v;
    for (size_t i = 1600; i < 2000; ++i) hard += loss[i];
    const LossCurve c = loss_curve(histogram, gamma);
    CHECK(c.hardest(0.2) == Approx(hard / total).epsilon(0.02));  // the edge may lie inside a bin
    CHECK(c.hardest(c.carrying(0.5)) == Approx(0.5));
    CHECK(c.x.front() == 0);
    CHECK(c.y.back() == Approx(1));
    CHECK(c.x.back() == Approx(1));
    for (size_t i = 1; i < c.x.size(); ++i) {
      CHECK(c.y[i] >= c.y[i - 1]);
      CHECK(c.y[i] <= c.x[i] + 1e-12);  // easiest first: below the diagonal
      double sum = 0;
      for (size_t k = 0; k < size_t(std::llround(2000 * c.x[i])); ++k) sum += loss[k];
      CHECK(c.y[i] == Approx(sum / total).epsilon(1e-9));
    }
  }
  CHECK(loss_curve(std::vector<double>(kBins), 2).hardest(0.2) == 0);
}

TEST_CASE("probe: histograms and shares of a hand-made level") {
  Probe probe({.kind = "ce"});
  const double big = std::log(19.0);  // p 0.95
  const Tensor x = Tensor::from<double>({1, 3, 2}, {big, -big, -big, big, 0, 0});
  probe.add({x, Tensor::from<int64_t>({1, 3}, {0, -1, -2}), Tensor::from<double>({1, 3, 2}, {-5, 1, 2, 3, 9, 9})});
  Metrics m;
  probe.write_shares(m), probe.write_histograms(m);
  CHECK(m["positives_share"][0] == Approx(5.0 / 11));  // anchor 0, class 0
  CHECK(m["easy_negatives"][0] == Approx(3.0 / 11));   // p_t 0.95: anchor 0 class 1, anchor 1 class 0
  CHECK(m["hard_negatives"][0] == Approx(3.0 / 11));   // anchor 1 class 1, p_t 0.05
  const double easy = -3 * std::log(0.95), hard = -std::log(0.05);
  CHECK(m["deciles"][0] == Approx(hard / (easy + hard)));
  CHECK(m["deciles"][9] == Approx(easy / (easy + hard)));
  CHECK(std::accumulate(m["positive_histogram"].begin(), m["positive_histogram"].end(), 0.0) == 1);
  CHECK(std::accumulate(m["negative_histogram"].begin(), m["negative_histogram"].end(), 0.0) == 3);
}

TEST_CASE("ranking and calibration against brute force") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Dice dice(seed);
    Scores scores;
    std::vector<std::pair<double, bool>> all;
    const int64_t n = dice.integer(2, 40);
    for (int64_t i = 0; i < n; ++i) {
      all.push_back({double(dice.integer(0, 10)) / 10, i < 2 ? i == 0 : dice.chance(0.4)});  // ties; both classes
      scores.add(all.back().first, all.back().second);
    }
    double wins = 0, pairs = 0, precision = 0, positives = 0;
    for (auto& [p, up] : all) {
      double above = 0, own = 0;
      for (auto& [q, other] : all) {
        if (up && !other) wins += p > q ? 1 : p == q ? 0.5 : 0, ++pairs;
        above += q >= p, own += q >= p && other;
      }
      if (up) precision += own / above, ++positives;
    }
    CHECK(scores.auc() == Approx(wins / pairs));
    CHECK(scores.average_precision() == Approx(precision / positives));
  }
  Scores s;
  for (bool up : {true, false, false, false}) s.add(0.45, up);  // a quarter where 0.45 was said
  s.add(0.95, true);
  CHECK(s.ece() == Approx((4 * 0.2 + 1 * 0.05) / 5));
  for (const double broken : {double(NAN), double(INFINITY)}) CHECK_THROWS_AS(s.add(broken, true), Error);
}

TEST_CASE("differences are paired by seed") {
  const auto cell = [](double ap) { return Metrics{{"ap", {ap}}}; };
  const Results r{{{.name = "a"}, {{1, cell(5)}, {2, cell(7)}, {4, cell(1)}}},
                  {{.name = "b"}, {{2, cell(3)}, {1, cell(1)}}}};
  CHECK(differences(r, {.a = {"a", "ap"}, .b = {"b", "ap"}}) == std::vector<double>{4, 4});
  CHECK(results_csv(r) == "setting,seed,ap\na,1,5\na,2,7\na,4,1\nb,2,3\nb,1,1\n");
  CHECK_THROWS_AS(find(r, "c"), Error);
  const Results stopped{
      {{.name = "a"}, {{1, {{"ap", {5}}, {"moment", {0, 1}}}}}},
      {{.name = "b"}, {{1, {{"ap", {0}}, {"moment", {0}}, {"none", {}}}}}}};  // diverged at the second
  CHECK(results_csv(stopped) == "setting,seed,ap\na,1,5\nb,1,0\n");
  CHECK(differences(stopped, {.a = {"a", "ap"}, .b = {"b", "none"}}).empty());
  const SettingResult lists{{.name = "a"},
                            {{1, {{"moment", {9}}}}, {2, {{"moment", {1, 2}}}}, {3, {{"moment", {3, 6}}}}}};
  CHECK(lists.mean("moment") == std::vector<double>{2, 4});  // the first seed diverged
  const Metrics lost{{"ap", {0}}, {"diverged", {1}}}, good{{"ap", {3}}, {"diverged", {0}}};
  const Results some{{{.name = "a"}, {{1, lost}, {2, lost}, {3, good}}},
                     {{.name = "b"}, {{1, lost}, {2, good}, {3, good}}}};  // seed 1 says nothing of a and b
  CHECK(differences(some, {.a = {"a", "ap"}, .b = {"b", "ap"}}) == std::vector<double>{-3, 0});
  Page page;
  show_cdf({{{.name = "FL"}, {{1, lost}}}}, page);
  CHECK((page.figures.empty() && page.more.empty()));  // no curve of no samples
}

TEST_CASE("figures: gaps, escapes, and no number that is not one") {
  LineChart chart{.title = "a < b & \"c\"", .x = {.log = true}, .y = {.log = true}};
  chart.curves = {
      {.name = "x", .x = {1, 10, 100, 0}, .y = {1, NAN, 5, 3}, .low = {0.5, NAN, 4, 1}, .high = {2, NAN, 6, 9}},
      {.name = "empty"}};
  DotChart dots;
  dots.rows = {{.name = "one", .values = {1}, .mean = 1, .low = -INFINITY, .high = INFINITY},
               {.name = "nothing", .mean = NAN, .low = NAN, .high = NAN}};
  HeatMap map{.columns = {"a", "b"}, .rows = {"r"}, .value = {{1, 1e-5}}};
  HeatMap holes{.ratio = false, .columns = {"a", "b"}, .rows = {"r"}, .value = {{NAN, 3}}};  // one value: no range
  for (const std::string& s : {svg(chart), svg(dots), svg(map), svg(holes), svg(LineChart{})}) {
    CHECK(s.find("nan") == std::string::npos);
    CHECK(s.find("inf") == std::string::npos);
    CHECK(s.rfind("<svg ", 0) == 0);
    CHECK(std::count(s.begin(), s.end(), '<') == std::count(s.begin(), s.end(), '>'));
  }
  const auto curve = [](double last) { return svg(LineChart{.curves = {{.x = {1, 2}, .y = {0.1, last}}}}); };
  CHECK(curve(std::nextafter(0.1, 1)) == curve(0.1));  // a mean of equal numbers is off by that
  CHECK(svg(chart).find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
  chart.curves[0].x.pop_back();
  CHECK_THROWS_AS(svg(chart), Error);
}

TEST_CASE("figures: the grid of gamma and alpha is a heat map, in the order of the numbers") {
  const auto cell = [](const char* name, double ap, Setting::When when = Setting::When::always) {
    return SettingResult{.setting = {.name = name, .when = when}, .seeds = {{1, {{"ap", {ap}}}}}};
  };
  Results results = {cell("gamma 2, alpha 0.25", 0.5), cell("gamma 0, alpha 0.75", 0.25)};
  Page page;
  show_gamma(results, page);
  CHECK(page.figures.size() == 1);  // no grid, no map
  results.push_back(cell("gamma 10, alpha 0.75", 0.125, Setting::When::grid));
  show_gamma(results, page = {});
  REQUIRE(page.figures.size() == 2);
  const std::string& s = page.figures[1].second;
  const auto at = [&](const char* words) { return s.find(words); };
  CHECK(at(">0.25<") < at(">0.75<"));
  CHECK(at(">0<") < at(">25.0<"));
  CHECK(at(">25.0<") < at(">50.0<"));  // row by row: gamma 0, 2, 10
  CHECK(at(">50.0<") < at(">12.5<"));
  CHECK(at(">12.5<") != std::string::npos);
}

TEST_CASE("figures: classify draws intervals of two seeds, not of one, and says of both what both do") {
  const std::vector<double> bins(10, 10.0);
  const Metrics m{{"auc", {0.75}}, {"count", bins}, {"confidence", bins}, {"frequency", bins}};
  Results results;
  for (const std::string kind : {"CE", "alpha-CE", "FL"})
    for (const std::string ratio : {"1:1", "1:10"})
      results.push_back({.setting = {.name = kind + ", " + ratio}, .seeds = {{1, m}}});
  const auto bands = [&] {
    Page page;
    show_classify(results, page);
    const std::string& s = page.figures.at(0).second;
    size_t n = 0;
    for (size_t at = s.find("opacity='.16'"); at != s.npos; at = s.find("opacity='.16'", at + 1)) ++n;
    return n;
  };
  CHECK(bands() == 0);
  for (auto& r : results) r.seeds.push_back({2, m});
  CHECK(bands() == 3);
  for (const auto& [name, both] : {std::pair("CE, 1:10", false), {"FL, 1:10", true}}) {
    for (auto& r : results)
      if (r.setting.name == name) r.seeds = {{1, m}}, r.seeds[0].second["auc"] = {1.0};
    Page page;
    show_classify(results, page);
    CHECK(page.notes.at(0).starts_with("At 1:10 both rank almost without an error") == both);
  }
}

TEST_CASE("figures: six curves differ in their dashes, not in their colours alone") {
  LineChart chart;
  for (int i = 0; i < 6; ++i) chart.curves.push_back({.x = {0, 1}, .y = {0, double(i)}});
  const std::string drawn = svg(chart), name = "stroke-dasharray='";
  std::set<std::string> dashes;
  for (size_t at = drawn.find(name); at != drawn.npos; at = drawn.find(name, at + 1))
    dashes.insert(drawn.substr(at + name.size(), drawn.find('\'', at + name.size()) - at - name.size()));
  CHECK(dashes.size() == 6);
}

TEST_CASE("figures: the paper's AP stands beside ours, not beside other figures") {
  Results results{{.setting = {.name = "a", .paper = 30.2}, .seeds = {{1, {{"ap", {0.5}}, {"coverage", {0.75}}}}}}};
  Page page;
  show_anchors(results, page);
  REQUIRE(page.figures.size() == 2);
  CHECK(page.figures[0].second.find("the paper") != std::string::npos);
  CHECK(page.figures[1].second.find("the paper") == std::string::npos);
}

TEST_CASE("figures: the losses of variants are not cut where they are drawn") {
  Page page;
  show_variants({}, page);
  const std::string& s = page.figures.at(1).second;
  REQUIRE(page.figures[1].first == "losses");
  const size_t path = s.find("<path d='M58.0 ");  // cross entropy at -6 and -5.9: 6.002 and 5.903
  REQUIRE(path != std::string::npos);
  double x = 0, at = 0, next = 0;
  REQUIRE(std::sscanf(s.c_str() + path, "<path d='M%lf %lfL%lf %lf", &x, &at, &x, &next) == 4);
  CHECK(next > at + 2);  // 230 units are some 6.3
}

TEST_CASE("program: every experiment is listed, an unknown one is refused with the nearest") {
  const test::Result r = test::run("lab list");
  CHECK(r.code == 0);
  for (const char* name :
       {"loss", "prior", "alpha", "gamma", "ohem", "anchors", "speed", "cdf", "variants", "classify", "imbalance"})
    CHECK(r.out.find("\n" + std::string(name) + " ") != std::string::npos);
  test::fails("lab gama", 2, {"unknown experiment 'gama'", "did you mean 'gamma'"});
  test::fails("lab prior --quick --grid", 2, {"--grid is for gamma"});
  for (const char* option : {"--quick", "--seeds 2", "--data shapes"})
    test::fails(text("lab loss ", option), 2, {"loss trains nothing: it takes --out and --json, but no --quick"});
  for (const char* option : {"--quick", "--out pages"})
    test::fails(text("lab list ", option), 2, {"list shows both times and writes nothing"});
  const Json all = parse_json(test::run("lab list --json").out),
             grid = parse_json(test::run("lab list --grid --json").out);
  for (size_t i = 0; i < all.items.size(); ++i) {
    const Json &e = all.items[i], &longer = grid.items[i];
    for (const char* time : {"quick_seconds", "full_seconds"}) {
      INFO(e["name"].string << " " << time);
      CHECK((e[time].number(-1) > 0) == (e["name"] != "loss"));
      CHECK((longer[time].number() > e[time].number()) == (e["name"] == "gamma"));
    }
  }
  test::fails("lab classify --quick --format folders", 2, {"name it by --data DIR"});
  for (const char* name : {"cdf", "all"})
    test::fails(text("lab ", name, " --quick --data . --format folders"), 2, {"--format folders is for classify"});
  for (const char* folder : {"pets/train/cats", "pets/train/dogs"})
    std::filesystem::create_directories(test::shared() / folder);
  const std::string classify = "lab classify --data pets --format folders";
  test::fails(classify, 3, {"pets/train/cats: holds no pictures"});
  std::filesystem::create_directories(test::shared() / "pets/train/.idea");  // another program's
  std::ofstream(test::shared() / "pets/train/cats/._a.png") << "macOS";
  test::fails(classify, 3, {"pets/train/cats: holds no pictures"});
  for (const char* folder : {"pets/train/cats", "pets/train/dogs", "pets/test/birds", "pets/test/cats"}) {
    std::filesystem::create_directories(test::shared() / folder);
    write_png(test::shared() / folder + "/a.png", Image(8, 8));
  }
  test::fails(classify, 3, {"pets/test: its classes are birds and cats, those of pets/train cats and dogs"});
  std::filesystem::create_directories(test::shared() / "pets/train/horses");
  test::fails(classify, 3, {"pets/train: holds 3 folders of classes; two are needed"});
}

TEST_CASE("program: a setting of classify has its ratio, also where pictures are few", "[long]") {
  for (const auto& [folder, pictures] : {std::pair{"rare", 3}, {"usual", 8}})
    for (const std::string part : {"few/train/", "few/test/"})
      for (int i = 0; i < pictures; ++i) {
        std::filesystem::create_directories(test::shared() / (part + folder));
        write_png(test::shared() / (part + folder + text("/", i, ".png")), Image(8, 8, uint8_t(20 * i)));
      }
  test::fails("lab classify --quick --seeds 1 --data few --format folders --out ratios", 3,
              {"few/train: 1:10 needs 10 pictures of the common class, there are 8"});
  const CellFile cells(test::shared() / "ratios/cells.csv");
  const std::string lines = test::slurp(test::shared() / "ratios/cells.csv");
  CHECK(cells.size() == 3);  // CE, alpha-CE and FL
  int equal = 0;
  for (size_t at = lines.find("common=3,"); at != lines.npos; at = lines.find("common=3,", at + 1)) ++equal;
  CHECK(equal == 3);
}

TEST_CASE("program: the page of an experiment is one file that asks for nothing") {
  REQUIRE(test::run("lab loss --out pages").code == 0);
  const std::string page = test::slurp(test::shared() / "pages/loss/report.html");
  for (const char* part : {"45.8 : 1", "0.565 : 1", "10536.1", "<svg", "id=gamma", "fovea lab loss --out pages</code>",
                           "prefers-color-scheme", "<noscript>", ">loss</text>"})
    CHECK(page.find(part) != std::string::npos);
  for (const char* part : {"src=", "@import", "url(", "fetch("}) CHECK(page.find(part) == std::string::npos);
  for (size_t at = page.find("http"); at != std::string::npos; at = page.find("http", at + 1))
    CHECK(page.compare(at, 26, "http://www.w3.org/2000/svg") == 0);  // a name, never fetched
}

TEST_CASE("program: of other data all keeps what needs none, and says what it leaves out") {
  const test::Result r = test::run("lab all --quick --data nowhere --out 'all of it'");
  INFO(r.err);
  CHECK(r.code == 3);
  test::require_words(r.err, {"notice: classify is left out", "nowhere: is not a folder"});
  const std::string page = test::slurp(test::shared() / "all of it/loss/report.html");
  test::require_words(page, {"fovea lab loss --out &#39;all of it&#39;</code>"});
}

TEST_CASE("program: finished cells are not trained again; the verdict follows from them") {
  namespace fs = std::filesystem;
  const std::string out = test::shared() / "kept";
  fs::create_directories(out);
  Metrics m;
  Probe probe({});
  probe.add({Tensor::from<double>({1, 2, 1}, {-1, 2}), Tensor::from<int64_t>({1, 2}, {0, -1}), {}});
  probe.write_histograms(m);
  m["ap"] = {0.5};
  std::string lines;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    m["focus_negatives"] = {1 + 0.01 * double(seed)}, m["focus_positives"] = {0.25};
    lines += cell_line(cell_name("quick shapes", {}), seed, m);
  }
  std::ofstream(out + "/cells.csv", std::ios::binary) << lines;
  const test::Result r = test::run("lab cdf --quick --out kept");
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(r.out.rfind("cdf: reproduced\n", 0) == 0);
  CHECK(test::slurp(out + "/cells.csv") == lines);
  CHECK(!fs::exists(out + "/shapes-quick"));
  CHECK(test::slurp(out + "/cdf/results.csv").find("FL,3,") != std::string::npos);
  test::require_words(test::slurp(out + "/cdf/report.html"), {"verdict yes", "alpha plays no part", "<noscript>",
                                                              ">part of their loss</text>\n<text class=s x=50"});
}

TEST_CASE("program: the page names the optimiser of its experiment") {
  std::string lines;
  for (const char* p : {"0.5", "0.1", "0.01", "0.001"})
    for (const bool ce : {false, true}) {
      Keys keys{{"train.optimizer", "sgd"}, {"train.lr", "0.02"}, {"train.momentum", "0.9"}, {"train.clip_norm", "0"}};
      keys.push_back({"model.prior", p});
      if (ce) keys.push_back({"loss.kind", "ce"});
      lines += cell_line(cell_name("quick shapes", keys), 1, {{"ap", {0.5}}});
    }
  std::filesystem::create_directories(test::shared() / "sgd");
  std::ofstream(test::shared() / "sgd/cells.csv", std::ios::binary) << lines;
  REQUIRE(test::run("lab prior --quick --seeds 1 --out sgd").code == 0);
  const std::string page = test::slurp(test::shared() / "sgd/prior/report.html");
  CHECK(page.find("at 96 pixels with SGD.") != std::string::npos);
  CHECK(page.find("with AdamW") == std::string::npos);
}

TEST_CASE("program: the page of classify names the rare class") {
  const std::vector<double> bins(10, 10.0);
  std::string lines;
  const auto measured = [&](const std::string& profile) {
    for (const char* ratio : {"1", "10", "100"})
      for (const Keys& loss : {Keys{{"loss.kind", "ce"}}, Keys{{"loss.kind", "alpha_ce"}, {"loss.alpha", "0.75"}},
                               Keys{{"loss.gamma", "2"}, {"loss.alpha", "-1"}}}) {
        Keys keys{{"lab.ratio", ratio}};
        keys.insert(keys.end(), loss.begin(), loss.end());
        lines += cell_line(cell_name(profile, keys), 1,
                           {{"auc", {0.75}}, {"count", bins}, {"confidence", bins}, {"frequency", bins}});
      }
  };
  const std::string folders = std::filesystem::canonical(test::shared().path).string() + "/apes";
  measured("quick shapes"), measured("quick " + folders);
  test::shared().write("named/cells.csv", lines);
  const auto says = [&](const std::string& data, const std::string& words) {
    const test::Result r = test::run("lab classify --quick --seeds 1 --out named" + data);
    INFO(r.err);
    CHECK(r.code == 0);
    test::require_words(test::slurp(test::shared() / "named/classify/report.html"),
                        {"Here: the rare class is " + words});
  };
  says("", "circle, the common one square (");
  says(" --data apes --format folders", "the first by name, the common one the second (");  // they are gone
  for (const char* name : {"orang", "chimp"}) std::filesystem::create_directories(folders + "/train/" + name);
  says(" --data apes --format folders", "chimp, the common one orang (");
}

TEST_CASE("program: rare objects are described beside the contrast, and are no part of the verdict or of other data") {
  const Keys ce{{"loss.kind", "alpha_ce"}, {"loss.alpha", "0.75"}};
  const auto fl = [](const char* gamma, const char* alpha) {
    return Keys{{"loss.gamma", gamma}, {"loss.alpha", alpha}};
  };
  const std::vector<Keys> settings = {
      {}, ce, fl("0.1", "0.75"), fl("0.2", "0.75"), fl("0.5", "0.5"), fl("1", "0.25"), fl("5", "0.25")};
  Keys rare_ce = ce;
  rare_ce.push_back(kRareScenes);
  std::string lines;
  const std::string elsewhere = "full " + std::filesystem::canonical(test::shared().path).string() + "/elsewhere";
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    const auto cell = [&](const std::string& profile, const Keys& keys, double ap) {
      const Metrics m{{"ap", {ap + 0.001 * double(seed)}}, {"anchors", {3000}}, {"positives", {2}}};
      lines += cell_line(cell_name(profile, keys), seed, m);
    };
    for (auto& keys : settings)
      for (const std::string& profile : {std::string("full shapes"), elsewhere})
        cell(profile, keys, keys.empty() ? 0.4 : 0.6);
    cell("full shapes", {kRareScenes}, 0.25 + 0.01 * double(seed)), cell("full shapes", rare_ce, 0.125);
  }
  std::filesystem::create_directories(test::shared() / "scarce");
  std::ofstream(test::shared() / "scarce/cells.csv", std::ios::binary) << lines;
  test::Result r = test::run("lab gamma --seeds 2 --out scarce");
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(r.out.rfind("gamma: not reproduced\n", 0) == 0);
  std::string page = test::slurp(test::shared() / "scarce/gamma/report.html");
  CHECK(page.find("one anchor in 1500 is positive) the same difference is 14.00 points, 95 % interval 7.65 to 20.35") !=
        std::string::npos);  // in the unit of the table; half of 0.01 times t, 12.71 for one degree of freedom
  CHECK(test::run("lab gamma --seeds 1 --out scarce").code == 0);
  page = test::slurp(test::shared() / "scarce/gamma/report.html");
  CHECK(page.find("the same difference is 13.50 points with one seed.") != std::string::npos);
  r = test::run("lab gamma --seeds 2 --out scarce --data elsewhere");
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(r.err.find("gamma: about 38m 30s") != std::string::npos);  // 14 trainings on three times as many pixels
  page = test::slurp(test::shared() / "scarce/gamma/report.html");
  CHECK(page.find("elsewhere") != std::string::npos);
  CHECK(page.find("rare") == std::string::npos);
  CHECK(test::run("lab gamma --seeds 2 --out scarce --data elsewhere/").code == 0);
  test::fails("lab gamma --seeds 2 --out scarce --data shapes", 3, {"shapes: is not a folder"});  // not the made ones
  CHECK(test::slurp(test::shared() / "scarce/cells.csv") == lines);
}

TEST_CASE("program: pictures are made by one lab at a time in a folder") {
  const std::string out = test::shared() / "both", made = out + "/shapes-quick";
  std::filesystem::create_directories(out);
  const int other = open(out.c_str(), O_RDONLY | O_CLOEXEC);  // plays the other lab
  REQUIRE(flock(other, LOCK_EX) == 0);
  const pid_t child = test::start("lab imbalance --quick --out both");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(!std::filesystem::exists(made));
  close(other);
  for (int i = 0; i < 3000 && !std::filesystem::exists(made + "/val/annotations.json"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(std::filesystem::exists(made + "/val/annotations.json"));
  kill(child, SIGKILL);
  test::wait_for(child);
}

TEST_CASE("program: killed in the middle it goes on with the next cell", "[long]") {
  const std::string file = test::shared() / "killed/cells.csv";
  const auto lines = [&] {
    const std::string s = test::slurp(file);
    return std::count(s.begin(), s.end(), '\n');
  };
  std::string before;
  for (int64_t wanted : {1, 2}) {
    const pid_t child = test::start("lab classify --quick --out killed");
    for (int i = 0; i < 30000 && lines() < wanted; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    kill(child, SIGKILL);
    test::wait_for(child);
    const std::string now = test::slurp(file);
    REQUIRE(now.size() > before.size());
    CHECK(now.compare(0, before.size(), before) == 0);
    before = now.substr(0, now.rfind('\n') + 1);
  }
  const CellFile cells(file);
  CHECK(cells.size() >= 2);
}
