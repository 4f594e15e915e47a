// The program as its users meet it: exit codes and messages of bad input, interrupted and resumed runs, thread counts.
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sstream>
#include <thread>

#include "core/isa.h"
#include "data/image.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

// The numbered checkpoint of a run, byte for byte.
std::string checkpoint(const std::string& run, int step) {
  const std::string bytes = slurp(shared() / (run + "/checkpoints/step-" + std::to_string(step) + ".safetensors"));
  INFO(run);
  REQUIRE(bytes.size() > 1000);
  return bytes;
}

// The value that a key has in the configuration of these arguments.
std::string value(const std::string& arguments, const std::string& environment, const std::string& key,
                  const std::string& preset = "toy") {
  const Result r = run("train --keys --preset " + preset + " " + arguments, environment);
  REQUIRE(r.code == 0);
  const size_t at = r.out.find("\n" + key + " ");
  REQUIRE(at != std::string::npos);
  std::string name, found;
  std::istringstream(r.out.substr(at)) >> name >> found;
  return found;
}

}  // namespace

TEST_CASE("help begins with examples and exits 0") {
  const Result all = run("--help");
  CHECK(all.code == 0);
  CHECK(all.out.rfind("Examples:\n", 0) == 0);
  for (const char* command :
       {"train", "eval", "detect", "doctor", "data", "coco-eval", "gradcheck", "model", "parity", "bench", "lab"}) {
    INFO(command);
    REQUIRE(all.out.find("\n  " + std::string(command) + " ") != std::string::npos);
    const Result r = run(std::string(command) + " --help");
    CHECK(r.code == 0);
    CHECK(r.out.rfind("Examples:\n  fovea " + std::string(command), 0) == 0);
    CHECK(r.err.empty());
  }
}

TEST_CASE("a mistyped command, flag, key, preset or value names the nearest, and exits 2") {
  fails("trian", 2, {"unknown command 'trian'", "'train'"});
  fails("train --epoch 3", 2, {"unknown flag '--epoch'", "'--epochs'"});
  fails("eval --weigths x", 2, {"'--weights'"});
  fails("train --data x --out y --set train.epoch=3", 2, {"unknown key 'train.epoch'", "'train.epochs'"});
  fails("train --data x --out y --set lr=3", 2, {"unknown key 'lr'", "'train.lr'"});
  fails("train --data x --out y --set model.backbon=tiny", 2, {"'model.backbone'"});
  fails("train --data x --out y --set train.lr", 2, {"key=value"});
  fails("train --data x --out y --set train.lr=fast", 2, {"train.lr", "'fast' is not a number"});
  fails("train --data x --out y --set train.batch=0", 2, {"train.batch", "out of range"});
  fails("train --data x --out y --set train.optimizer=adam", 2, {"adamw | sgd", "'adamw'"});
  fails("train --data x --out y --set conv.algo=winograt", 2, {"conv.algo", "'winograd'"});
  fails("train --data x --out y --preset retinanet_r5", 2, {"retinanet_r50"});
  fails("train --data x --out y", 2, {"FOVEA_TRAIN_EPOCH", "FOVEA_TRAIN_EPOCHS"}, "FOVEA_TRAIN_EPOCH=3");
  shared().write("bad.toml", "[train]\nepochs = 3\nbach = 2\n");
  fails("train --data x --out y --config bad.toml", 2, {"bad.toml:3", "'train.bach'", "'train.batch'"});
  shared().write("cut.toml", "[train\n");
  fails("train --data x --out y --config cut.toml", 2, {"cut.toml:1"});
  fails("train --data x --out y --config .", 2, {"configuration file '.'", "is a folder"});
  fails("train --out y", 2, {"--data is required"});
  fails("model toy --depth 10", 2, {"--depth: 10 is not in 1 to 9;"});
  fails("detect --threshold -0.5", 2, {"--threshold: -0.5 is not in 0 to 1;"});
  fails("model toy --depth many", 2, {"--depth", "many"});
  fails("detect --threshold ''", 2, {"--threshold: needs a number;"});
  require_words(run("model --help").out, {"--depth INT:1 to 9 "});
  fails("train --epochs", 2, {"--epochs needs a value"});
  fails("train --out a --out b", 2, {"--out was given more than once"});
  fails("coco-eval a b --max-dets 1 2 3 --max-dets 1 2 3", 2, {"--max-dets was given more than once"});
}

