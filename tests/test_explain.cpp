// `fovea explain`, and --errors of the commands that score: what they print, write and refuse.
#include <filesystem>
#include <regex>

#include "core/words.h"
#include "data/image.h"
#include "data/json.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

const std::string kTiny = " --weights done --data tiny --split val ";

// Data and a run whose scores are high enough to have detections: every score counts.
void make_all() {
  make_data();
  static const bool made = run("eval" + kTiny + "--set model.score_threshold=0.01 --out found.json").code == 0;
  REQUIRE(made);
}

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("explain: a data set's errors, its worst pictures, and a page with all of it") {
  make_all();
  const Result r = run("explain" + kTiny + "-n 3 --threshold 0.02 --set model.score_threshold=0.01 --out page.html");
  INFO(r.err << r.out);
  REQUIRE(r.code == 0);
  require_words(r.out, {"objects found by", "localisation", "missed", "P3", "P5", "anchors of training", "page.html"});
  CHECK(count_of(r.out, "above score_threshold") ==
        3);  // a table for each picture; of the network's, not of --threshold
  const std::string page = slurp(shared() / "page.html");
  require_words(page,
                {"<title>Fovea explain: ", " finds, and what it misses</h1>", "What became of each object", "</html>"});
  CHECK(count_of(page, "<h2>tiny/val/images/") == 3);
  CHECK(count_of(page, "<img ") == 3 * (4 + 4));  // four figures, and a map of each level, P3 to P6
  CHECK(!std::regex_search(page, std::regex("(src|href)=(?!\"data:)")));  // nothing lies beside it
  CHECK(run("explain" + kTiny + "-n 0 --out page.html").code == 0);       // its own page may be written again
  CHECK(count_of(slurp(shared() / "page.html"), "<img ") == 0);
}

TEST_CASE("explain --json: objects and detections of one picture, by name and by id") {
  make_all();
  const std::string name = fs::directory_iterator(shared() / "tiny/val/images")->path().filename();
  const std::string options = "explain" + kTiny + "--threshold 0 --set model.score_threshold=0.01 --json --image ";
  const Result r = run(options + name);
  INFO(r.err << r.out);
  REQUIRE(r.code == 0);
  const Json json = parse_json(r.out);
  CHECK(!json.has("errors"));  // one picture is not scored
  REQUIRE(json["pictures"].items.size() == 1);
  const Json& picture = json["pictures"].items[0];
  CHECK(picture["file_name"] == "tiny/val/images/" + name);
  int64_t kept = 0, over = 0;
  for (const Json& level : picture["levels"].items) {
    kept += level["detections"].integer(), over += level["above_threshold"].integer();
    CHECK(level["anchors"].integer() == 9 * level["map"].items[0].integer() * level["map"].items[1].integer());
  }
  CHECK(kept == int64_t(picture["detections"].items.size()));
  CHECK(over >= kept);
  REQUIRE(kept > 0);
  int64_t won = 0;
  for (const Json& d : picture["detections"].items) {
    won += d["suppressed"].integer();
    CHECK(d["score"].number() > 0.01);
    CHECK((d.has("verdict") && d["bbox"].items.size() == 4 && d["anchor"].items.size() == 4));
  }
  CHECK(won > 0);
  for (const Json& o : picture["objects"].items) CHECK(o["anchor"]["iou"].number() > 0.1);
}

TEST_CASE("explain: a score that is just too low is shown with the digits that tell") {
  make_all();
  const std::string options = "explain" + kTiny + "--set model.score_threshold=0.001 -n 100 ";
  const Json all = parse_json(run(options + "--threshold 0 --json").out);
  double score = 0;
  for (const Json& picture : all["pictures"].items)
    for (const Json& d : picture["detections"].items)
      if (d["verdict"] == "correct") score = std::max(score, d["score"].number());
  REQUIRE(score > 0);
  const double threshold = score + 1e-5;
  const std::string page = run(options + "--threshold " + shortest(threshold)).out;
  const std::regex said("has a score of ([0-9.]+) only, below (\\S+)");
  int64_t objects = 0;
  for (std::sregex_iterator it(page.begin(), page.end(), said), none; it != none; ++it, ++objects) {
    CHECK(std::stod((*it)[1]) < threshold);
    CHECK((*it)[2] == shortest(threshold));
  }
  CHECK(objects > 0);
}

TEST_CASE("explain: a picture without labels") {
  make_all();
  const std::string picture =
      "tiny/val/images/" + fs::directory_iterator(shared() / "tiny/val/images")->path().filename().string();
  const Result r = run("explain --weights done " + picture + " --threshold 0 --json");
  REQUIRE(r.code == 0);
  const Json json = parse_json(r.out)["pictures"].items.at(0);
  CHECK(json["objects"].items.empty());
  for (const Json& d : json["detections"].items) CHECK(!d.has("verdict"));
}

