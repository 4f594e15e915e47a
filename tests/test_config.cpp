// Where the values of a configuration come from: files by hand and of runs, presets, flags.
#include "data/json.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// The value of a key in the configuration of these arguments.
std::string value(const std::string& arguments, const std::string& key) {
  const Result r = run("train --keys --json " + arguments);
  INFO(arguments << "\n" << r.err);
  REQUIRE(r.code == 0);
  const Json keys = parse_json(r.out);
  for (const Json& k : keys.items)
    if (k["key"] == key) return k["value"].string;
  return "no such key";
}

}  // namespace

TEST_CASE("a file whose name begins as a preset's origin does is a file") {
  make_data();
  shared().write("presets/mine.toml", "[train]\noverfit = 4\nepochs = 7\n");
  CHECK(value("--preset toy --config presets/mine.toml", "train.steps") == "0");
  shared().write("preset.toml", "[train]\nmomentum = 0.8\n[model]\nclasses = 7\n");
  fails("train --data tiny --steps 1 --out never --config preset.toml" + kSmall, 2,
        {"model.classes is 7 (preset.toml:4)", "has 3 classes"});
  shared().write("preset.toml", "[train]\nmomentum = 0.8\n");
  REQUIRE(run("train --data tiny --steps 1 --out preset-file --config preset.toml" + kSmall).code == 0);
  const std::string report = slurp(shared() / "preset-file/report.html");
  const size_t fold = report.find("From the preset toy");
  REQUIRE(fold != std::string::npos);
  CHECK(report.find("preset.toml:2") < fold);
  CHECK(report.find("preset toy</code>") > fold);
}

TEST_CASE("no preset lets a picture of any shape grow beyond twice the area of a square one") {
  for (const char* preset :
       {"toy", "retinanet_small", "retinanet_r18", "retinanet_r34", "retinanet_r50", "retinanet_r101"}) {
    const std::string named = std::string("--preset ") + preset;
    const double shorter = std::stod(value(named, "data.short_side")),
                 longer = std::stod(value(named, "data.max_side"));
    INFO(preset);
    CHECK((shorter > 0 && longer >= shorter && longer <= 2 * shorter));
  }
}

TEST_CASE("the nearest key is named as the mistyped one was, with or without its model.") {
  fails("train --data x --out y --set los.kind=ce", 2, {"unknown key 'los.kind'", "did you mean 'loss.kind'?"});
  fails("train --data x --out y --set model.los.kind=ce", 2, {"did you mean 'model.loss.kind'?"});
}

TEST_CASE("a configuration file without an end is refused") {
  fails("train --data x --out y --config /dev/zero", 2, {"configuration file '/dev/zero'", "larger than 1 MiB"});
}

TEST_CASE("what a file names was chosen, also where the preset says the same, whatever the file's ending") {
  for (const std::string file : {"plain.toml", "plain.cfg"}) {  // toy has 12 epochs, too
    shared().write(file, "preset = 'toy'\n[train]\noverfit = 2\nepochs = 12\n");
    CHECK(value("--config " + file, "train.steps") == "0");
  }
}

TEST_CASE("of a run's configuration, which names every key, what the run chose was chosen") {
  make_data();
  const std::string heart = "train --data tiny --preset toy --set data.short_side=64 --overfit 2 --stop-after 1 ";
  REQUIRE(run(heart + "--epochs 12 --out twelve").code == 0);
  REQUIRE(run(heart + "--set eval.every=1 --out by-heart").code == 0);
  for (const std::string ending : {".toml", ".cfg"}) {
    std::filesystem::copy_file(shared() / "twelve/config.toml", shared() / ("twelve" + ending));
    CHECK(value("--config twelve" + ending, "train.steps") == "0");
    std::filesystem::copy_file(shared() / "by-heart/config.toml", shared() / ("by-heart" + ending));
    CHECK(value("--config by-heart" + ending, "train.steps") == "300");
    CHECK(value("--config by-heart" + ending, "eval.every") == "1");
    std::filesystem::copy_file(shared() / "done/config.toml", shared() / ("kept" + ending));
    CHECK(value("--config kept" + ending + " --overfit 2 --steps 0", "train.steps") == "0");
    CHECK(value("--config kept" + ending + " --overfit 2", "eval.every") == "0");  // 1 is the default
  }
  // A value changed by hand comes from its line.
  std::string edited = slurp(shared() / "done/config.toml");
  const size_t at = edited.find("\nepochs = 12");
  REQUIRE(at != std::string::npos);
  shared().write("edited.cfg", edited.replace(at, 12, "\nepochs = 11"));
  CHECK(value("--config edited.cfg --overfit 2", "train.epochs") == "11");
}

