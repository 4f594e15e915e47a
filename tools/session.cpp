// The training loop and all that surrounds it: checkpoints, scores, log, signals, and going on after a kill.
#include "tools/session.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <new>
#include <set>

#include "core/atomic_file.h"
#include "core/isa.h"
#include "core/threads.h"
#include "models/names.h"
#include "nn/pattern.h"
#include "tools/anchor_fit.h"
#include "tools/command.h"
#include "tools/device.h"
#include "tools/report.h"
#include "tools/weights.h"

namespace fovea {
namespace {
namespace fs = std::filesystem;

template <class... A> void say(const char* format, A... arguments) { std::fprintf(stderr, format, arguments...); }

// Files of their own are whole splits; one COCO file for both is divided, as a folder without splits is where there are
// no other pictures to score on.
DatasetOptions dataset_options(const Config& config, bool val) {
  const auto& d = config.data;
  const bool two = !d.val_annotations.empty() || !d.val_images.empty(), whole = two && (val || !d.annotations.empty());
  DatasetOptions options;
  options.dir = d.dir, options.format = d.format, options.policy = d.policy;
  options.val_fraction = two ? 0 : d.val_fraction;
  options.split = whole ? "" : val ? d.val_split : d.split;
  options.annotations = val && two ? d.val_annotations : d.annotations;
  options.images = val && two ? d.val_images : d.images;
  return options;
}

// Where the file is damaged, what there is to go on from without it.
std::string without(const CheckpointFolder& folder, const std::string& latest) {
  if (!std::ifstream(latest).good()) return "";  // a matter of rights
  try {
    read_safetensors(latest);
    return "";
  } catch (const Error&) {}
  std::string before = "the beginning";
  for (const int64_t step : folder.steps())
    if (const std::string name = text("step-", step); fs::path(latest).stem() != name) before = name;
  return "\n  hint: remove this file to go on from " + before;
}

int64_t in_both(const Dataset& train, const Dataset& val) {  // pictures
  std::set<std::string> scored;
  for (int64_t i = 0; i < val.size(); ++i) scored.insert(val.annotation(i).path);
  int64_t shared = 0;
  for (int64_t i = 0; i < train.size(); ++i) shared += scored.count(train.annotation(i).path) > 0;
  return shared;
}

// What a file or a run of weights calls its outputs; nothing where it does not say, or cannot be read (loading says
// why).
std::vector<std::string> classes_of(const std::string& weights) {
  if (weights.empty()) return {};
  try {
    const auto info = checkpoint_info(read_safetensors(weights_file(weights)));
    return info ? info->classes : std::vector<std::string>{};
  } catch (const Error&) { return {}; }
}

}  // namespace

Session::Session(SessionRequest request) : request_(std::move(request)), config_(request_.config) {
  if (config_.train.threads > 0) set_num_threads(static_cast<int>(config_.train.threads));
  set_conv_algo(conv_algo_named(config_.conv.algo));
  use_precision(config_.train.precision, use_device(config_.train.device));
  if (request_.resume) run_ = RunDirectory::reopen(request_.out);  // locked before anything of it is read
  checkpoints_.emplace(request_.out + "/checkpoints", static_cast<int>(config_.train.keep));
  const std::string latest = request_.resume ? checkpoints_->latest() : "";
  open_data(latest.empty() ? config_.train.weights : latest);
  check_texts();
  check_options(config_.model);
  if (config_.train.weights.empty() && config_.train.backbone_weights.empty()) check_from_scratch(config_.model);
  model_ = std::make_unique<RetinaNet>(config_.model, config_.train.seed);
  model_->in_bf16 = config_.train.precision == "bf16";
  model_->move_to(use_device(config_.train.device));
  per_epoch_ = steps_of(*train_, loader_options(config_, true));
  total_ = config_.train.steps > 0 ? config_.train.steps : config_.train.epochs * per_epoch_;
  check(Code::usage, total_ > 0,
        "train.epochs and train.steps are 0, so there is nothing to train\n  hint: --epochs 20");
  if (latest.empty()) load_start_weights();  // before the trainer, whose average begins with them
  trainer_ = std::make_unique<Trainer>(config_, *model_, total_);
  if (request_.resume) {
    restore(latest);
  } else {
    Json environment = environment_json(describe(model_->device()));
    environment["pictures"] = train_->size();
    run_ = RunDirectory::create(request_.out, config_, environment);
  }
}

void Session::open_data(const std::string& weights) {
  auto& c = config_;
  check(Code::data, !request_.resume || c.data.dir.empty() || fs::is_directory(c.data.dir), c.data.dir,
        ": is not a folder, but this run has its pictures there\n  hint: where are they now? --resume ",
        shell_word(request_.out), " --data DIR");
  DatasetOptions of_train = dataset_options(c, false);
  train_ = open_dataset(of_train);
  of_train.classes = classes_of(weights);
  const auto &ours = train_->classes(), &theirs = of_train.classes;
  if (ours != theirs && std::is_permutation(theirs.begin(), theirs.end(), ours.begin(), ours.end())) {
    say("notice: the classes are in the order of the weights: %s\n", joined(theirs).c_str());
    train_ = open_dataset(of_train);
  } else if (ours != theirs && ours.size() == theirs.size() && !request_.resume && c.train.skip_weights.empty()) {
    warn(text("the weights' classes are ", joined(theirs), ", the data's ", joined(ours),
              ": each takes over the weights of the one at its place; --set 'train.skip_weights=*cls_logits*' begins ",
              "that layer afresh"));
  }
  const int64_t all = train_->size();
  train_ = train_->filtered(c.data.filter);
  check(Code::data, train_->size() > 0, train_->name(), ": data.filter = ", c.data.filter, " leaves none of the ",
        counted(all, "picture"),
        " to train on\n  hint: do the annotations belong to these pictures? --set data.filter=none keeps all");
  const int64_t classes = static_cast<int64_t>(train_->classes().size());
  const auto origin = c.origin.find("model.classes");
  const bool asked = origin != c.origin.end() && !from_preset(c, "model.classes") && origin->second != "the data";
  check(Code::usage, !asked || c.model.classes == classes, "model.classes is ", c.model.classes, " (",
        asked ? origin->second : "", "), but '", train_->name(), "' has ", counted(classes, "class"),
        "\n  hint: leave ", "model.classes out, the data says how many");
  c.model.classes = static_cast<int>(classes), c.origin["model.classes"] = "the data";
  if (c.train.overfit > 0) {
    train_ = train_->first(c.train.overfit);
    c.train.batch = std::min(c.train.batch, train_->size());
    val_ = *train_;
    return;
  }
  if (c.data.val_split.empty() && c.data.val_annotations.empty() && c.data.val_images.empty()) return;
  auto options = dataset_options(c, true);
  const bool chosen = c.origin.count("data.val_split") || !options.annotations.empty() || !options.images.empty();
  const auto splits = chosen ? std::vector<std::string>{} : find_splits(c.data.dir, c.data.format);
  if (!chosen && !splits.empty() && std::find(splits.begin(), splits.end(), c.data.val_split) == splits.end()) {
    const std::string other = val_split_of(splits);
    if (other.empty() || other == c.data.split) {
      warn("no split '" + c.data.val_split + "' to score on during training; " +
           (splits == std::vector{c.data.split}
                ? "there is only '" + c.data.split + "': pictures that are trained on say nothing of others"
                : "name one with --val-split: there are " + joined(splits)));
      return;
    }
    options.split = c.data.val_split = other, c.origin["data.val_split"] = "the data";
  }
  options.classes = train_->classes();
  val_ = open_dataset(options);
  if (const int64_t shared = in_both(*train_, *val_); shared > 0)
    warn(text(counted(shared, "picture"), " of the ", val_->size(), " to score on ", shared == 1 ? "is" : "are",
              " trained on, too: such scores say nothing of other pictures; --val-split names a split"));
}

// What config.toml and the checkpoints will hold: a text that they cannot is better found before the first epoch.
void Session::check_texts() const {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };  // TOML has none in comments
  for (auto& k : config_keys())
    check(Code::usage, is_utf8(k.get(config_)), k.name, " = ", json_text(k.get(config_)),
          " is not UTF-8, which checkpoints are\n  hint: rename the file or folder");
  for (auto& [name, from] : config_.origin)
    check(Code::usage, is_utf8(from) && std::none_of(from.begin(), from.end(), is_control), name, " comes from ",
          json_text(from), ", which config.toml cannot name\n  hint: rename the file");
  for (auto& name : train_->classes())
    check(Code::data, is_utf8(name) && name.find('\n') == std::string::npos, "'", train_->name(), "': the class name ",
          json_text(name), " is not UTF-8 or holds a line break, which checkpoints cannot keep\n  hint: rename it");
}