TEST_CASE("explain: what cannot be explained, and files of others") {
  make_all();
  fails("explain --weights done", 2, {"name a picture", "--data"});
  fails("explain a.png" + kTiny, 2, {"name a picture", "--data"});
  fails("explain --weights done a.png --image 3", 2, {"--image", "--data"});
  fails("explain --weights done tiny", 2, {"'tiny' is a folder", "--data"});
  fails("explain --weights done gone.png", 3, {"gone.png"});
  fails("explain" + kTiny + "--image 00000l.png", 2, {"00000l.png", "--image takes"});
  fails("explain" + kTiny + "--set model.nms=linear -n 1", 2, {"soft-NMS", "model.nms=hard"});
  shared().write("mine.html", std::string("<title>Mine</title>"));
  fails("explain" + kTiny + "--out mine.html", 2, {"mine.html", "choose another --out"});
  CHECK(slurp(shared() / "mine.html") == "<title>Mine</title>");
  fails("explain" + kTiny + "--out gone/page.html", 2, {"no folder 'gone'"});
  fails("coco-eval tiny/val/annotations.json found.json --errors --class-agnostic", 2, {"--class-agnostic"});
  fails("coco-eval tiny/val/annotations.json found.json --errors --max-dets 1 2 3", 2, {"--max-dets"});
}

TEST_CASE("--errors: eval and coco-eval agree, in words and in JSON") {
  make_all();
  const Result eval = run("eval" + kTiny + "--set model.score_threshold=0.01 --errors --json");
  const Result files = run("coco-eval tiny/val/annotations.json found.json --errors --json");
  INFO(eval.err << files.err);
  const Json errors = parse_json(eval.out)["errors"];
  CHECK(errors["objects"].integer() > 0);
  CHECK(errors["detections"].integer() > 0);
  CHECK(errors == parse_json(files.out)["errors"]);
  CHECK(errors["ap50"].number() == Approx(parse_json(files.out)["stats"].items.at(1).number()));
  const Result words = run("coco-eval tiny/val/annotations.json found.json --errors");
  require_words(words.out, {"AP50 if mended", "duplicate", "all false positives +"});
  CHECK(words.out.find("TIDE") != std::string::npos);
  CHECK(run("coco-eval tiny/val/annotations.json found.json").out.find("TIDE") == std::string::npos);
}

TEST_CASE("--errors says where its AP50 is not COCO's: of more than 100 detections of a picture") {
  make_all();
  const std::string many = kTiny + "--set model.score_threshold=0.001 --set model.detections=300 ";
  const Json json = parse_json(run("eval" + many + "--errors --json").out);
  const int64_t left_out = json["errors"]["left_out"].integer();
  REQUIRE(left_out > 0);
  const std::string said = count_text(left_out) + " left out)";
  require_words(run("eval" + many + "--errors").out, {"the 100 best of each picture, with an AP50 of ", said});
  CHECK(run("explain" + many + "-n 0 --out many.html").code == 0);
  require_words(slurp(shared() / "many.html"), {"AP50, the 100 best of each picture"});
  CHECK(parse_json(run("coco-eval tiny/val/annotations.json found.json --errors --json").out)["errors"]["left_out"] ==
        0);
}

TEST_CASE("eval says that boxes without area, which COCO's evaluator counts as missed, are not in its figures") {
  make_all();
  std::string file = slurp(shared() / "tiny/val/annotations.json");
  const size_t list = file.find('[', file.find("\"annotations\"")) + 1, id = file.find("\"image_id\"");
  const std::string image = file.substr(id, file.find_first_of(",}", id) - id);
  file.insert(list, R"({"id": 999, "category_id": 1, "bbox": [9, 9, 0, 9], "iscrowd": 0, )" + image + "},");
  shared().write("flat.json", file);
  const std::string of_file = "eval --weights done --annotations flat.json --images tiny/val/images --errors --json ";
  const Result eval = run(of_file + "--set model.score_threshold=0.01 --out flat-found.json");
  require_words(eval.err, {"1 box dropped; what is dropped is no object of the figures"});
  const Json files = parse_json(run("coco-eval flat.json flat-found.json --errors --json").out);
  CHECK(files["errors"]["objects"].integer() == parse_json(eval.out)["errors"]["objects"].integer() + 1);
}

TEST_CASE("explain counts what it shows: pictures that no other one pads") {
  make_all();
  const Json all =
      parse_json(run("explain" + kTiny + "-n 100 --threshold 0 --set model.score_threshold=0.01 --json").out);
  int64_t shown = 0;
  for (auto& picture : all["pictures"].items) shown += int64_t(picture["detections"].items.size());
  CHECK(shown > 0);
  CHECK(all["errors"]["detections"] == shown);
}

TEST_CASE("a part of a file of annotations that was named is said to be one") {
  make_data();
  const std::string file = " --annotations tiny/train/annotations.json --images tiny/train/images";
  for (const char* command : {"eval --weights done", "data stats"}) {
    require_words(run(command + file + " --split val").err, {"has no splits: \"val\" is", "without --split all are"});
    CHECK(run(command + file).err.find("has no splits") == std::string::npos);
  }
}

#ifndef __SANITIZE_ADDRESS__  // which reserves more than the limit
TEST_CASE("detect: a picture that memory does not hold does not stop the others") {
  make_data();
  write_png(shared() / "thin.png", Image(9000, 2, 90));
  const Result r =
      run("detect thin.png thin.png tiny/val/images --weights done --set data.max_side=0 "
          "--set model.score_threshold=0.01 --json",
          "sh -c 'ulimit -v 800000; exec \"$@\"' sh");
  INFO(r.err);
  CHECK(r.code == 6);
  CHECK(count_of(r.err, "error: thin.png: out of memory") == 2);
  CHECK(parse_json(r.out).items.size() > 0);
}
#endif