TEST_CASE("a path that the system refuses is named with its reason") {
  make_data();
  fs::create_symlink("loop", shared() / "loop");  // as a folder without the right to enter it, also for root
  for (const std::string arguments : {"eval --weights loop --data tiny", "detect --weights done loop --json",
                                      "train --data tiny --out loop", "data stats loop"})
    fails(arguments, 1, {"'loop", "': ", "symbolic links", "hint: is the path right, and may this user"});
}

TEST_CASE("precedence: flag > environment > file > preset > default") {
  shared().write("some.toml", "[train]\nlr = 0.5\nepochs = 7\nbatch = 3\n");
  CHECK(value("", "", "train.momentum") == "0.9");
  CHECK(value("", "", "data.short_side") == "160");
  CHECK(value("", "", "train.batch") == "8");
  CHECK(value("--config some.toml", "", "train.epochs") == "7");
  CHECK(value("--config some.toml", "FOVEA_TRAIN_EPOCHS=8", "train.epochs") == "8");
  CHECK(value("--config some.toml --epochs 9", "FOVEA_TRAIN_EPOCHS=8", "train.epochs") == "9");
  CHECK(value("--config some.toml --set train.lr=0.25", "", "train.lr") == "0.25");
}

TEST_CASE("configurations with the loss's earlier names still load") {
  shared().write("earlier.toml", "[model]\nclass_loss = 'focal_star'\nalpha = 0.5\ngamma = 3\nstar_beta = 0.25\n");
  CHECK(value("--config earlier.toml", "", "model.loss.kind") == "focal_star");
  CHECK(value("--config earlier.toml", "", "model.loss.alpha") == "0.5");
  CHECK(value("--config earlier.toml --set gamma=4", "", "model.loss.gamma") == "4");
  CHECK(value("--config earlier.toml", "", "model.loss.beta") == "0.25");
}

TEST_CASE("a run leaves its files, and its configuration reads back the same") {
  make_data();
  for (const char* name :
       {"config.toml", "env.json", "log.jsonl", "metrics.csv", "loss.png", "ap.png", "validation.png", "report.html",
        "checkpoints/step-6.safetensors", "checkpoints/latest", "checkpoints/best"})
    CHECK(fs::file_size(shared() / ("done/" + std::string(name))) > 0);
  CHECK(run("train --keys --config done/config.toml").out ==
        run("train --keys --data tiny --steps 6" + kSmall + "--set model.classes=3").out);
  const Result r = run("eval --weights done --data tiny --split val");
  CHECK(r.code == 0);
  require_words(r.out, {"Average Precision", "AP = ", "AP50 = ", "circle"});
  CHECK(run("eval --weights done --data tiny --split val --json").out.find("\"stats\"") != std::string::npos);
}

TEST_CASE("a folder with another run in it is refused, and nothing in it changes") {
  make_data();
  const std::string before = slurp(shared() / "done/log.jsonl");
  fails("train --data tiny --steps 6 --out done" + kSmall, 2, {"'done' holds a run already", "--resume done"});
  CHECK(slurp(shared() / "done/log.jsonl") == before);
  shared().write("full/holiday.txt", "mine");
  fails("train --data tiny --steps 6 --out full" + kSmall, 2, {"'full' exists and is not an empty folder"});
  fails("detect --weights done tiny/val/images --out full", 2, {"choose another --out"});
  CHECK(slurp(shared() / "full/holiday.txt") == "mine");
  fails("train --resume nowhere", 2, {"'nowhere' holds no run"});
}

