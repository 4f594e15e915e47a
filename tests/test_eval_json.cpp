// COCO files in and figures out: the toolkit's own figures on the shared cases, and every kind of broken file.
#include "data/eval_json.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/random.h"
#include "data/json.h"
#include "tests/small_dataset.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

const std::string good_truth =
    R"({"info": {"year": 2024, "more": [{"a": 1}]}, "images": [{"id": 5}, {"id": 3}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 50, 50.5], "area": 700,
                         "iscrowd": 0, "segmentation": [[0, 0, 1, 1, 2, 2]]},
                        {"image_id": 3, "category_id": 9, "bbox": [1, 2, 30, 40], "iscrowd": true}]})";
const std::string good_detections = R"([{"image_id": 5.0, "category_id": 2, "bbox": [0, 0, 50, 50.5], "score": 0.5}])";

// The error that reading these two files ends in; empty if none.
std::string refusal(const Folder& folder, const std::string& truth, const std::string& detections) {
  const std::string gt = folder.write("gt.json", truth), dt = folder.write("dt.json", detections);
  return message_of([&] { evaluate_coco_files(gt, dt); }, Code::data);
}

// The same random value twice: ours, and as nlohmann-json has it.
std::pair<Json, nlohmann::ordered_json> random_json(Dice& dice, int depth) {
  const auto word = [&] { return std::string(size_t(dice.integer(0, 3)), char(dice.integer(32, 126))) + "\n\xc3\xa4"; };
  std::pair<Json, nlohmann::ordered_json> both;
  auto& [ours, theirs] = both;
  const auto set = [&](const auto& value) { ours = value, theirs = value; };
  const int64_t kind = dice.integer(0, depth > 0 ? 7 : 5), bits = dice.integer(-1000000, 1000000);
  if (kind == 1) set(bits > 0);
  if (kind == 2) set(bits % 1000);
  if (kind == 3) set(UINT64_MAX - uint64_t(dice.integer(0, 1)) * uint64_t{INT64_MAX});
  if (kind == 4) set(dice.normal() * (bits > 0 ? 1 : 1e200));
  if (kind == 5) set(word());
  if (kind >= 6)
    ours = kind == 6 ? Json::list() : Json::object(), theirs = nlohmann::ordered_json::parse(json_text(ours));
  for (int64_t i = kind >= 6 ? dice.integer(0, 4) : 0; i > 0; --i) {
    const auto [a, b] = random_json(dice, depth - 1);
    const std::string key = word();
    if (kind == 6) ours.add(a), theirs.push_back(b);
    else ours[key] = a, theirs[key] = b;
  }
  return both;
}

}  // namespace

TEST_CASE("eval_json: detections that name their pictures and classes are of those, whatever their ids") {
  const Folder folder;
  const std::string gt = folder.write("gt.json", R"({"images": [{"id": 7, "file_name": "a/x.jpg"},
      {"id": 3, "file_name": "b/x.jpg"}, {"id": 4, "file_name": "y.jpg"}], "annotations": [],
      "categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}]})");
  const CocoTruthFile truth = read_coco_truth(gt);
  CHECK((truth.files == std::vector<std::string>{"b/x.jpg", "y.jpg", "a/x.jpg"}));
  const auto detections = [&](const std::string& file, const std::string& name) {
    const std::string dt = folder.write(
        "dt.json", R"([{"image_id": 3, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1)" + file + name + "}]");
    return read_coco_detections(dt, truth);
  };
  const auto named = [](const std::string& file) { return R"(, "file_name": ")" + file + '"'; };
  CHECK(detections("", "")[0][0].category == 2);
  CHECK(detections(named("data/a/x.jpg"), R"(, "category": "dog")")[2].at(0).category == 9);
  CHECK(detections(named("/data/b/x.jpg"), R"(, "category": "cow")")[0].at(0).category == 2);
  CHECK(detections(named("elsewhere/y.jpg"), "")[1].size() == 1);
  for (const char* file : {"x.jpg", "c/x.jpg", "z.jpg"})  // either, or none
    require_words(message_of([&] { detections(named(file), ""); }, Code::data),
                  {"is of the picture", file, "does not have"});
}