void Session::load_start_weights() {
  const auto& t = config_.train;
  std::vector<std::string> names;
  for (auto& s : model_->state()) names.push_back(s.name);
  for (auto& pattern : split(t.skip_weights, ','))
    check(Code::usage, std::any_of(names.begin(), names.end(), [&](auto& name) { return matches(pattern, name); }),
          "train.skip_weights: the network has no weight '", pattern, "'", suggestion(pattern, names),
          "\n  hint: such as head.classification_head.*; a star stands for any characters");
  LoadOptions backbone, all;
  backbone.model_prefix = "backbone.body.", backbone.may_be_extra = "fc.*";
  all.skip = t.skip_weights, all.classes = config_.model.classes;
  all.background = config_.model.loss.kind == "softmax";
  all.class_advice = "\n  hint: --set 'train.skip_weights=*cls_logits*' loads all but the class head's last layer";
  if (!t.backbone_weights.empty()) load_weights(*model_, t.backbone_weights, backbone);
  if (!t.weights.empty()) {
    const std::string file = weights_file(t.weights);
    load_weights(*model_, read_weights(file), all, file);
  }
}

CheckpointInfo Session::load_latest(const std::string& latest) {
  try {
    const NamedTensors file = read_safetensors(latest);
    const auto info = checkpoint_info(file);  // before shapes that do not fit are found
    if (info && info->classes != train_->classes())
      fail(Code::data,
           text("the classes of '", train_->name(), "' (", joined(train_->classes()), ") are not those of this run (",
                joined(info->classes), ")\n  hint: go on with the data ",
                "that it was begun with, or begin a new run from its weights: --weights ", request_.out, " --out NEW"));
    return load_checkpoint(file, trainer_->state(), latest);
  } catch (const Error& error) { fail(error.code, error.what() + without(*checkpoints_, latest)); }
}