TEST_CASE("bad weights exit 4") {
  make_data();
  std::string noise(5000, '\0');
  for (size_t i = 0; i < noise.size(); ++i) noise[i] = char(i * 2654435761u >> 13);
  shared().write("noise.safetensors", noise);
  const uint64_t huge = uint64_t{1} << 63;
  std::string header(8, '\0');
  std::memcpy(header.data(), &huge, 8);
  shared().write("huge.safetensors", header + "{}");
  fails("eval --weights noise.safetensors --data tiny --split val", 4, {"noise.safetensors"});
  fails("eval --weights huge.safetensors --data tiny --split val", 4, {"huge.safetensors"});
  fails("eval --weights missing.safetensors --data tiny --split val", 4, {"missing.safetensors"});
  REQUIRE(run("data make shapes five --train 8 --val 4 --size 64 --classes 5").code == 0);
  fails("train --data five --steps 2 --out other --weights done" + kSmall, 4, {"classes"});
  fails("eval --weights done --data five --split val", 3, {"class"});
  CHECK(!fs::exists(shared() / "other"));
  CHECK(run("train --data five --steps 2 --out other --weights done --set 'train.skip_weights=*cls_logits*'" + kSmall)
            .code == 0);
}

TEST_CASE("bad data exits 3, before a run begins") {
  make_data();
  shared().write("empty/annotations.json",
                 R"({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]})");
  fs::create_directories(shared() / "empty/images");
  fails("train --data empty --steps 2 --out never" + kSmall, 3, {"empty"});
  fails("train --data nowhere --steps 2 --out never" + kSmall, 3, {"nowhere"});
  fails("train --data tiny --set model.classes=7 --steps 2 --out never" + kSmall, 2,
        {"model.classes is 7", "3 classes"});
  CHECK(!fs::exists(shared() / "never"));
  // A picture that is damaged is found when it is read: the message names it.
  fs::copy(shared() / "tiny", shared() / "torn", fs::copy_options::recursive);
  for (auto& entry : fs::directory_iterator(shared() / "torn/train/images")) fs::resize_file(entry.path(), 200);
  fails("train --data torn --steps 2 --out torn-run" + kSmall, 3, {"torn/train/images/"});
  const std::string picture =
      "tiny/val/images/" + fs::directory_iterator(shared() / "tiny/val/images")->path().filename().string();
  const std::string before = slurp(shared() / picture), show = "data show tiny --split val -n 1 --out ";
  fails(show + picture, 2, {picture, "is a picture of the data set"});
  fails(show + "./tiny/val/../val/images/" + fs::path(picture).filename().string(), 2,
        {"is a picture of the data set"});
  CHECK(slurp(shared() / picture) == before);
  for (const char* page : {"page.webp", "page", "tiny/val/annotations.json"})
    fails(show + page, 2, {page, ".png or .jpg"});
  fails("data show tiny --split val --cell 20000 --out page.png", 2, {"4 pictures of 20000 pixels", "smaller --cell"});
  CHECK(run(show + "page.PNG").code == 0);
  CHECK(slurp(shared() / "page.PNG").substr(1, 3) == "PNG");
  shared().write("text.jpg", "this is no picture");
  fails("detect --weights done text.jpg tiny/val/images --out found", 3, {"text.jpg"});
  CHECK(fs::exists(shared() / "found/detections.json"));          // the good ones are done all the same
  for (auto& entry : fs::directory_iterator(shared() / "found"))  // enlarged, so that labels leave room for the picture
    if (entry.path().extension() == ".jpg") CHECK(read_image(entry.path().string()).width == 480);
}

TEST_CASE("text that no checkpoint can keep is refused before a run begins") {
  make_data();
  fs::create_directory_symlink("tiny", shared() / "toy\xe9");
  fails("train --data 'toy\xe9' --steps 1 --out kept" + kSmall, 2, {"data.dir = ", "not UTF-8", "rename"});
  shared().write("toy\xe9.toml", "[train]\nlr = 0.5\n");
  fails("train --data tiny --steps 1 --out kept --config 'toy\xe9.toml'" + kSmall, 2, {"train.lr comes from "});
  CHECK(!fs::exists(shared() / "kept"));
  fs::create_directory_symlink("tiny", shared() / "toyé");
  CHECK(run("train --data 'toyé' --steps 1 --out kept" + kSmall).code == 0);
}