TEST_CASE("eval_json: equals the COCO toolkit on the shared cases") {
  const char* named = std::getenv("FOVEA_SHARED");
  const fs::path shared = named ? fs::path(named) : fs::path(FOVEA_SOURCE_DIR) / ".." / "shared";
  const fs::path cases = shared / "oracle" / "coco_eval";
  if (!fs::is_directory(cases)) {
    WARN("skipped: no " << cases << "; set FOVEA_SHARED to the directory of shared material");
    return;
  }
  int count = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(cases)) {
    const std::string folder = entry.path().string();
    if (!fs::exists(folder + "/expected.json")) continue;
    INFO(folder);
    ++count;
    std::ifstream in(folder + "/expected.json");
    const nlohmann::json expected = nlohmann::json::parse(in);
    const CocoResult result = evaluate_coco_files(folder + "/gt.json", folder + "/dt.json", {.strict = true});
    const nlohmann::json got = nlohmann::json::parse(json_text(to_json(result)));
    REQUIRE(got["stats"].size() == 12);
    for (int i = 0; i < 12; ++i)
      REQUIRE(got["stats"][i].get<double>() == Approx(expected["stats"][i].get<double>()).margin(1e-9).epsilon(0));
    REQUIRE(got["per_category_ap"].size() == expected["per_category_ap"].size());
    for (const auto& [id, ap] : expected["per_category_ap"].items())
      REQUIRE(got["per_category_ap"].at(id).get<double>() == Approx(ap.get<double>()).margin(1e-9).epsilon(0));
  }
  REQUIRE(count > 0);
}

TEST_CASE("eval_json: reads what the evaluator needs and skips the rest") {
  const Folder folder;
  const CocoTruthFile truth = read_coco_truth(folder.write("gt.json", good_truth));
  REQUIRE(truth.images == std::vector<std::int64_t>{3, 5});
  REQUIRE(truth.categories == std::vector<std::int64_t>{2, 9});
  REQUIRE(truth.names == std::vector<std::string>{"cat", "dog"});
  REQUIRE(truth.warnings.empty());
  REQUIRE(truth.ground_truths[0].size() == 1);
  REQUIRE(truth.ground_truths[0][0].crowd);
  REQUIRE_FALSE(truth.ground_truths[0][0].area);
  REQUIRE(truth.ground_truths[0][0].id == 2);  // none in the file: its place, counted from 1
  REQUIRE(truth.ground_truths[1][0].area == 700.0);
  REQUIRE(truth.ground_truths[1][0].box.h == 50.5);
  const auto detections = read_coco_detections(folder.write("dt.json", good_detections), truth);
  REQUIRE(detections.size() == 2);
  REQUIRE(detections[1].size() == 1);
  REQUIRE(detections[1][0].score == 0.5);

  const CocoResult none = evaluate_coco_files((folder.path / "gt.json").string(), folder.write("none.json", "[]"));
  REQUIRE(none.stats[0] == 0);
  REQUIRE(json_text(to_json(none)) == R"({"stats":[0.0,0.0,0.0,0.0,-1.0,-1.0,0.0,0.0,0.0,0.0,-1.0,-1.0],)"
                                      R"("per_category_ap":{"2":0.0,"9":-1.0}})");
}

TEST_CASE("eval_json: values are written as nlohmann-json does, and read again as they were") {
  Dice dice(3);
  for (int i = 0; i < 300; ++i) {
    const auto [ours, theirs] = random_json(dice, 3);
    REQUIRE(json_text(ours) == theirs.dump());
    REQUIRE(json_text(ours, 2) == theirs.dump(2));
    REQUIRE(parse_json(theirs.dump()) == ours);
  }
  const std::vector<std::string> words{"a", "b"};
  Json json = {{"box", {1, 2.5}}, {"words", words},   {"none", Json()},
               {"nan", NAN},      {"broken", "\xff"}, {"a", {{"b", 1u}}}};
  json["a"].update({{"c", true}}), json["more"].add(-3);
  CHECK(json_text(json) == R"({"box":[1,2.5],"words":["a","b"],"none":null,"nan":null,"broken":")"
                           "\xef\xbf\xbd"
                           R"(",)"
                           R"("a":{"b":1,"c":true},"more":[-3]})");
  const Json& read = json;
  for (const char* beyond : {"1e300", "-9.3e18", "9223372036854775808", "null"})
    CHECK(parse_json(beyond).integer(7) == 7);
  CHECK((parse_json("-2.9").integer(7) == -2 && parse_json("-9223372036854775808").integer(7) == INT64_MIN));
  CHECK((read["box"].items[1].number() == 2.5 && read["box"].items[0].integer() == 1 && read["gone"].integer(7) == 7));
  CHECK(
      (read.has("box") && !read.has("none") && !read.has("gone") && read["a"]["c"] == true && read["words"] == words));
  CHECK(parse_json("{\"a\": 1").is(Json::Kind::null));
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(parse_json(nested(100)).items.size() == 1);
  for (const size_t depth : {102, 300'000}) CHECK(parse_json(nested(depth)).is(Json::Kind::null));
}

TEST_CASE("eval_json: annotations that share an id") {
  const Folder folder;
  // By id the toolkit knows one annotation here, the last, and reads it twice.
  const std::string gt = folder.write("gt.json", R"({"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [
      {"id": 4, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
      {"id": 4, "image_id": 1, "category_id": 1, "bbox": [200, 0, 50, 50], "area": 2500, "iscrowd": 0}]})");
  const std::string dt = folder.write("dt.json", R"([
      {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9},
      {"image_id": 1, "category_id": 1, "bbox": [200, 0, 50, 50], "score": 0.8}])");
  const CocoResult fair = evaluate_coco_files(gt, dt), strict = evaluate_coco_files(gt, dt, {.strict = true});
  REQUIRE(fair.stats[8] == Approx(1));
  REQUIRE(strict.stats[8] == Approx(.5));
  REQUIRE(fair.warnings.size() == 1);
  REQUIRE(strict.warnings.size() == 1);
  REQUIRE(strict.warnings[0].ends_with("and so does this strict evaluation"));
  REQUIRE(fair.warnings[0].ends_with("here each is its own"));
  const CocoTruthFile literal = read_coco_truth(gt, true);
  REQUIRE((literal.ground_truths[0][0].box.x == 200 && literal.ground_truths[0][1].box.x == 200));
}

