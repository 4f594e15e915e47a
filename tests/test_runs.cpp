// What surrounds a run: who may go on with it and how, and what it remembers.

#include <array>
#include <csignal>
#include <thread>

#include "core/words.h"
#include "data/image.h"
#include "data/json.h"
#include "nn/safetensors.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

TEST_CASE("only one program at a time goes on with a run") {
  make_data();
  REQUIRE(run("train --data tiny --steps 4000 --stop-after 2 --out alone" + kSmall).code == 0);
  const std::string before = slurp(shared() / "alone/log.jsonl");
  const pid_t child = start("train --resume alone");
  wait_until([&] { return slurp(shared() / "alone/log.jsonl") != before; });
  const Result second = run("train --resume alone --stop-after 2");
  // Before anything of the run or its data is read: the other may be about to change it.
  const Result early = run("train --resume alone --data nowhere");
  kill(child, SIGKILL);
  CHECK(wait_for(child) == 128 + SIGKILL);
  for (const Result& r : {second, early}) {
    CHECK(r.code == 2);
    require_words(r.err, {"error: another fovea trains in 'alone'", "hint: "});
  }
  CHECK(run("train --resume alone --stop-after 2").code == 0);  // a kill leaves no lock
}

TEST_CASE("a run that ended before its configuration was written begins again in its folder") {
  make_data();
  for (const char* name : {".lock", "env.json", ".env.json.tmp-17", ".config.toml.tmp-17"})
    shared().write(text("unborn/", name), std::string());
  const Result r = run("train --data tiny --steps 1 --out unborn" + kSmall);
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(!fs::exists(shared() / "unborn/.env.json.tmp-17"));
}

TEST_CASE("going on clears away what a kill left half written") {
  make_data();
  REQUIRE(run("train --data tiny --steps 2 --stop-after 1 --out littered" + kSmall).code == 0);
  shared().write("littered/.report.html.tmp-17", "half a page");
  REQUIRE(run("train --resume littered").code == 0);
  CHECK(!fs::exists(shared() / "littered/.report.html.tmp-17"));
}

TEST_CASE("a damaged last checkpoint: the message names the one before, which goes on once it is removed") {
  make_data();
  REQUIRE(run("train --data tiny --steps 6 --stop-after 4 --set train.checkpoint_every=2 --out torn" + kSmall).code ==
          0);
  fs::resize_file(shared() / "torn/checkpoints/step-4.safetensors", 1000);
  fails("train --resume torn", 4, {"step-4.safetensors", "remove this file to go on from step-3"});
  // One that is whole but of another network is not to be removed.
  fs::remove(shared() / "torn/checkpoints/step-4.safetensors");
  const Result wider = run("train --resume torn --set model.channels=16");
  CHECK(wider.code == 4);
  CHECK(wider.err.find("remove this file") == std::string::npos);
  const Result r = run("train --resume torn");
  CHECK(r.code == 0);
  CHECK(r.err.find("goes on after step 3") != std::string::npos);
}

TEST_CASE("a run keeps its classes") {
  make_data();
  REQUIRE(run("data make shapes two --train 4 --val 2 --size 64 --classes 2").code == 0);
  REQUIRE(run("train --data tiny --steps 6 --stop-after 2 --out three" + kSmall).code == 0);
  fails("train --resume three --data two", 3,
        {"'two/train/annotations.json' (circle, square)", "not those of this run (circle, square, triangle)",
         "--weights three --out NEW"});
  CHECK(run("train --resume three").code == 0);
  fails("train --data two --weights three --out five" + kSmall, 4,
        {"are for 3 classes, this model has 2", "skip_weights"});
  CHECK(run("train --data two --steps 1 --weights three --set 'train.skip_weights=*cls_logits*' --out six" + kSmall)
            .code == 0);
  for (const std::string skip :
       {"*cls_logit.*", "*cls_logits*, *box_regr.*"})  // a mistyped one would load what it names
    fails("train --data two --weights three --set 'train.skip_weights=" + skip + "' --out six" + kSmall, 2,
          {"the network has no weight '*", "hint: such as head"});
  fails("detect --weights three --classes 5 two/val/images --json", 4, {"are for 3 classes", "leave out --classes"});
  fails("train --config three/config.toml --data two --out four", 2,
        {"model.classes is 3", "hint: leave model.classes"});
}