TEST_CASE("detect: pictures of one name get a file each, and no input is written over") {
  make_data();
  const std::string picture = (*fs::directory_iterator(shared() / "tiny/val/images")).path().string();
  for (const char* name : {"a/photo.jpg", "a/photo-2.jpg", "b/photo.jpg", "again/y.jpg", "c/y.jpg"}) {
    fs::create_directories(fs::path(shared() / name).parent_path());
    fs::copy_file(picture, shared() / name);
  }
  const Result r = run("detect --weights done a b --out drawn");
  INFO(r.out << r.err);
  CHECK(r.code == 0);
  for (const char* name : {"photo.jpg", "photo-2.jpg", "photo-3.jpg"})
    CHECK(fs::exists(shared() / ("drawn/" + std::string(name))));
  // The second input lies where the first would be drawn.
  shared().write("again/detections.json", "[]");
  fails("detect --weights done c/y.jpg again/y.jpg --out again", 2, {"'again/y.jpg' is an input", "--out"});
  CHECK(slurp(shared() / "again/y.jpg") == slurp(picture));
}

TEST_CASE("detect can be repeated into the folder of one that was ended") {
  make_data();
  std::string many;  // of one picture, so that it is still at work when it is shot at
  for (int i = 0; i < 500; ++i) many += " a/photo.jpg";
  fs::create_directories(shared() / "a");
  fs::copy_file((*fs::directory_iterator(shared() / "tiny/val/images")).path(), shared() / "a/photo.jpg",
                fs::copy_options::skip_existing);
  const pid_t child = start("detect --weights done" + many + " --out half-done");
  for (int i = 0; i < 3000 && !fs::exists(shared() / "half-done/photo.jpg"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(child, SIGINT);
  CHECK(wait_for(child) == 128 + SIGINT);
  CHECK(slurp(shared() / "half-done/detections.json") == "[]\n");
  CHECK(run("detect --weights done a/photo.jpg --out half-done").code == 0);
}

TEST_CASE("eval --out: a missing folder is found before the scoring, a file that cannot be written after the figures") {
  make_data();
  const std::string eval = "eval --weights done --data tiny --split val --out ";
  const Result r = run(eval + "none/found.json");
  CHECK(r.code == 2);
  CHECK(r.out.empty());
  require_words(r.err, {"error: ", "no folder 'none'", "hint: "});
  const Result lost = run(eval + "/proc/found.json");  // a folder in which nobody can write
  CHECK(lost.code == 1);
  require_words(lost.out, {"Average Precision", "AP = "});
  require_words(lost.err, {"error: /proc/found.json"});
}

TEST_CASE("boxes that no anchor fits: data stats counts them, and train warns") {
  make_data();
  // One box is an anchor of P3 (20 pixels around 16, 16), one is 8 x 8 inside of it: IoU 1 and 64 / 400.
  shared().write("fit.json", R"({"images": [{"id": 1, "file_name": "fit.png", "width": 64, "height": 64}],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [6, 6, 20, 20], "iscrowd": 0},
                    {"id": 2, "image_id": 1, "category_id": 2, "bbox": [12, 12, 8, 8], "iscrowd": 0}]})");
  shared().write("fit.png", "data stats opens no picture");
  const std::string stats = "data stats --annotations fit.json --images . --preset toy --set data.short_side=64";
  const Result r = run(stats + " --json");
  INFO(r.out << r.err);
  REQUIRE(r.code == 0);
  std::string packed;
  for (char c : r.out)
    if (c != ' ' && c != '\n') packed += c;
  require_words(packed, {"\"anchors\":{\"boxes\":2,\"below_0.4\":0.5,\"below_0.5\":0.5",
                         "\"histogram\":[0,1,0,0,0,0,0,0,0,1]", "{\"name\":\"a\",\"boxes\":1,\"below_0.4\":0.0",
                         "{\"name\":\"b\",\"boxes\":1,\"below_0.4\":1.0", "\"advice\":[{\"set\":{"});
  require_words(r.err, {"warning: 50.0 % of the boxes overlap no anchor of toy by 0.4", "try --set "});
  require_words(run(stats).out, {"below 0.4", "100.0%"});
  CHECK(run(stats + " --set data.max_side=60000").code == 0);  // twice as much is no advice: beyond the key's range
  const std::string tiny = "train --data tiny --steps 1 --overfit 1" + kSmall + "--out ";
  CHECK(run(tiny + "small --set data.short_side=16").err.find("overlap no anchor") != std::string::npos);
  CHECK(run(tiny + "usual --set data.short_side=128 --set data.max_side=0").err.find("overlap no") ==
        std::string::npos);
}