void Session::restore(const std::string& latest) {
  if (latest.empty()) {
    say("%s\n", "no checkpoint yet: the run starts from its beginning");
  } else {
    const auto info = load_latest(latest);
    if (info.isa != name_of(isa()))
      say("notice: the run so far used the instruction set %s, this machine uses %s: it goes on, but not bit for bit\n",
          info.isa.c_str(), name_of(isa()));
    step_ = saved_ = info.step;
    note_changes(info.config, latest);
  }
  run_->drop_after(step_);
  write_file_atomically(run_->file("config.toml"), to_toml(config_));
  const int64_t begun_with = run_->environment()["pictures"].integer(train_->size());
  if (begun_with != train_->size())
    say("notice: there are now %s to train on (were %lld): an epoch is now %s\n",
        counted(train_->size(), "picture").c_str(), static_cast<long long>(begun_with),
        counted(per_epoch_, "step").c_str());
  int64_t scored = 0;
  if (!run_->scores().empty()) scored = static_cast<int64_t>(run_->scores().back().step);
  if (const Json& best = run_->best(); !best.is(Json::Kind::null))
    best_ap_ = best["AP"].number(-1), best_ap50_ = best["AP50"].number(-1), best_epoch_ = best["epoch"].integer();
  const int64_t told = val_ ? scored : step_ / per_epoch_ * per_epoch_;  // by the last closing line
  for (const StepFigures& s : run_->steps())                             // the mean loss goes on where it was
    if (s.step > static_cast<double>(told)) loss_sum_ += s.loss, ++loss_count_;
}