TEST_CASE("numbers in every form replace those of a weaker source") {
  shared().write("seed.toml", "[train]\nseed = 5\nwarmup = 7\n");
  CHECK(value("--config seed.toml --set train.seed=-0", "train.seed") == "0");
  CHECK(value("--config seed.toml --set train.warmup=1e3", "train.warmup") == "1000");
  CHECK(value("--config seed.toml --set train.warmup=30", "train.warmup") == "30");
}

TEST_CASE("a value that does not fit is refused with the flag that it was given to") {
  fails("train --data tiny --out never --batch 0", 2, {"error: --batch: train.batch: 0 is out of range (1 to"});
  fails("train --data tiny --out never --format vco", 2, {"error: --format: data.format: 'vco'", "mean 'voc'?"});
  fails("train --data tiny --out never --set train.batch=0", 2, {"error: --set: train.batch: 0 is out of range"});
}

TEST_CASE("a setting may have blanks around its equals sign, for every command") {
  CHECK(value("--set 'model.channels = 32'", "model.channels") == "32");
  const Result r = run("model toy --json --set 'model.channels = 32'");
  CHECK(r.code == 0);
  CHECK(r.out == run("model toy --json --set model.channels=32").out);
  fails("model toy --set model.channels", 2, {"--set model.channels: expected key=value"});
}

TEST_CASE("going on, the environment stays below what the first command line said") {
  make_data();
  const auto goes_on = [](const std::string& name, const std::string& environment) {
    const Result r = run("train --stop-after 2 --resume " + name, environment);
    INFO(r.err);
    CHECK(r.code == 0);
    return r.err;
  };
  const std::string train = "train --data tiny --threads 1 --stop-after 1 " + kSmall, shell = "FOVEA_TRAIN_EPOCHS=3 ";
  REQUIRE(run(train + "--steps 4 --out asked-steps", shell).code == 0);  // 3 steps an epoch
  for (const std::string& now : {shell, std::string("FOVEA_TRAIN_EPOCHS=5 ")}) {
    const std::string said = goes_on("asked-steps", now + "FOVEA_TRAIN_BATCH=2 FOVEA_MODEL_CHANNELS=16");
    require_words(said, {"asked-steps: 4 steps of 4 pictures"});
    CHECK((said.find("notice: train.epochs is now 5") != said.npos) == (now != shell));
    CHECK(said.find("train.steps is now") == said.npos);
  }
  REQUIRE(run(train + "--epochs 2 --out asked-epochs", "FOVEA_TRAIN_STEPS=4").code == 0);
  std::string config = slurp(shared() / "asked-epochs/config.toml");
  const size_t at = config.find("# --epochs");
  REQUIRE(at != config.npos);
  shared().write("asked-epochs/config.toml", config.replace(at, 10, "# flag"));  // as earlier runs have it
  require_words(goes_on("asked-epochs", "FOVEA_TRAIN_STEPS=4"), {"asked-epochs: 6 steps"});
  // What nobody asked for it still sets, and what is of a machine.
  const std::string said = goes_on("asked-epochs", "FOVEA_TRAIN_LR=0.002 FOVEA_TRAIN_THREADS=2");
  require_words(said, {"notice: train.lr is now 0.002", ", 2 threads"});
  require_words(run("train --resume asked-epochs --epochs 3 --stop-after 2", "FOVEA_TRAIN_EPOCHS=4").err,
                {": 9 steps"});
}

TEST_CASE("the data are named by a folder or by a file of annotations, not by both") {
  make_data();
  const std::string file = "--annotations tiny/train/annotations.json --images tiny/train/images ";
  for (const std::string command : {"train --out twice ", "eval --weights done ", "data stats ", "data show "})
    fails(command + file + "--data tiny", 2, {"named twice", "'tiny' (--data)", "'tiny/train/annotations.json'"});
  fails("train --out twice " + file, 2, {"named twice"}, "FOVEA_DATA_DIR=tiny");
  REQUIRE(run("train --steps 1 --out undone --data '' " + file + kSmall, "FOVEA_DATA_DIR=tiny").code == 0);
}