TEST_CASE("results do not depend on the number of threads") {
  make_data();
  for (const std::string threads : {"1", "2", "3", "8"}) {
    const std::string name = "threads" + threads;
    REQUIRE(run("train --data tiny --steps 6 --out " + name + " --threads " + threads + kSmall).code == 0);
    CHECK(checkpoint(name, 6) == checkpoint("done", 6));
  }
}

TEST_CASE("conv.algo decides how convolutions are computed, from a flag as from the environment") {
  make_data();
  std::set<std::string> losses;  // the ways round differently
  for (const std::string algo : {"auto", "direct", "winograd", "reference"}) {
    const auto loss = [](const Result& r) {
      const size_t at = r.out.find("\"loss\"");
      REQUIRE(at != std::string::npos);
      return r.out.substr(at, r.out.find('}', at) - at);
    };
    const std::string eval =
        "eval --weights done --data tiny --split val --json"  // one by one: more digits of a mean
        " --set eval.batch=1 --set data.short_side=96";
    const std::string flag = loss(run(eval + " --set conv.algo=" + algo));
    CHECK(flag == loss(run(eval, "FOVEA_CONV_ALGO=" + algo)));
    losses.insert(flag);
  }
  CHECK(losses.size() > 1);
}

TEST_CASE("bf16: refused where the processor has none; a run may go on in the other precision") {
  make_data();
  const std::string with = " --precision bf16", small = "bench model --arch tiny --size 64x64 --rounds 1 --warmup 0";
  for (const std::string& command :
       {"train --data tiny --steps 2 --out none" + kSmall, std::string("eval --weights done --data tiny"),
        std::string("detect --weights done tiny/val/images --out none"), small})
    fails(command + with, 7, {"bf16 needs avx512_bf16", "has fallback", "--precision f32"}, "FOVEA_ISA=fallback");
  fails(small + " --precision f16", 2, {"f16"});
  for (const std::string& command :
       {"train --data tiny --steps 2 --out none" + kSmall, std::string("eval --weights done --data tiny"), small})
    fails(command + " --precision tf32", 7, {"tf32 is a precision of GPUs", "--precision f32"});
  if (run(small + with).code == 7) return;
  const std::string train = "train --data tiny --steps 8 --out half --stop-after 4" + kSmall;
  REQUIRE(run(train + with).code == 0);
  const Result r = run("train --resume half --precision f32");
  CHECK(r.code == 0);
  CHECK(r.err.find("notice: train.precision is now f32 (was bf16)") != std::string::npos);
  const auto loss = [](const std::string& precision) {
    const Result r = run("eval --weights half --data tiny --split val --json --precision " + precision);
    const size_t at = r.out.find("\"classification\":");
    REQUIRE(at != std::string::npos);
    return std::stod(r.out.substr(at + 17));
  };
  const double f32 = loss("f32"), bf16 = loss("bf16");
  CHECK(bf16 == Approx(f32).epsilon(0.02));
  CHECK(bf16 != f32);
}

TEST_CASE("a GPU that does not answer: exit code 6, the reason, and what to do; auto takes the processor") {
  make_data();
  if (run("train --data tiny --steps 1 --device cuda --out gpu" + kSmall).code == 0) return;  // there is one
  for (const std::string& command :
       {"train --data tiny --steps 1 --out none" + kSmall, std::string("eval --weights done --data tiny"),
        std::string("detect --weights done tiny/val/images --out none"), std::string("gradcheck --op add"),
        std::string("bench model --arch tiny --size 64x64 --rounds 1")})
    for (const char* device : {"cuda", "cuda:5"}) fails(command + " --device " + device, 6, {"--device cpu"});
  CHECK(!std::filesystem::exists(shared() / "none"));
  fails("eval --weights done --data tiny --device gpu", 2, {"--device gpu", "auto"});
  CHECK(run("eval --weights done --data tiny --split val --device auto").code == 0);
}