TEST_CASE("a kill in the middle of writing a score neither loses nor doubles its row") {
  make_data();
  REQUIRE(run("train --data tiny --steps 6 --out rows" + kSmall).code == 0);  // scores after steps 3 and 6
  const std::string rows = slurp(shared() / "rows/metrics.csv"), log = slurp(shared() / "rows/log.jsonl");
  CHECK(std::count(rows.begin(), rows.end(), '\n') == 3);
  shared().write("rows/log.jsonl", log.substr(0, log.rfind("{\"event\":\"eval\"")));
  CHECK(run("train --resume rows").code == 0);
  CHECK(slurp(shared() / "rows/metrics.csv") == rows);
}

TEST_CASE("a run whose data was moved goes on where that is named") {
  make_data();
  fs::copy(shared() / "tiny", shared() / "here", fs::copy_options::recursive);
  REQUIRE(run("train --data here --steps 2 --stop-after 1 --out carried" + kSmall).code == 0);
  fs::rename(shared() / "here", shared() / "there");
  fails("train --resume carried", 3,
        {"here: is not a folder", "hint: where are they now? --resume carried --data DIR"});
  const Result r = run("train --resume carried --data there");
  CHECK(r.code == 0);
  require_words(r.err, {"notice: data.dir is now there (was here)", "goes on after step 1"});
  CHECK(r.err.find("pictures to train on (were") == std::string::npos);
}

TEST_CASE("a run whose data grew says that its epochs did") {
  make_data();
  REQUIRE(run("data make shapes grown --train 17 --val 4 --size 64 --classes 3").code == 0);
  REQUIRE(run("train --data tiny --steps 2 --stop-after 1 --out growing" + kSmall).code == 0);
  const Result r = run("train --resume growing --data grown");
  CHECK(r.code == 0);
  require_words(r.err, {"there are now 17 pictures to train on (were 12): an epoch is now 4 steps"});
}

TEST_CASE("weights keep their classes where the data has these in another order") {
  make_data();
  std::string turned = slurp(shared() / "tiny/train/annotations.json");  // circle 1, square 2, triangle 3
  const std::string key = "\"category_id\":";
  for (size_t at = 0; (at = turned.find(key, at)) != turned.npos; at += key.size())
    if (char& id = turned[at + key.size()]; id != '2') id = id == '1' ? '3' : '1';
  turned.replace(turned.find("\"triangle\""), 10, "\"circle\"");
  turned.replace(turned.find("\"circle\""), 8, "\"triangle\"");
  fs::create_directories(shared() / "turned/train");
  fs::create_symlink(shared() / "tiny/train/images", shared() / "turned/train/images");
  shared().write("turned/train/annotations.json", turned);

  const std::string more = " --steps 2 --val-split '' --weights done" + kSmall;
  REQUIRE(run("train --data tiny --out straight" + more).code == 0);
  const Result r = run("train --data turned --stop-after 1 --out crossed" + more);
  INFO(r.err);
  REQUIRE(r.code == 0);
  require_words(r.err, {"notice: the classes are in the order of the weights: circle, square, triangle"});
  REQUIRE(run("train --resume crossed").code == 0);
  const auto weights = [](const std::string& of) {
    return read_safetensors(shared() / (of + "/checkpoints/step-2.safetensors"))
        .at("head.classification_head.cls_logits.bias");
  };
  CHECK(weights("crossed").values<float>() == weights("straight").values<float>());
  turned.replace(turned.find("\"circle\""), 8, "\"disc\"");
  shared().write("turned/train/annotations.json", turned);
  require_words(run("train --data turned --out renamed" + more).err,
                {"the weights' classes are circle, square, triangle, the data's", "disc", "train.skip_weights"});
}