TEST_CASE("eval_json: a broken file is refused by name and reason") {
  const Folder folder;
  REQUIRE(refusal(folder, good_truth, good_detections).empty());
  const auto truth = [&](const std::string& old, const std::string& now) {
    return refusal(folder, replaced(good_truth, old, now), good_detections);
  };
  const auto detection = [&](const std::string& old, const std::string& now) {
    return refusal(folder, good_truth, replaced(good_detections, old, now));
  };
  require_words(truth("\"image_id\": 3", "\"image_id\": 77"), {"gt.json", "annotations[1]", "image 77"});
  require_words(truth("\"category_id\": 9", "\"category_id\": 8"), {"gt.json", "annotations[1]", "category 8"});
  require_words(truth("[0, 0, 50, 50.5]", "[0, 0, NaN, 50.5]"), {"gt.json", "annotations[0]", "NaN"});
  require_words(truth("[0, 0, 50, 50.5]", "[0, 0, -Infinity, 1]"), {"gt.json", "annotations[0]", "Infinity"});
  require_words(truth("[0, 0, 50, 50.5]", "[0, 0, nan, 50.5]"), {"gt.json", "annotations[0]", "nan"});
  const std::string vast = truth("[0, 0, 50, 50.5]", "[0, 0, 1e999, 50.5]");
  require_words(vast, {"gt.json", "annotations[0]: number overflow", "1e999", "correct it"});
  require_words(truth("\"area\"", "\"\xE9\""), {"gt.json", "annotations[0]: not UTF-8", "save the file as UTF-8"});
  require_words(refusal(folder, "", good_detections), {"gt.json: the file is empty"});
  require_words(truth("[0, 0, 50, 50.5]", "[0, 0, 50]"), {"gt.json", "annotations[0] (id 1)", "[0,0,50]"});
  require_words(truth("\"bbox\": [0, 0, 50, 50.5],", ""),
                {"gt.json", "annotations[0] (id 1)", "no \"bbox\"", "leave it out"});
  require_words(truth("\"area\": 700", "\"area\": \"big\""), {"gt.json", "annotations[0] (id 1)", "area", "big"});
  require_words(truth("{\"id\": 3}", "{\"id\": \"three\"}"), {"gt.json", "images[1]", "three"});
  require_words(truth("{\"id\": 3}", "3"), {"gt.json", "images[1]", "not an object"});
  require_words(truth("{\"id\": 3}", "[3]"), {"gt.json", "images[1]", "not an object"});
  require_words(truth("\"categories\"", "\"classes\""), {"gt.json", "no list \"categories\""});
  require_words(detection("5.0", "6"), {"dt.json", "detections[0]", "image 6", "gt.json"});
  require_words(detection("5.0", "5.5"), {"dt.json", "detections[0]", "image_id 5.5"});
  require_words(detection("0.5}", "NaN}"), {"dt.json", "detections[0]", "NaN"});
  require_words(detection("0.5}", "null}"), {"dt.json", "detections[0]", "score", "null"});
  require_words(detection(", \"score\": 0.5", ""), {"dt.json", "detections[0]", "score"});
  require_words(refusal(folder, good_detections, good_truth), {"gt.json", "swapped"});
  require_words(refusal(folder, good_truth, good_truth), {"dt.json", "swapped"});
  require_words(refusal(folder, good_truth, "7"), {"dt.json", "not a COCO results file"});
  require_words(refusal(folder, good_truth, good_detections + "]"), {"dt.json", "not valid JSON"});
  require_words(message_of([&] { read_coco_truth(folder / "absent.json"); }), {"absent.json", "No such file"});
  REQUIRE_THROWS_AS(read_coco_truth(folder.path.string()), Error);  // a directory
}

TEST_CASE("eval_json: a file cut off anywhere is refused") {
  const Folder folder;
  for (std::size_t size = 0; size < good_truth.size(); ++size)
    require_words(refusal(folder, good_truth.substr(0, size), good_detections), {"gt.json"});
  for (std::size_t size = 0; size < good_detections.size(); ++size)
    require_words(refusal(folder, good_truth, good_detections.substr(0, size)), {"dt.json"});
  require_words(refusal(folder, good_truth.substr(0, 300), good_detections), {"cut off", "annotations"});
}