TEST_CASE("40 steps are 20 and 20 more", "[long]") {
  make_data();
  const std::string settings = kSmall + "--set train.ema=0.9 --set augment.scale_min=0.7 ";
  REQUIRE(run("train --data tiny --steps 40 --out whole" + settings).code == 0);
  REQUIRE(run("train --data tiny --steps 40 --out parts --stop-after 20" + settings).code == 0);
  REQUIRE(run("train --resume parts").code == 0);
  CHECK(checkpoint("parts", 40) == checkpoint("whole", 40));
  CHECK(slurp(shared() / "parts/metrics.csv") == slurp(shared() / "whole/metrics.csv"));
  // Another instruction set goes on with a notice.
  REQUIRE(run("train --data tiny --steps 8 --out moved --stop-after 4" + kSmall).code == 0);
  const Result r = run("train --resume moved", "FOVEA_ISA=fallback");
  CHECK(r.code == 0);
  CHECK((r.err.find("notice: ") != std::string::npos ||
         slurp(shared() / "moved/env.json").find("\"fallback\"") != std::string::npos));
}

TEST_CASE("train.final_lr is where the rate ends, also of one cycle") {
  make_data();
  for (const std::string schedule : {"cosine", "onecycle"}) {
    const std::string settings = kSmall + "--lr 0.004 --set train.final_lr=0.5 --set train.warmup=0 --steps 10 ";
    REQUIRE(run("train --data tiny --out " + schedule + settings + "--set train.schedule=" + schedule).code == 0);
    const std::string log = slurp(shared() / (schedule + "/log.jsonl"));
    const size_t last = log.rfind("\"lr\":");
    REQUIRE(last != std::string::npos);
    CHECK(std::stod(log.substr(last + 5)) == Approx(0.002).epsilon(schedule == "cosine" ? 0.05 : 1e-6));
  }
}

TEST_CASE("torchvision's presets have its schedule") {
  for (const std::string name : {"tv_retinanet_r50", "tv_retinanet_r50_v2"}) {
    CHECK(value("", "", "train.milestones", name) == "0.6154,");  // of 26 epochs 16; and 22
    CHECK(value("", "", "train.warmup", name) == "1000");
    CHECK(value("", "", "train.warmup_factor", name) == "0.001");
  }
}

TEST_CASE("a run that is killed at any moment goes on to the same bits") {
  make_data();
  const std::string settings = kSmall + "--set train.checkpoint_every=3 ";
  REQUIRE(run("train --data tiny --steps 24 --out calm" + settings).code == 0);
  const char* wanted = std::getenv("FOVEA_KILLS");  // 20 in a run by hand
  const int kills = wanted ? std::atoi(wanted) : 4;
  std::mt19937 random(wanted ? std::random_device{}() : 7);
  int hits = 0;
  for (int runs = 0; hits < kills; ++runs) {  // a run that comes through is checked, and another one shot at
    const std::string name = "shot" + std::to_string(runs);
    pid_t child = start("train --data tiny --steps 24 --out " + name + settings);
    int code = 0;
    do {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
      if (hits < kills) kill(child, SIGKILL);
      code = wait_for(child);
      hits += code == 128 + SIGKILL;
      if (code == 0) break;
      REQUIRE(code == 128 + SIGKILL);
      const bool begun = fs::exists(shared() / (name + "/config.toml"));
      if (!begun) fs::remove_all(shared() / name);
      child = start(begun ? "train --resume " + name : "train --data tiny --steps 24 --out " + name + settings);
    } while (true);
    CHECK(checkpoint(name, 24) == checkpoint("calm", 24));
    CHECK(slurp(shared() / (name + "/metrics.csv")) == slurp(shared() / "calm/metrics.csv"));
  }
}