TEST_CASE("files of annotations are whole splits; one alone is divided") {
  make_data();
  const auto pictures = [](const std::string& flags, const std::string& name) {
    const Result r = run("train --steps 1 --out " + name + kSmall + flags);
    INFO(r.err);
    CHECK(r.code == 0);
    return r.err.substr(0, r.err.find(", 3 classes"));
  };
  const std::string train = "--annotations tiny/train/annotations.json --images tiny/train/images ";
  const std::string val = "--val-annotations tiny/val/annotations.json --val-images tiny/val/images ";
  require_words(pictures(train + val, "both-files"), {": 12 pictures to train on, 4 to score on"});
  require_words(pictures("--data tiny " + val, "val-file"), {": 12 pictures to train on, 4 to score on"});
  require_words(pictures(train, "one-file"), {": 11 pictures to train on, 1 to score on"});
  require_words(pictures(train + "--val-split ''", "no-scores"), {"none to score on"});
  require_words(pictures("--data tiny/train " + val, "whole"), {": 12 pictures to train on, 4 to score on"});
  const std::string most = pictures("--data tiny/train --val-fraction 0.8 ", "most");
  const std::string scores = "eval --weights most --data tiny/train --split val --json";
  const int64_t own = parse_json(run(scores).out)["images"].integer();  // by the run's own fraction
  CHECK(own > 1);
  require_words(most, {text(", ", own, " to score on")});
  CHECK(parse_json(run(scores + " --val-fraction 0.1").out)["images"] == 1);
  fails("train --data tiny --val-images tiny/val/images --out half", 2, {"belong together"});
  fails("train " + train + "--val-images tiny/val/images --out half", 2, {"belong together"});
  shared().write("exported/result.json", std::string("{}"));
  fails("data stats exported", 3, {"has neither annotations.json", "named by --annotations, with --images"});
  fs::create_directories(shared() / "roboflow");
  fs::copy(shared() / "tiny/train", shared() / "roboflow/train", fs::copy_options::recursive);
  fs::copy(shared() / "tiny/val", shared() / "roboflow/valid", fs::copy_options::recursive);
  require_words(pictures("--data tiny --val-split train", "seen"),
                {"12 pictures of the 12 to score on are trained on"});
  require_words(pictures("--data roboflow ", "valid"), {": 12 pictures to train on, 4 to score on"});
  fs::rename(shared() / "roboflow/valid", shared() / "roboflow/held");
  require_words(pictures("--data roboflow ", "unscored"), {"no split 'val'", "--val-split: there are held, train"});
}

TEST_CASE("each class has its own AP in the report, also where the ids of val are others") {
  make_data();
  const ImageSize size = read_image_size(shared() / "tiny/val/images/000001.jpg");
  shared().write(
      "other-ids.json",
      text(R"({"images": [{"id": 1, "file_name": "000001.jpg", "width": )", size.width, R"(, "height": )", size.height,
           R"(}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [8, 8, 20, 20]}], )",
           R"("categories": [{"id": 1, "name": "triangle"}, {"id": 2, "name": "square"}, )",
           R"({"id": 3, "name": "circle"}]})"));
  REQUIRE(run("train --data tiny --val-annotations other-ids.json --val-images tiny/val/images --steps 1 --out ids" +
              kSmall)
              .code == 0);
  const std::string report = slurp(shared() / "ids/report.html");
  for (const std::string unseen : {"circle", "square"})
    require_words(report, {"<th scope=row>" + unseen + "</th><td class=n>n/a</td>"});
  require_words(report, {"AP of each class", "<th scope=row>triangle</th><td class=n>0."});
}

TEST_CASE("a run keeps its preset") {
  make_data();
  const std::string before = slurp(shared() / "done/config.toml");
  for (const std::string other : {"--preset retinanet_small", "--set preset=retinanet_small"})
    fails("train --resume done " + other, 2, {"'done' was begun with preset toy, not retinanet_small"});
  fails("train --resume done", 2, {"a run keeps its preset"}, "FOVEA_PRESET=retinanet_small");
  CHECK(slurp(shared() / "done/config.toml") == before);
  CHECK(run("train --resume done --preset toy").code == 0);
}

TEST_CASE("what a message says to type can be typed, and epochs count from 1") {
  make_data();
  CHECK(shell_word("runs/a-1_b.c") == "runs/a-1_b.c");
  CHECK(shell_word("it's") == "'it'\\''s'");
  CHECK(shell_word("") == "''");
  const std::string train = "train --data tiny --steps 4 --val-split '' --out 'my run'" + kSmall;  // 3 steps an epoch
  REQUIRE(run(train).code == 0);
  fails(train, 2, {"go on with it with --resume 'my run',"});
  const std::string log = slurp(shared() / "my run/log.jsonl");
  CHECK(log.find("\"step\":1,\"epoch\":1,") != std::string::npos);
  CHECK(log.find("\"step\":4,\"epoch\":2,") != std::string::npos);
  fails("train --resume 'my run' --stop-after -1", 2, {"--stop-after: -1 is not in 1 to"});
}