// What a flag or the environment changes in the middle of a run is said aloud.
void Session::note_changes(const std::string& before, const std::string& name) const {
  ConfigSources sources;
  sources.text = before, sources.text_name = name, sources.environment = false;
  const Config old = load_config(sources);
  for (auto& k : config_keys())  // they were where it began
    check(Code::usage, !k.name.starts_with("train.") || !k.name.ends_with("weights") || k.get(old) == k.get(config_),
          k.name, " is now ", quoted(k.get(config_)), ", but this run began with ",
          k.get(old).empty() ? "none" : quoted(k.get(old)), " and goes on from its own weights\n  hint: leave it out, ",
          "or begin a new run with --out NEW");
  for (auto& k : config_keys())
    if (!k.of_machine() && k.get(old) != k.get(config_))
      say("notice: %s is now %s (was %s)\n", k.name.c_str(), k.get(config_).c_str(), k.get(old).c_str());
}

void Session::announce() const {
  const auto line = [](const char* name, const std::string& value) {
    say("%s  %s\n", styled(Style::bold, name, Stream::err).c_str(), value.c_str());
  };
  line("data ", text(train_->name(), ": ", counted(train_->size(), "picture"), " to train on, ",
                     val_ ? count_text(val_->size()) : "none", " to score on, ",
                     counted(static_cast<int64_t>(train_->classes().size()), "class")));
  for (auto* data : {&train_, &val_})
    if (*data && !(*data)->problems().summary().empty()) warn((*data)->name() + ": " + (*data)->problems().summary());
  const AnchorFit fit = fit_anchors(*train_, config_);
  if (fit.all.boxes == 0)
    warn(train_->name() +
         ": none of the pictures to train on has a box, so there is nothing to learn\n  hint: do the "
         "annotations belong to these pictures? fovea data stats shows what is read of them");
  const std::string poor = anchor_warning(config_, fit, advise_anchors(*train_, config_, fit));
  if (!poor.empty()) warn(poor);
  line("model", text(config_.preset, ": ", count_text(model_->parameter_count()), " parameters, ",
                     counted(config_.model.anchors.count(), "anchor"), " a cell"));
  line("run  ", text(request_.out, ": ", counted(total_, "step"), " of ", counted(config_.train.batch, "picture"), ", ",
                     per_epoch_, " an epoch, ", counted(num_threads(), "thread"), ", ", name_of(isa())));
  if (model_->device() != Device::cpu) line("gpu  ", describe(model_->device()));
  if (step_ > 0) line("     ", text(step_ < total_ ? "goes on" : "is finished", " after step ", step_));
}

void Session::run() {
  catch_stops();
  announce();
  progress_ = std::make_unique<Progress>("", total_, step_);
  try {
    try {
      loop();
    } catch (const Exit&) { leave(stop_caught()); } catch (const std::bad_alloc&) {
      fail(Code::memory, "out of memory\n  hint: a smaller data.short_side or data.max_side needs less");
    }
  } catch (const Error& error) {  // also of leave(), whose checkpoint may fail
    progress_->clear();
    const std::string latest = checkpoints_->latest();
    const std::string rest = latest.empty() ? "no checkpoint was written yet" : "last good checkpoint: " + latest;
    const char* change = error.code == Code::not_finite ? " --lr RATE (a lower one)"
                         : error.code == Code::memory   ? " --batch N (a smaller one)"
                                                        : "";
    const std::string others = error.code == Code::data ? "\n  are there others? " + how_to_verify() : "";
    fail(error.code, text(error.what(), "\n  ", rest, "\n  ", how_to_resume(), change, others));
  }
  progress_->clear();
  report();
  if (step_ < total_)
    say("paused after step %lld of %lld; %s\n", static_cast<long long>(step_), static_cast<long long>(total_),
        how_to_resume().c_str());
}

void Session::loop() {
  if (step_ > 0 && evaluation_due()) evaluate_now();  // killed between checkpoint and score
  LoaderOptions options = loader_options(config_, true);
  options.device = model_->device();
  Loader loader(*train_, options, step_ / per_epoch_, step_ % per_epoch_);
  const int64_t end = request_.stop_after > 0 ? std::min(total_, request_.stop_after) : total_;
  while (step_ < end) {
    one_step(loader);
    const bool boundary = step_ % per_epoch_ == 0 || step_ == total_;
    const int64_t every = config_.train.checkpoint_every;
    if (boundary || step_ == end || (every > 0 && step_ % every == 0)) save();
    if (stop_caught()) throw Exit{128 + stop_caught()};
    if (evaluation_due()) evaluate_now();
    else if (boundary && !val_) say_epoch("");
  }
}

