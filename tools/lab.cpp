// fovea lab: trains the cells of an experiment that are missing, judges its primary contrast, and writes its page.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>

#include "core/atomic_file.h"
#include "core/words.h"
#include "tools/command.h"
#include "tools/lab/bench.h"
#include "tools/lab/cells.h"
#include "tools/lab/svg.h"

namespace fovea {
namespace {

using namespace lab;

const char* const kExamples =
    "fovea lab list                             # the experiments, and how long they take\n"
    "fovea lab loss --out lab                   # no training: a page with sliders\n"
    "fovea lab gamma --quick --out lab          # three seeds, some minutes; then open lab/gamma/report.html\n"
    "fovea lab all --quick --out lab            # all of them, half an hour; lab/index.html\n"
    "fovea lab gamma --out lab                  # in full: about an hour. Killed, it goes on where it was\n"
    "fovea lab classify --data cats_vs_dogs --format folders --out lab";

struct Flags {
  std::string name;
  LabOptions lab;
  bool json = false;
};

// Seconds of a cell on two cores of an EPYC (Zen 4), for what is said before the first cell is timed.
double usual_seconds(const Experiment& e, const LabOptions& o) {
  if (e.measure == measure_classifier) return o.quick ? 3 : 17;
  const int more = o.data.empty() ? 1 : o.quick ? 5 : 3;  // pixels: photographs are of some 192 x 256
  return e.measure ? more * (o.quick ? 7 : 55) : 0;
}

bool wanted(const Setting& s, const LabOptions& o) {
  using When = Setting::When;
  if (!o.data.empty() && s.name.ends_with(kRare)) return false;  // those scenes are made
  return s.when == When::always || (s.when == When::full && !o.quick) || (s.when == When::grid && o.grid);
}
bool in_contrast(const Experiment& e, const Setting& s) {
  return s.name == e.primary.a.setting || s.name == e.primary.b.setting;
}
int seeds_of(const Experiment& e, const Setting& s, const LabOptions& o) {
  return o.seeds > 0 ? o.seeds : o.quick ? 3 : in_contrast(e, s) ? 10 : 5;
}
double usual_time(const Experiment& e, const LabOptions& o) {
  double cells = 0;
  for (auto& s : e.settings) cells += wanted(s, o) ? seeds_of(e, s, o) : 0;
  return cells * usual_seconds(e, o);
}

bool has_grid(const Experiment& e) {
  return std::any_of(e.settings.begin(), e.settings.end(), [](auto& s) { return s.when == Setting::When::grid; });
}

// What makes the page of this experiment, one of `fovea lab all`, too: without options that it does not take.
std::string command_of(const Experiment& e, const LabOptions& o) {
  std::string s = "fovea lab " + e.name;
  if (o.quick && e.measure) s += " --quick";
  if (o.grid && has_grid(e)) s += " --grid";
  if (o.seeds > 0 && e.measure) s += " --seeds " + std::to_string(o.seeds);
  if (!o.data.empty() && e.measure) s += " --data " + shell_word(o.data) + " --format " + o.format;
  if (o.out != LabOptions{}.out) s += " --out " + shell_word(o.out);
  return s;
}

// Seed by seed over all settings, so that what a stopped run leaves can be compared.
Results collect(const Experiment& e, Bench& bench, CellFile& cells) {
  using Clock = std::chrono::steady_clock;
  const LabOptions& o = bench.options;
  Results results;
  int most = 0, missing = 0;
  for (auto& s : e.settings) {
    if (!wanted(s, o)) continue;
    results.push_back({.setting = s, .primary = in_contrast(e, s)});
    most = std::max(most, seeds_of(e, s, o));
    for (int seed = 1; seed <= seeds_of(e, s, o); ++seed)
      missing += !cells.find(cell_name(bench.profile(), s.keys), uint64_t(seed));
  }
  double spent = 0;
  int done = 0;
  for (int seed = 1; seed <= most; ++seed)
    for (auto& r : results) {
      if (seed > seeds_of(e, r.setting, o)) continue;
      const std::string cell = cell_name(bench.profile(), r.setting.keys);
      if (!cells.find(cell, uint64_t(seed))) {
        const auto start = Clock::now();
        Metrics measured = e.measure(bench, r.setting.keys, uint64_t(seed));
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        measured["seconds"] = {seconds}, spent += seconds, ++done;
        cells.add(cell, uint64_t(seed), measured);
        const Metrics& m = *cells.find(cell, uint64_t(seed));
        const auto& judged = m.count("auc") ? m.at("auc") : m.at("ap");
        std::fprintf(stderr, "%s  %d/%d  %s, seed %d: %s %.3f  (%s left)\n", e.name.c_str(), done, missing,
                     r.setting.name.c_str(), seed, m.count("auc") ? "AUC" : "AP", judged[0],
                     duration(spent / done * (missing - done)).c_str());
      }
      r.seeds.push_back({uint64_t(seed), *cells.find(cell, uint64_t(seed))});
    }
  return results;
}

// A difference, in the unit of the page's table and figures.
std::string difference_text(const Interval& i, const Contrast& c, const std::string& between) {
  const bool points = percent(c.a.metric);
  const auto shown = [&](double v) { return points ? fixed(100 * v, 2) : fixed(v, 4); };
  const std::string range = ", 95 % interval " + shown(i.low) + " to " + shown(i.high);
  return shown(i.mean) + (points ? " points" : "") + (i.n > 1 ? range + between : " with one seed");
}

void judge_report(Report& r) {
  const Contrast& c = r.experiment->primary;
  const std::vector<double> d = differences(r.results, c);
  const Interval i = interval(d);
  r.verdict = name_of(judge(d, c.margin), i.n);
  if (i.n == 0) return void(r.judged = "All seeds diverged: there is no difference to judge.");
  if (i.n == 1) return void(r.judged = "One seed has no interval: --seeds 3 or more.");
  const bool points = percent(c.a.metric);
  char s[400];
  r.judged = "Difference " + difference_text(i, c, text(", paired over ", i.n, " seeds; "));
  if (c.margin > 0)
    std::snprintf(s, sizeof s, "two one-sided t tests within %.3g%s: p = %.3g.", points ? 100 * c.margin : c.margin,
                  points ? " points" : "", equivalence(d, c.margin));
  else
    std::snprintf(s, sizeof s, "one-sided t test p = %.3g, sign-flip permutation test p = %.3g (at best %.3g).",
                  t_test_above(d), sign_flip_above(d), sign_flip_least(i.n));
  r.judged += s;
}

// What becomes of the contrast where positives are rarer: description, so the verdict does not look at it.
void note_rare(Report& r) {
  Contrast c = r.experiment->primary;
  c.a.setting += kRare, c.b.setting += kRare;
  const auto is_a = [&](const SettingResult& s) { return s.setting.name == c.a.setting; };
  const auto rare = std::find_if(r.results.begin(), r.results.end(), is_a);
  if (rare == r.results.end()) return;
  const Interval i = interval(differences(r.results, c));
  if (i.n == 0) return;  // all of them diverged
  const double anchors = interval(rare->values("anchors")).mean, positives = interval(rare->values("positives")).mean;
  char s[400];
  const std::string difference = difference_text(i, c, text(" over ", i.n, " seeds"));
  std::snprintf(
      s, sizeof s,
      "Where objects are rare (at most one in a picture, of 8 kinds; one anchor in %.0f is positive) the same "
      "difference is %s.",
      anchors / positives, difference.c_str());
  r.page.notes.push_back(s);
}

Report run_one(const Experiment& e, Bench& bench, CellFile& cells) {
  const std::string folder = bench.options.out + "/" + e.name;
  const Keys keys = e.settings.empty() ? Keys{} : e.settings[0].keys;
  Report r{.experiment = &e, .setting = bench.described(keys), .command = command_of(e, bench.options)};
  if (e.measure) r.results = collect(e, bench, cells), judge_report(r);
  if (e.measure == measure_classifier)
    r.setting = text("the rare class is ", bench.classes()[0], ", the common one ", bench.classes()[1],
                     " (the table counts their pictures to train on); the backbone of the preset toy on pictures of ",
                     "32 x 32, ", bench.classifier_steps(), " steps of 32");
  e.show(r.results, r.page);
  note_rare(r);
  std::filesystem::create_directories(folder);
  for (auto& [name, figure] : r.page.figures) write_file_atomically(folder + "/" + name + ".svg", figure);
  if (e.measure) write_file_atomically(folder + "/results.csv", results_csv(r.results));
  write_file_atomically(folder + "/report.html", html_page(r));
  return r;
}

void list(const LabOptions& options, bool json) {
  check(Code::usage, !options.quick && options.out == LabOptions{}.out,
        "list shows both times and writes nothing: it takes --seeds, --grid, --data and --json");
  LabOptions quick = options, full = options;
  quick.quick = true, full.quick = false;
  Json all = Json::list();
  Table table({"experiment", "--quick", "in full", "claim", "source"});
  const auto time = [](double s) { return s > 0 ? duration(s) : std::string("at once"); };
  for (auto& e : experiments()) {
    table.row({e.name, time(usual_time(e, quick)), time(usual_time(e, full)), e.claim, e.source});
    all.add({{"name", e.name},
             {"claim", e.claim},
             {"source", e.source},
             {"primary", e.primary.statement},
             {"quick_seconds", usual_time(e, quick)},
             {"full_seconds", usual_time(e, full)}});
  }
  json ? print_json(all) : void(std::cout << table.str());
}

void run_lab(const Flags& flags) {
  check(Code::usage, !flags.lab.data.empty() || flags.lab.format == "auto",
        "--format is of a data set: name it by --data DIR");
  if (flags.name == "list") return list(flags.lab, flags.json);
  std::vector<std::string> names{"list", "all"};
  std::vector<const Experiment*> chosen;
  for (auto& e : experiments()) {
    names.push_back(e.name);
    if (flags.name == e.name || (flags.name == "all" && (flags.lab.data.empty() || e.measure != measure_classifier)))
      chosen.push_back(&e);
  }
  if (chosen.empty())
    fail(Code::usage, "unknown experiment '" + flags.name + "'" + suggestion(flags.name, names) +
                          "\n  hint: fovea lab list names them");
  const bool trains = chosen.size() > 1 || chosen[0]->measure;
  check(Code::usage, trains || (!flags.lab.quick && flags.lab.seeds == 0 && flags.lab.data.empty()), flags.name,
        " trains nothing: it takes --out and --json, but no --quick, --seeds or --data");
  check(Code::usage, flags.lab.format != "folders" || flags.name == "classify",
        "--format folders is for classify: the other experiments need boxes");
  check(Code::usage, !flags.lab.grid || std::any_of(chosen.begin(), chosen.end(), [](auto* e) { return has_grid(*e); }),
        "--grid is for gamma: leave it out");
  if (flags.name == "all" && !flags.lab.data.empty())
    std::fprintf(stderr, "notice: classify is left out: its data are folders of classes\n");
  std::error_code error;
  std::filesystem::create_directories(flags.lab.out, error);
  check(!error, "cannot make the folder '", flags.lab.out, "': ", error.message(), "\n  hint: choose another --out");
  Bench bench(flags.lab);
  CellFile cells(flags.lab.out + "/cells.csv");
  std::vector<Report> reports;
  Json all = Json::list();
  for (const Experiment* e : chosen) {
    const double seconds = usual_time(*e, flags.lab);
    if (seconds > 0)
      std::fprintf(stderr, "%s: about %s on two cores. Will be judged: %s\n", e->name.c_str(),
                   duration(seconds).c_str(), e->primary.statement.c_str());
    reports.push_back(run_one(*e, bench, cells));
    const Report& r = reports.back();
    const std::string verdict = r.verdict.empty() ? "arithmetic" : r.verdict;
    if (!flags.json) std::cout << e->name << ": " << verdict << "\n";
    if (!flags.json && !r.judged.empty()) std::cout << "  " << e->primary.statement << "\n  " << r.judged << "\n";
    std::cout.flush();  // what a kill finds
    all.add({{"name", e->name}, {"verdict", verdict}, {"judged", r.judged}});
  }
  if (flags.name == "all") write_file_atomically(flags.lab.out + "/index.html", html_index(reports));
  if (flags.json) print_json(all);
  std::fprintf(stderr, "page  %s/%s\n", flags.lab.out.c_str(),
               flags.name == "all" ? "index.html" : (flags.name + "/report.html").c_str());
}

}  // namespace

void add_lab(Command& program) {
  Command app =
      program.command("lab", "Reruns the paper's claims as experiments, with a page and a verdict each.", kExamples);
  auto flags = std::make_shared<Flags>();
  app.option("name", flags->name, "an experiment, list, or all").required().type("NAME");
  app.flag("--quick", flags->lab.quick, "three seeds and a small setting: minutes");
  app.flag("--grid", flags->lab.grid, "gamma: also the grid of gamma and alpha");
  app.option("--seeds", flags->lab.seeds, "of every setting").type("N").range(1, 1000);
  app.option("--data", flags->lab.data, "a data set of boxes instead of the made shapes; for classify, folders")
      .type("DIR");
  app.option("--format", flags->lab.format, "auto, coco, voc, yolo, csv, shapes, or folders: a folder a class")
      .show_default();
  app.option("--out", flags->lab.out, "folder of pages and finished cells").type("DIR").show_default();
  app.flag("--json", flags->json, "print verdicts as JSON");
  app.run([flags] { run_lab(*flags); });
}

}  // namespace fovea