TEST_CASE("numbers that are none are named with their flag") {
  fails("gradcheck --seed abc", 2, {"--seed: 'abc' is not a number"});
  fails("gradcheck --seed -1", 2, {"--seed: -1 is below 0"});
  fails("bench model --batch 1.5", 2, {"--batch: '1.5' is not a whole number"});
  for (const std::string none : {"two", "2x", "' 2'", "''", "0", "257"})
    fails("gradcheck --op relu", 2, {"FOVEA_THREADS=", "from 1 to 256"}, "FOVEA_THREADS=" + none);
  fails("detect --threshold much", 2, {"--threshold: 'much' is not a number"});
}

TEST_CASE("epochs that are asked for later take the place of steps") {
  make_data();
  REQUIRE(run("train --data tiny --steps 4 --out longer" + kSmall).code == 0);  // 3 steps an epoch
  const Result r = run("train --resume longer --epochs 2");
  CHECK(r.code == 0);
  require_words(r.err, {"notice: train.steps is now 0 (was 4)", "notice: train.epochs is now 2", "longer: 6 steps"});
  require_words(run("train --keys --config longer/config.toml --steps 7 --epochs 9").out,
                {"train.steps                7"});
  CHECK(slurp(shared() / "longer/config.toml").find("epochs = 2") != std::string::npos);
}

TEST_CASE("an epoch's mean loss is that of its own steps, also without scores and after a pause") {
  make_data();
  const std::string unscored = "train --data tiny --steps 6 --val-split ''" + kSmall;  // 3 steps an epoch
  const auto last_line = [](const Result& r) {
    CHECK(r.code == 0);
    const size_t at = r.err.find("epoch   2  loss ");
    REQUIRE(at != std::string::npos);
    return r.err.substr(at, r.err.find('\n', at) - at);
  };
  const std::string whole = last_line(run(unscored + "--out unpaused"));
  const Result part = run(unscored + "--stop-after 4 --out paused");
  REQUIRE(part.code == 0);
  CHECK(part.err.find("paused after step 4 of ") != std::string::npos);
  CHECK(last_line(run("train --resume paused")) == whole);
}

TEST_CASE("a loss that is each picture's own does not depend on how pictures are batched for scoring") {
  make_data();
  const auto losses = [](const char* batch) {
    const Result r = run(std::string("eval --weights done --data tiny --split val --json --set model.normaliser=") +
                         "per_image --set data.max_side=64 --set eval.batch=" + batch);
    CHECK(r.code == 0);
    const Json loss = parse_json(r.out)["loss"];
    return std::array{loss["classification"].number(), loss["box"].number()};
  };
  const auto one = losses("1"), three = losses("3");  // of 4 pictures: 3 and 1
  for (size_t i = 0; i < 2; ++i) CHECK(three[i] == Approx(one[i]).epsilon(1e-5));
}

TEST_CASE("a run keeps the weights that it began with") {
  make_data();
  const std::string before = slurp(shared() / "done/config.toml");
  fails("train --resume done --weights other", 2, {"train.weights is now \"other\"", "began with none", "--out NEW"});
  fails("train --resume done --set train.backbone_weights=x", 2, {"train.backbone_weights is now \"x\""});
  CHECK(slurp(shared() / "done/config.toml") == before);
}