void Session::one_step(Loader& loader) {
  const auto start = Clock::now();
  while (!loader.wait(std::chrono::milliseconds(100)))
    if (stop_caught()) {
      save();  // now: where a disk does not answer, the loader's end waits for it, too
      throw Exit{128 + stop_caught()};
    }
  const auto batch = loader.next();
  const double wait = ms_since(start);
  const auto begin = Clock::now();
  const StepResult result = trainer_->step(*batch, step_);
  if (step_ == 0) check_first_loss(result);
  ++step_;
  log_step(result, *batch, wait, ms_since(begin));
  loss_sum_ += result.loss(), ++loss_count_;
  progress_->label(text("epoch ", (step_ - 1) / per_epoch_ + 1, "/", (total_ + per_epoch_ - 1) / per_epoch_));
  char note[96];
  std::snprintf(note, sizeof note, "loss %.3f  lr %.1e  |g| %.2f", loss_sum_ / static_cast<double>(loss_count_),
                result.lr, result.grad_norm);
  progress_->update(step_, note);
}

void Session::log_step(const StepResult& result, const Batch& batch, double wait, double work) {
  const auto memory = memory_stats(model_->device());
  const auto rounded = [](double v) { return std::round(v * 10) / 10; };
  run_->event({{"event", "step"},
               {"step", step_},
               {"epoch", batch.epoch + 1},
               {"loss", result.loss()},
               {"classification", result.classification},
               {"box", result.box},
               {"lr", result.lr},
               {"grad_norm", result.grad_norm},
               {"positives", result.stats.positives},
               {"low_quality", result.stats.low_quality},
               {"unmatched", result.stats.unmatched},
               {"boxes", result.stats.boxes},
               {"size", {batch.images.dim(1), batch.images.dim(2)}},
               {"wait_ms", rounded(wait)},
               {"step_ms", rounded(work)},
               {"memory_mb", rounded(static_cast<double>(memory.current) / 1e6)},
               {"peak_mb", rounded(static_cast<double>(memory.peak) / 1e6)}});
}

void Session::check_first_loss(const StepResult& result) {
  if (!config_.train.weights.empty()) return;
  const double expected = expected_initial_loss(config_.model, result.stats);
  run_->event(
      {{"event", "first_loss"}, {"step", 1}, {"classification", result.classification}, {"expected", expected}});
  if (result.stats.total_positives() == 0 || std::abs(std::log(result.classification / expected)) < std::log(1.4))
    return;
  progress_->clear();
  warn(text("the first classification loss is ", number(result.classification), ", but the prior (model.prior ",
            config_.model.prior, ") predicts ", number(expected),
            ":\n  the untrained class head is not near its prior. Look at model.final_std (large features times large "
            "weights),\n  at model.backbone_norm, and at the pixels' mean and deviation"));
}

void Session::save() {
  if (saved_ == step_) return;
  trainer_->check_weights(step_);
  CheckpointInfo info;
  info.step = step_, info.config = to_toml(config_, false), info.classes = train_->classes();
  checkpoints_->save(trainer_->state(), info);
  saved_ = step_;
}

bool Session::evaluation_due() const {
  if (!val_ || (step_ % per_epoch_ != 0 && step_ != total_)) return false;
  if (step_ != total_ && (config_.eval.every == 0 || step_ / per_epoch_ % config_.eval.every != 0)) return false;
  return std::none_of(run_->scores().begin(), run_->scores().end(),
                      [this](const ScoreFigures& s) { return s.step == static_cast<double>(step_); });
}

void Session::evaluate_now() {
  scoring_ = true;
  std::optional<Ema::Swap> averaged;
  if (trainer_->ema()) averaged.emplace(*trainer_->ema());
  evaluation_ =
      evaluate(*model_, *val_, {.loader = loader_options(config_, false), .progress = [&](int64_t done, int64_t all) {
                                  progress_->update(step_, text("scoring ", done, "/", all));
                                  return !stop_caught();
                                }});
  averaged.reset();
  const auto& stats = evaluation_->coco.stats;
  const bool finite = std::isfinite(evaluation_->classification + evaluation_->box);
  const bool best = finite && (stats[0] >= best_ap_ || best_epoch_ == 0);
  if (best) {
    best_ap_ = stats[0], best_ap50_ = stats[1], best_epoch_ = (step_ + per_epoch_ - 1) / per_epoch_;
    checkpoints_->mark_best(checkpoints_->latest());
  }
  log_scores(best);
  progress_->clear();
  say_epoch(text("  val ", number(evaluation_->classification + evaluation_->box), "  ", ap_line(evaluation_->coco),
                 best && best_ap_ >= 0 ? styled(Style::green, "  best so far", Stream::err) : ""));
  report();
  scoring_ = false;
}

