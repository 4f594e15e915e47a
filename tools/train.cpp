// fovea train: from a data set and a preset to a run directory with checkpoints, curves and pictures.
#include <cmath>
#include <filesystem>
#include <iostream>

#include "tools/command.h"
#include "tools/device.h"
#include "tools/evaluate.h"
#include "tools/session.h"

namespace fovea {
namespace {

const char* const kExamples =
    "fovea train --data shapes --preset toy --out runs/toy      # after: fovea data make shapes shapes\n"
    "fovea train --data photos --format voc --preset retinanet_small --out runs/photos\n"
    "fovea train --data photos --format coco --epochs 40 --set train.lr=1e-4 --set augment.flip=0.5 --out runs/slow\n"
    "fovea train --resume runs/photos                          # go on after Ctrl-C, a kill or a crash\n"
    "fovea train --data photos --overfit 4 --out runs/proof    # does it learn four pictures by heart?\n"
    "fovea train --keys --preset toy                           # every key, its value and what it is";

struct Flags {
  std::string resume, out, config;
  std::vector<std::string> settings;
  std::vector<FlagValue> keys;  // flags that stand for a key
  int64_t stop_after = 0;
  bool json = false, show_keys = false;
};

void key_flag(Command& app, std::shared_ptr<Flags> flags, const std::string& flag, const std::string& value_name,
              const std::string& key, const std::string& help) {
  app.option(
         flag,
         [=](const std::string& value) {
           flags->keys.push_back({key, value, flag});
         },
         help + " (" + key + ")")
      .type(value_name);
}

void train(const Flags& flags) {
  ConfigSources sources;
  sources.settings = flags.settings, sources.flags = flags.keys, sources.file = flags.config;
  SessionRequest request;
  request.out = flags.out, request.stop_after = flags.stop_after, request.resume = !flags.resume.empty();
  if (request.resume) {
    check(Code::usage, flags.out.empty() && flags.config.empty(),
          "--resume goes on in the run's own folder with its own ", "configuration: leave out --out and --config");
    check(Code::usage, std::filesystem::exists(flags.resume + "/config.toml"), "'", flags.resume,
          "' holds no run to resume\n  hint: is the path right? A new run needs --data and --out");
    request.out = flags.resume, sources.file = flags.resume + "/config.toml", sources.own = true;
  }
  request.config = load_config(sources);
  if (flags.show_keys && flags.json) {
    Json keys = Json::list();
    for (auto& k : config_keys())
      keys.add({{"key", k.name}, {"value", k.get(request.config)}, {"help", k.help}, {"type", k.type}});
    return print_json(keys);
  }
  if (flags.show_keys) {
    std::cout << key_table(request.config);
    return;
  }
  check_named_once(request.config.data.dir, request.config.data.annotations);
  check(Code::usage, !request.out.empty(), "--out is required: the folder that the run is to be in");
  Session session(std::move(request));
  session.run();
  const Json summary = session.summary();
  if (flags.json) return print_json(summary);
  std::fprintf(stderr, "report      %s/report.html\ncheckpoint  %s\n", summary["run"].string.c_str(),
               summary["checkpoint"].string.c_str());
  if (summary["best_epoch"] != 0)
    std::cout << "AP = " << number(summary["AP"].number(NAN)) << "  AP50 = " << number(summary["AP50"].number(NAN))
              << "\n";
}

}  // namespace

void add_train(Command& program) {
  Command app = program.command("train", "Trains a detector; --keys lists all that can be set.", kExamples);
  auto flags = std::make_shared<Flags>();
  key_flag(app, flags, "--data", "DIR", "data.dir", "folder of the data set");
  key_flag(app, flags, "--format", "FORMAT", "data.format", "coco, voc, yolo, csv, shapes; auto: by its files");
  key_flag(app, flags, "--split", "SPLIT", "data.split", "what to train on");
  key_flag(app, flags, "--val-split", "SPLIT", "data.val_split", "what to score on");
  key_flag(app, flags, "--annotations", "FILE", "data.annotations", "a COCO file, with --images, instead of --data");
  key_flag(app, flags, "--images", "DIR", "data.images", "the folder of its pictures");
  key_flag(app, flags, "--val-annotations", "FILE", "data.val_annotations", "the same for scoring");
  key_flag(app, flags, "--val-images", "DIR", "data.val_images", "the same for scoring");
  key_flag(app, flags, "--val-fraction", "X", "data.val_fraction", "part to score on where there are no splits");
  key_flag(app, flags, "--preset", "NAME", "preset", "network and recipe: toy, retinanet_small, retinanet_r50 ...");
  key_flag(app, flags, "--epochs", "N", "train.epochs", "passes over the pictures");
  key_flag(app, flags, "--steps", "N", "train.steps", "steps instead of epochs");
  key_flag(app, flags, "--batch", "N", "train.batch", "pictures of a step");
  key_flag(app, flags, "--lr", "X", "train.lr", "learning rate");
  key_flag(app, flags, "--seed", "N", "train.seed", "of everything random");
  key_flag(app, flags, "--device", "DEVICE", "train.device", kDeviceHelp);
  key_flag(app, flags, "--threads", "N", "train.threads", "of the computation; the results do not depend on it");
  key_flag(app, flags, "--precision", "TYPE", "train.precision", kPrecisionHelp);
  key_flag(app, flags, "--weights", "FILE|RUN", "train.weights", "start from a file or a run");
  key_flag(app, flags, "--overfit", "N", "train.overfit", "train and score on the first N pictures");
  app.option("--out", flags->out, "folder of the new run").type("DIR");
  app.option("--resume", flags->resume, "go on with this run").type("RUN");
  app.option("--config", flags->config, "a configuration file (TOML)").type("FILE");
  app.option("--set", flags->settings, "any key, e.g. train.lr=1e-4; may be repeated").type("KEY=VALUE");
  app.option("--stop-after", flags->stop_after, "pause when so many steps of the run are done").type("N").range(1, 1e9);
  app.flag("--keys", flags->show_keys, "list every key with its value, and stop");
  app.flag("--json", flags->json, "print the closing figures, or the keys, as JSON");
  app.run([flags] { train(*flags); });
}

}  // namespace fovea