TEST_CASE("going on keeps where each value came from") {
  make_data();
  shared().write("first.toml", "[train]\nlr = 0.001\n[data]\nmax_side = 90\n");
  REQUIRE(run("train --data tiny --steps 4 --stop-after 2 --out kept#1 --config first.toml --val-split val" + kSmall,
              "FOVEA_TRAIN_SEED=0")
              .code == 0);
  const std::string before = slurp(shared() / "kept#1/config.toml");
  require_words(before, {"# --steps", "# --set", "# first.toml:2", "# FOVEA_TRAIN_SEED", "# preset toy", "# the data"});
  REQUIRE(run("train --resume 'kept#1' --stop-after 3").code == 0);
  CHECK(slurp(shared() / "kept#1/config.toml") == before);
  // A value that was written by hand comes from that line, one of a flag from the flag.
  std::string edited = before;
  const size_t at = edited.find("\nnesterov = false\n"), number = size_t(std::count(&edited[0], &edited[at], '\n')) + 2;
  REQUIRE(at != edited.npos);
  edited.replace(at, 18, "\nnesterov = true\n");
  shared().write("kept#1/config.toml", edited);
  const Result r = run("train --resume 'kept#1' --set train.keep=5");
  CHECK(r.code == 0);
  CHECK(r.err.find("goes on after step 3") != std::string::npos);
  const auto line = [](const std::string& start) {
    const std::string all = slurp(shared() / "kept#1/config.toml");
    const size_t begin = all.find("\n" + start) + 1;
    return all.substr(begin, all.find('\n', begin) - begin);
  };
  CHECK(line("nesterov").ends_with("# kept#1/config.toml:" + std::to_string(number)));
  CHECK(line("keep").ends_with("# --set"));
  CHECK(run("train --resume 'kept#1'").err.find("is finished after step 4") != std::string::npos);
}

TEST_CASE("data without a box: scores are n/a, and a filter that leaves nothing is named") {
  make_data();
  const std::string picture = (*fs::directory_iterator(shared() / "tiny/val/images")).path().string();
  const Image size = read_image(picture);
  for (const std::string split : {"bare/train", "bare/val"}) {
    std::vector<std::string> images;
    fs::create_directories(shared() / (split + "/images"));
    for (const std::string id : {"1", "2", "3", "4"}) {
      fs::copy_file(picture, shared() / (split + "/images/" + id + ".jpg"));
      images.push_back(text("{\"id\": ", id, ", \"file_name\": \"", id, ".jpg\", \"width\": ", size.width,
                            ", \"height\": ", size.height, "}"));
    }
    shared().write(split + "/annotations.json", R"({"images": [)" + joined(images) +
                                                    R"(], "annotations": [], "categories": [{"id": 1, "name": "a"}]})");
  }
  const std::string train = "train --data bare --steps 1" + kSmall;
  const Result bare = run(train + "--out bare-run");
  CHECK(bare.out == "AP = n/a  AP50 = n/a\n");
  require_words(bare.err, {"warning: bare/train/annotations.json: none of the pictures to train on has a box"});
  CHECK(run(train + "--out bare-json --json").out.find("\"AP\": null") != std::string::npos);
  // Boxes in parts of the picture instead of pixels: no change of the anchors finds them.
  shared().write("parts.json", text(R"({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"id": 1, )",
                                    R"("image_id": 1, "category_id": 1, "bbox": [0.1, 0.1, 0.2, 0.2]}], )",
                                    R"("categories": [{"id": 1, "name": "a"}]})"));
  const Result parts = run("data stats --annotations parts.json --images bare/train/images --preset toy");
  require_words(parts.err, {"100.0 % of the boxes overlap no anchor", "are they in pixels?"});
  CHECK(parts.err.find("--set") == std::string::npos);
  const std::string sides = "data stats tiny --split val --preset toy --set data.short_side=";
  require_words(run(sides + "64").out, {"of toy, short side 64\n"});
  require_words(run(sides + "64,32,128").out, {"of toy, short side 64, the middle one of 64, 32, 128\n"});
  fails(train + "--set data.filter=empty --out no-run", 3, {"data.filter = empty leaves none of the 4 pictures"});
}