TEST_CASE("Ctrl-C, SIGTERM and a closed terminal or pipe write a checkpoint and say how to go on") {
  make_data();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    const std::string name = text("stopped-", signal);
    const pid_t child = start("train --data tiny --steps 2000 --out " + name + kSmall + "--set eval.every=0");
    wait_for_lines(name, 4);
    kill(child, signal);
    CHECK(wait_for(child) == 128 + signal);
    require_words(slurp(shared() / ".err"), {"a checkpoint is written", "fovea train --resume " + name});
    CHECK(run("train --resume " + name + " --steps 2000 --stop-after 1").code == 0);
  }
}

TEST_CASE("the first number that is not finite stops the run, with its cause") {
  make_data();
  for (const std::string precision : {"f32", "bf16"}) {
    if (precision == "bf16" && isa() < Isa::v4_bf16) continue;
    fails("train --data tiny --steps 40 --out wild-" + precision + " --precision " + precision +
              " --set train.optimizer=sgd --set train.lr=1e30 --set train.clip_norm=0 --set train.checkpoint_every=1 "
              "--set train.warmup_factor=1" +
              kSmall,
          5,
          {"step ", "image", "tiny/train/images/", "last good checkpoint: wild-" + precision + "/checkpoints/step-"});
  }
}

TEST_CASE("weights that are not finite are never saved, and none whose scores are not finite is the best") {
  make_data();
  const std::string train = "train --data tiny --steps 1" + kSmall + "--set train.warmup=0 ";
  fails(train + "--lr 1e300 --out far", 5, {"after step 1: ", "no longer finite", "no checkpoint was written yet"});
  CHECK(!fs::exists(shared() / "far/checkpoints"));
  const Result r = run(train + "--set train.optimizer=sgd --lr 1e30 --set train.clip_norm=0 --out wide");
  CHECK(r.code == 0);  // the weights are finite, what they compute is not
  CHECK(fs::exists(shared() / "wide/checkpoints/latest"));
  CHECK(!fs::exists(shared() / "wide/checkpoints/best"));
  CHECK(slurp(shared() / "wide/metrics.csv").find("null") == std::string::npos);
  fails("train --resume wide --steps 2", 5, {"step 2: the ", "fovea train --resume wide --lr RATE (a lower one)"});
}

TEST_CASE("a full disk ends the run with a message and leaves the last checkpoint whole") {
  make_data();
  const std::string small = shared() / "small";
  fs::create_directories(small);
  if (mount("tmpfs", small.c_str(), "tmpfs", 0, "size=50m") != 0) {  // two checkpoints
    WARN("no right to mount a small tmpfs: skipped");
    return;
  }
  struct Mounted {
    const char* path;
    ~Mounted() { umount2(path, MNT_DETACH); }
  } mounted{small.c_str()};
  const Result r =
      run("train --data tiny --steps 40 --out small/run --set train.keep=0 --set train.checkpoint_every=1" + kSmall);
  CHECK(r.code == 1);
  require_words(r.err, {"error: ", "small/run", "No space left"});
  CHECK(run("eval --weights small/run --data tiny --split val").code == 0);
}

TEST_CASE("a file over the limit of ulimit -f ends the run with a message, not by a signal") {
  make_data();
  const Result r = run("train --data tiny --steps 1 --out limited" + kSmall, "sh -c 'ulimit -f 60; exec \"$@\"' sh");
  INFO(r.err);
  CHECK(r.code == 1);
  require_words(r.err, {"error: limited/", "File too large"});
  for (auto& entry : fs::recursive_directory_iterator(shared() / "limited"))
    CHECK(entry.path().filename().string().find(".tmp-") == std::string::npos);
}

TEST_CASE("overfit learns a few pictures by heart", "[long]") {
  make_data();
  const Result r =
      run("train --data tiny --overfit 2 --steps 150 --out proof --preset toy --set data.short_side=64 "
          "--set train.warmup=10 --set eval.pictures=0 --json");
  INFO(r.err);
  REQUIRE(r.code == 0);
  const size_t at = r.out.find("\"AP50\": ");
  REQUIRE(at != std::string::npos);
  CHECK(std::atof(r.out.c_str() + at + 8) > 0.5);
}