void Session::report() const {
  write_report(*run_, config_, val_ ? &*val_ : nullptr, evaluation_ ? &*evaluation_ : nullptr,
               text(count_text(step_), " of ", counted(total_, "step")));
}

void Session::log_scores(bool best) {
  const auto& e = *evaluation_;
  const int64_t now = (step_ + per_epoch_ - 1) / per_epoch_;
  const auto score = [](double v) { return v < 0 ? Json() : Json(v); };
  Json stats = Json::list(), classes = Json::list();
  for (double v : e.coco.stats) stats.add(score(v));
  for (double v : class_aps(e.coco, *val_)) classes.add(score(v));
  run_->metrics({{"step", step_},
                 {"epoch", now},
                 {"train_loss", loss_sum_ / static_cast<double>(loss_count_)},
                 {"val_loss", e.classification + e.box},
                 {"AP", stats.items[0]},
                 {"AP50", stats.items[1]},
                 {"AP75", stats.items[2]},
                 {"AP_small", stats.items[3]},
                 {"AP_medium", stats.items[4]},
                 {"AP_large", stats.items[5]},
                 {"AR100", stats.items[8]}});
  // Last: what a kill leaves without it is scored again.
  run_->event({{"event", "eval"},
               {"step", step_},
               {"epoch", now},
               {"loss", e.classification + e.box},
               {"classification", e.classification},
               {"box", e.box},
               {"AP", stats.items[0]},
               {"AP50", stats.items[1]},
               {"stats", stats},
               {"class_ap", classes},
               {"best", best},
               {"seconds", e.seconds}});
}

// The closing line of an epoch (or of several, where not each is scored).
void Session::say_epoch(const std::string& scores) {
  progress_->clear();
  say("epoch %3lld  loss %s%s\n", static_cast<long long>((step_ + per_epoch_ - 1) / per_epoch_),
      number(loss_sum_ / static_cast<double>(loss_count_)).c_str(), scores.c_str());
  loss_sum_ = 0, loss_count_ = 0;
}

// Of the data that were being read: those to score on, or those to train on.
std::string Session::how_to_verify() const {
  const DatasetOptions o = dataset_options(config_, scoring_ && config_.train.overfit == 0);
  std::string s = "fovea data stats";
  if (!o.dir.empty()) s += " " + shell_word(o.dir);
  if (o.format != "auto") s += " --format " + o.format;
  const auto add = [&s](const char* flag, const std::string& value) {
    if (!value.empty()) s += flag + shell_word(value);
  };
  add(" --split ", o.split), add(" --annotations ", o.annotations), add(" --images ", o.images);
  if (o.val_fraction != DatasetOptions().val_fraction) s += " --val-fraction " + shortest(o.val_fraction);
  return s + " --verify";
}

std::string Session::how_to_resume() const { return "go on with: fovea train --resume " + shell_word(request_.out); }

void Session::leave(int signal) {
  progress_->clear();
  save();
  say("stopped after step %lld of %lld; a checkpoint is written\n%s\n", static_cast<long long>(step_),
      static_cast<long long>(total_), how_to_resume().c_str());
  throw Exit{128 + signal};
}

Json Session::summary() const {
  const auto score = [](double v) { return v < 0 ? Json() : Json(v); };
  return {{"run", request_.out},
          {"steps", step_},
          {"of", total_},
          {"best_epoch", best_epoch_},
          {"AP", score(best_ap_)},
          {"AP50", score(best_ap50_)},
          {"checkpoint", checkpoints_->best().empty() ? checkpoints_->latest() : checkpoints_->best()}};
}

}  // namespace fovea