TEST_CASE("numbers that no machine has, and places that are no run, are refused with the way out") {
  make_data();
  for (const std::string key : {"train.batch", "eval.batch", "train.keep"})
    fails("train --data tiny --out none --set " + key + "=10000000000", 2, {key, "out of range"});
  fails("detect --weights done tiny --threads 1000000000000 --out none", 2, {"--threads", "1000000000000"});
  fails("eval --weights nowhere --data tiny", 4, {"no file or run 'nowhere'", "hint: give the folder of"});
  for (const std::string key : {"train.precision=bf16", "data.policy=error", "data.split=train", "augment.flip=1",
                                "eval.every=2", "preset=toy"})
    fails("eval --weights done --data tiny --set " + key, 2, {key + " is for fovea train", "hint: --precision"});
  fails("eval --weights done --data tiny --classes -3", 2, {"--classes: -3 is not in 1 to"});
  for (const std::string set : {"ratios=0", "base=-1"})
    fails("data stats tiny --split val --set model.anchors." + set, 2, {set.substr(0, set.find('='))});
  fails("data stats tiny --split val --set model.last_level=70", 2, {"last_level = 70"});
  fails("eval --weights tiny --data tiny", 4, {"'tiny' is no run", "hint: give the folder of"});
  fails("train --resume nowhere", 2, {"hint: is the path right?"});
  shared().write(
      "gt.json",
      std::string(R"({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 3, "name": "cow"}]})"));
  shared().write("dt.json", std::string("[]"));
  const Result piped = run("coco-eval gt dt.json --per-class", "sh -c 'mkfifo gt; cat gt.json >gt & exec \"$@\"' sh");
  CHECK(piped.code == 0);
  require_words(piped.out, {"cow"});
  require_words(run("model --json").out, {"\"name\": \"toy\"", "\"description\": "});  // the list of presets
  fails("coco-eval a b --max-dets 1,10,100", 2, {"--max-dets needs three values"});
  fails("train --data tiny --epochs 0 --out none" + kSmall, 2, {"there is nothing to train", "--epochs"});
  fails("detect --weights done tiny/val/images --json --set nms_threshold=7", 2, {"nms_threshold = 7", "0..1"});
  fails("detect --weights done tiny/val/images --json --set score_threshold=50", 2, {"score_threshold", "below 1"});
  shared().write("file", "mine");
  fails("lab loss --out file", 1, {"cannot make the folder 'file'", "choose another --out"});
}

TEST_CASE("parity names the case that lacks a tensor") {
  NamedTensors bare;
  bare.metadata = {{"arch", "resnet18"}, {"classes", "3"}};
  write_safetensors(shared() / "bare.safetensors", bare);
  fails("parity bare.safetensors", 4, {"bare.safetensors: there is no tensor \"input/images\""});
}

TEST_CASE("detect keeps little of what it found in earlier pictures") {
  make_data();
  std::string picture = (*fs::directory_iterator(shared() / "tiny/val/images")).path().string();
  std::vector<long> kib;  // at their peak
  for (const int pictures : {10, 300}) {
    std::string all;
    for (int i = 0; i < pictures; ++i) all += " " + picture;
    kib.push_back(peak_kib("detect --weights done --json --set model.score_threshold=0 --threads 1" + all));
    const std::string json = slurp(shared() / ".out");  // a detection a line, after "["
    CHECK(json.starts_with("[\n{\"image_id\":1,"));
    CHECK(std::count(json.begin(), json.end(), '\n') > 50 * pictures);
  }
#ifndef __SANITIZE_ADDRESS__  // it keeps what was freed
  CHECK(kib[1] - kib[0] < 30'000);
#endif
}

TEST_CASE("detect names the pictures of a folder that lead nowhere, and finds the others") {
  make_data();
  fs::create_directories(shared() / "links");
  fs::create_symlink((*fs::directory_iterator(shared() / "tiny/val/images")).path(), shared() / "links/a.jpg");
  fs::create_symlink("nowhere", shared() / "links/b.jpg");
  write_bytes(shared() / "links/._a.jpg", {});  // macOS puts such there
  fs::copy_file(*fs::directory_iterator(shared() / "tiny/val/images"), shared() / "links/.hidden.jpg");
  const Result r = run("detect --weights done links --out through");
  CHECK(r.code == 3);
  CHECK(r.out.starts_with("through/a.jpg  "));
  require_words(r.err, {"error: links/b.jpg: "});
  CHECK(r.err.find("._a") == std::string::npos);
  CHECK(!fs::exists(shared() / "through/.hidden.jpg"));
}

TEST_CASE("weights whose labels are COCO's ids say where the data numbers its categories otherwise") {
  make_data();
  std::vector<std::string> categories;
  for (int id = 1; id <= 91; ++id) categories.push_back(text("{\"id\": ", id, ", \"name\": \"c", id, "\"}"));
  shared().write("many.json",
                 R"({"images": [{"id": 1, "file_name": "000001.jpg"}], "annotations": [], "categories": [)" +
                     joined(categories) + "]}");
  REQUIRE(run("train --annotations many.json --images tiny/train/images --val-split '' --steps 1 --out many" + kSmall)
              .code == 0);
  NamedTensors foreign = read_safetensors(shared() / "many/checkpoints/step-1.safetensors");
  foreign.metadata.clear();
  write_safetensors(shared() / "foreign.safetensors", foreign);
  const std::string eval =
      "eval --weights foreign.safetensors --preset toy --classes 91 --set data.short_side=64 "
      "--set model.channels=8 --set model.tower_depth=1 ";
  const Result r = run(eval + "--data tiny --split val");
  INFO(r.err);
  CHECK(r.code == 0);
  require_words(r.err, {"warning: the weights' label 1 is 'person', the data's category 1 is 'circle'"});
  std::string people = slurp(shared() / "tiny/val/annotations.json");
  const char* const coco[][2] = {{"circle", "person"}, {"square", "bicycle"}, {"triangle", "car"}};
  for (auto& [shape, name] : coco) people.replace(people.find(shape), std::string(shape).size(), name);
  shared().write("people.json", people);
  CHECK(run(eval + "--annotations people.json --images tiny/val/images").err.find("warning") == std::string::npos);
}

TEST_CASE("a run on a folder with an odd name goes on") {
  make_data();
  fs::create_directory_symlink("tiny", shared() / "odd\x7f\x01'\"name");
  REQUIRE(run("train --data 'odd\x7f\x01'\\''\"name' --steps 2 --stop-after 1 --out odd" + kSmall).code == 0);
  CHECK(run("train --resume odd").code == 0);
  shared().write("odd\x7f.toml", "[train]\nlr = 0.5\n");
  fails("train --data tiny --steps 1 --out never --config 'odd\x7f.toml'" + kSmall, 2, {"train.lr comes from "});
}

TEST_CASE("pictures of a kind that is not read are named, and what only points to weights is said to") {
  make_data();
  fs::create_directories(shared() / "mixed");
  fs::copy_file(fs::directory_iterator(shared() / "tiny/val/images")->path(), shared() / "mixed/a.png");
  for (const char* name : {"mixed/c.WebP", "mixed/b.TIFF", "mixed/notes.txt"}) shared().write(name, "no picture");
  const Result r = run("detect --weights done mixed --json");
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(r.err.find("mixed: 2 pictures of a kind that is not read, such as b.TIFF") != std::string::npos);
  fs::create_directories(shared() / "mixed/old/album.gif");
  fails("detect --weights done mixed/old --json", 3, {"holds no pictures (.jpg .jpeg "});
  fails("detect --weights done/checkpoints/latest mixed --json", 4,
        {"only names a checkpoint of its run", "give the folder"});
}

TEST_CASE("Ctrl-C in the step that ruins the weights: what there is to go on from is said") {
  make_data();
  fs::copy(shared() / "done", shared() / "ruined", fs::copy_options::recursive);
  const pid_t child = start(  // a step of large pictures takes longer than the signal
      "train --resume ruined --steps 2000 --lr 1e300 --set train.warmup=0 --set data.short_side=256 "
      "--set data.max_side=0");
  const auto said = [] { return slurp(shared() / ".err"); };
  for (int i = 0; i < 3000 && said().find("ruined: 2,000 steps") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(child, SIGINT);
  CHECK(wait_for(child) == 5);
  require_words(said(), {"last good checkpoint: ruined/checkpoints/step-6", "--resume ruined --lr RATE"});
}

#ifndef __SANITIZE_ADDRESS__  // it takes terabytes of addresses
TEST_CASE("out of memory: what there is to go on from is said, and with what") {
  make_data();
  fs::copy(shared() / "done", shared() / "tight", fs::copy_options::recursive);
  for (const char* side : {"1200", "12000"})  // the network does not fit; one picture alone does not
    fails(text("train --resume tight --steps 12 --batch 12 --set data.max_side=0 --set data.short_side=", side), 6,
          {"out of memory", "last good checkpoint: tight/checkpoints/step-6",
           "fovea train --resume tight --batch N (a smaller one)"},
          "sh -c 'ulimit -v 800000; exec \"$@\"' sh");
}
#endif
