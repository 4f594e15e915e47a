// Data sets: COCO in its layouts, the policy for bad boxes, and what is said about broken ones.
#include "data/dataset.h"

#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/eval_json.h"
#include "data/json.h"
#include "tests/small_dataset.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

std::string coco_error(const std::string& json, const std::string& policy = "clip") {
  const Folder folder;
  add_pictures(folder, "images");
  folder.write("annotations.json", json);
  return error_of(Code::data, [&] { open_dataset({.dir = folder.path.string(), .policy = policy}); });
}

}  // namespace

TEST_CASE("the split to score on is val, or the only one that is called so otherwise") {
  CHECK(val_split_of({"train", "val", "valid"}) == "val");
  CHECK(val_split_of({"test", "train", "valid"}) == "valid");
  CHECK(val_split_of({"train2017", "val2017"}) == "val2017");
  CHECK(val_split_of({"dev", "train", "valid"}).empty());
  CHECK(val_split_of({}).empty());
}

TEST_CASE("COCO: null is as good as nothing where a field may be missing") {
  const Folder folder;
  add_pictures(folder, "images");
  std::string json = replaced(good_coco, R"("iscrowd": 0, "area": 50)", R"("iscrowd": null, "area": null)");
  json =
      replaced(replaced(json, R"("width": 40)", R"("width": null)"), R"({"id": 2, "image)", R"({"id": null, "image)");
  folder.write("annotations.json", json);
  const Dataset data = open_dataset({.dir = folder.path.string()});
  CHECK(data.annotation(1).width == 40);
  REQUIRE(data.annotation(1).truths.size() == 2);
  CHECK_FALSE(data.annotation(1).truths[0].crowd);
  CHECK_FALSE(data.annotation(1).truths[0].area);
}

TEST_CASE("COCO: classes, boxes, crowds and empty pictures") {
  const Folder folder;
  add_pictures(folder, "images");
  folder.write("annotations.json", std::string(good_coco));
  const Dataset data = open_dataset({.dir = folder.path.string()});
  REQUIRE(data.size() == 2);
  CHECK(data.classes() == std::vector<std::string>{"cat", "dog"});  // by id
  CHECK(data.class_ids() == std::vector<int64_t>{2, 9});
  CHECK(data.annotation(0).id == 3);
  CHECK(data.annotation(0).boxes.empty());
  const Sample sample = data.get(1);
  CHECK(sample.image.width == 40);
  REQUIRE(sample.boxes.size() == 1);
  CHECK(sample.boxes[0].x2 == 11.5f);
  CHECK(sample.labels == std::vector<int>{1});
  REQUIRE(sample.ignore.size() == 1);
  CHECK(data.annotation(1).truths.size() == 2);
  CHECK(data.annotation(1).truths[0].area == 50);
  CHECK(data.problems().summary().empty());
  CHECK(data.first(1).size() == 1);
  const Dataset ordered = open_dataset({.dir = folder.path.string(), .classes = {"dog", "bird", "cat"}});
  CHECK(ordered.annotation(1).labels == std::vector<int>{0});
  CHECK(ordered.class_ids()[2] == 2);
  require_words(error_of(Code::data,
                         [&] {
                           open_dataset({.dir = folder.path.string(), .classes = {"bird", "cat"}});
                         }),
                {"a.png", "\"dog\"", "do not include"});
  write_coco_truth(folder / "again.json", data);
  const CocoTruthFile again = read_coco_truth(folder / "again.json");
  CHECK(again.images == std::vector<int64_t>{3, 7});
  CHECK(again.ground_truths[1].size() == 2);
  CHECK(again.ground_truths[1][1].crowd);
  CHECK(again.ground_truths[1][0].area == 50);  // the file's, not the box's
  CHECK(again.ground_truths[1][0].id == 1);     // 0 would be lost in the COCO toolkit
  write_coco_detections(folder / "dt.json", {{7, {{9, {1, 2, 10.5, 20}, 0.1}}}});
  CHECK(read_coco_detections(folder / "dt.json", again)[1][0].score == 0.1);  // all digits of a double
  CHECK(evaluate_coco_files(folder / "again.json", folder / "dt.json").stats[0] == Approx(1));
}

TEST_CASE("COCO: a name that is a number is the name, not the id, which names a class without a name") {
  const Folder folder;
  add_pictures(folder, "images");
  const std::string json = replaced(std::string(good_coco), R"("name": "dog")", R"("name": 8)");
  for (const char* none : {"null", "\"\"", "\" \\t\""}) {
    folder.write("annotations.json", replaced(json, "\"cat\"", none));
    const Dataset data = open_dataset({.dir = folder.path.string()});
    CHECK(data.classes() == std::vector<std::string>{"2", "8"});
    CHECK(data.class_ids() == std::vector<int64_t>{2, 9});
  }
}

TEST_CASE("COCO in the layouts that it comes in") {
  const Folder folder;
  const std::string dir = folder.path.string();
  for (const char* images : {"val/images", "train", "val2017", "images", "images/test2017"})
    add_pictures(folder, images);
  folder.write("val/annotations.json", std::string(good_coco));
  folder.write("train/_annotations.coco.json", std::string(good_coco));
  for (const char* instances : {"val2017", "test2017"})
    folder.write(text("annotations/instances_", instances, ".json"), std::string(good_coco));
  CHECK(find_splits(dir) == std::vector<std::string>{"test2017", "train", "val", "val2017"});
  CHECK(open_dataset({.dir = dir, .split = "test2017"}).annotation(1).path == folder / "images/test2017/a.png");
  for (const char* split : {"train", "val", "val2017"}) {
    const Dataset data = open_dataset({.dir = dir, .split = split});
    CHECK(data.size() == 2);
    CHECK_NOTHROW(data.get(0));
  }
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = dir, .split = "tests"}); }),
                {"tests", "test2017, train, val, val2017"});
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = dir}); }), {"name one of its splits"});
  const Dataset files = open_dataset({.annotations = folder / "val/annotations.json", .images = folder / "images"});
  CHECK(files.size() == 2);
  for (const char* split : {"train", "val"})  // one file is divided, too
    CHECK(open_dataset({.split = split, .annotations = folder / "val/annotations.json", .images = folder / "images"})
              .size() == 1);
  require_words(error_of(Code::usage, [&] { open_dataset({.annotations = "a.json"}); }), {"belong together"});
  for (const char* idle : {R"({"id": 0, "name": "dog"}, )", R"({"id": 11, "name": "dog"}, )"}) {  // as Roboflow writes
    folder.write("val/annotations.json", replaced(good_coco, R"({"id": 9)", std::string(idle) + R"({"id": 9)"));
    CHECK(open_dataset({.dir = dir, .split = "val"}).class_ids() == std::vector<int64_t>{2, 9});
  }
  for (const char* name : {"gone/a.png", R"(..\\images\\a.png)", R"(C:\\gone\\a.png)"}) {  // also of Windows
    folder.write("names/annotations.json", replaced(good_coco, "a.png", name));
    add_pictures(folder, "names/images");
    CHECK_NOTHROW(open_dataset({.dir = folder / "names"}).get(1));
  }
}

TEST_CASE("without splits, a part is chosen by file name") {
  const Folder folder;
  nlohmann::json json{{"images", nlohmann::json::array()},
                      {"annotations", nlohmann::json::array()},
                      {"categories", {{{"id", 1}, {"name", "x"}}}}};
  for (int i = 0; i < 200; ++i) {
    const std::string name = "p" + std::to_string(i) + ".png";
    folder.write("images/" + name, std::string("x"));
    json["images"].push_back({{"id", i}, {"file_name", name}, {"width", 4}, {"height", 4}});
  }
  folder.write("annotations.json", json.dump());
  std::set<std::string> seen;
  for (const char* split : {"train", "val"}) {
    const Dataset data = open_dataset({.dir = folder.path.string(), .split = split, .val_fraction = 0.2});
    if (std::string(split) == "val") CHECK(std::abs(int(data.size()) - 40) < 20);
    for (int64_t i = 0; i < data.size(); ++i) CHECK(seen.insert(data.annotation(i).path).second);
  }
  CHECK(seen.size() == 200);
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = folder.path.string(), .split = "test"}); }),
                {"no splits"});
  for (const double part : {-0.1, 1.1})
    require_words(error_of(Code::usage, [&] { open_dataset({.dir = folder.path.string(), .val_fraction = part}); }),
                  {"val_fraction", "0 to 1"});
}

TEST_CASE("a few pictures without splits are in both parts") {
  const Folder folder;
  const auto part = [&](const char* split, double val_fraction) {
    std::set<std::string> paths;
    const Dataset data = open_dataset({.dir = folder.path.string(), .split = split, .val_fraction = val_fraction});
    for (int64_t i = 0; i < data.size(); ++i) paths.insert(data.annotation(i).path);
    return paths;
  };
  std::string images;
  for (int n = 1; n <= 6; ++n) {
    const std::string name = "p" + std::to_string(n) + ".png";
    folder.write("images/" + name, std::string("x"));
    images += text(n > 1 ? ", " : "", R"({"id": )", n, R"(, "file_name": ")", name, R"(", "width": 4, "height": 4})");
    folder.write("annotations.json",
                 text(R"({"images": [)", images, R"(], "categories": [{"id": 1}], "annotations": []})"));
    const auto refused = [&](const char* split, double val_fraction) {
      return error_of(Code::data, [&] { part(split, val_fraction); });
    };
    require_words(refused("val", 0),
                  {"annotations.json", text("of its ", n), "none is in \"val\"", "val_fraction of 0"});
    require_words(refused("train", 1), {"none is in \"train\"", "val_fraction of 1"});
    CHECK(part("train", 0).size() == size_t(n));
    if (n == 1) continue;
    for (const double val_fraction : {1e-6, 0.1, 0.9, 0.999999}) {
      std::set<std::string> train = part("train", val_fraction), val = part("val", val_fraction);
      REQUIRE(!train.empty());
      REQUIRE(!val.empty());
      train.merge(val);
      REQUIRE(val.empty());  // none in both
      REQUIRE(train.size() == size_t(n));
    }
    CHECK(part("val", 1e-6).size() == 1);
    CHECK(part("train", 0.999999).size() == 1);
  }
}

TEST_CASE("COCO: a picture that may not be looked at is not called missing") {
  const Folder folder;
  add_pictures(folder, "images");
  folder.write("annotations.json", replaced(good_coco, "a.png", "loop.png"));
  fs::create_symlink("loop.png", folder.path / "images/loop.png");
  require_words(error_of(Code::data, [&] { open_dataset({.dir = folder.path.string()}); }),
                {"images/loop.png: cannot be opened: ", "symbolic links"});
}

TEST_CASE("COCO: two pictures are not found in one file") {
  const std::string two = replaced(replaced(good_coco, "a.png", "x/a.png"), "b.png", "y/a.png");
  require_words(coco_error(two), {"images[1] (id 3)", "images/a.png", "\"x/a.png\"", "folders"});
  const Folder folder;
  add_pictures(folder, "images/x"), add_pictures(folder, "images/y"), folder.write("annotations.json", two);
  CHECK(open_dataset({.dir = folder.path.string()}).size() == 2);
  folder.write("annotations.json", replaced(two, "y/a.png", "x/a.png"));  // one picture, annotated twice
  CHECK(open_dataset({.dir = folder.path.string()}).size() == 2);
}

TEST_CASE("a folder that may not be looked into hinders no data set beside it") {
  for (const auto& [name, content] : std::map<std::string, std::string>{
           {"annotations.json", good_coco},
           {"a.txt", "0 .5 .5 .4 .4"},
           {"boxes.csv", "a.png,1,2,3,4,dog"},
           {"a.xml",
            "<annotation><size><width>40</width><height>30</height></size><object><name>dog</name><bndbox>"
            "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"}}) {
    INFO(name);
    const Folder folder;
    add_pictures(folder, ".");
    folder.write("classes.txt", "dog"), folder.write(name, content);
    fs::create_symlink("lost+found", folder.path / "lost+found");  // in a circle: root may look into all others
    CHECK(find_splits(folder.path.string()).empty());
    const Dataset data = open_dataset({.dir = folder.path.string()});
    CHECK(data.annotation(0).boxes.size() + data.annotation(data.size() - 1).boxes.size() > 0);
  }
}

TEST_CASE("COCO files that are broken are refused in one line") {
  const std::string good = good_coco;
  require_words(coco_error(good.substr(0, good.size() / 2)), {"annotations.json", "cut off"});
  require_words(coco_error(std::string("\xFF\xFE{\0", 4)), {"annotations.json", "is UTF-16", "as UTF-8"});
  require_words(coco_error(replaced(good, "\"image_id\": 7", "\"image_id\": 8")),
                {"annotations[0] (id 1)", "image 8", "add it"});
  require_words(coco_error(replaced(good, "\"category_id\": 9", "\"category_id\": 5")), {"category 5", "categories"});
  require_words(coco_error(replaced(good, "10.5", "NaN")), {"NaN", "near annotations[0]", "leave such boxes out"});
  require_words(coco_error(replaced(good, "10.5", "null")), {"annotations[0] (id 1)", "not a number"});
  require_words(coco_error(replaced(good, "a.png", "none.png")), {"images[0] (id 7)", "none.png", "does not exist"});
  const std::string nameless = coco_error(replaced(good, "a.png", std::string(5000, 'n')));
  require_words(nameless, {"images[0] (id 7)", "nnn...", "does not exist"});
  CHECK(nameless.find("missing") == std::string::npos);
  require_words(coco_error(replaced(replaced(good, "a.png", "c.png"), "b.png", "d.png")),
                {"images[0] (id 7)", "c.png, which does not exist (2 of 2 pictures are missing)"});
  for (const std::string folder : {"", ".", "../images"})
    require_words(coco_error(replaced(good, "a.png", folder)), {"images[0] (id 7)", "does not exist"});
  CHECK(nameless.size() < 600);
  std::string accents = "n";  // of two bytes each, so that the cut falls into one
  for (int i = 0; i < 300; ++i) accents += "\xC3\xA9";
  CHECK(is_utf8(coco_error(replaced(good, "a.png", accents))));
  require_words(coco_error(replaced(good, "\"id\": 7", "\"id\": 1e16")), {"images[0]", "not a whole number"});
  require_words(coco_error(replaced(good, "\"id\": 3", "\"id\": 7")), {"images[1]", "another image"});
  require_words(coco_error(replaced(good, "\"id\": 9", "\"id\": 2")), {"two categories", "2"});
  require_words(coco_error(replaced(good, "\"cat\"", R"("c\nat")")), {"categories[1] (id 2)", "line break"});
  require_words(coco_error(replaced(good, "\"cat\"", "\"dog\"")), {"categories 2 and 9", "\"dog\""});
  require_words(coco_error(R"({"images": [], "categories": [{"id": 1}], "annotations": []})"), {"no pictures"});
  require_words(coco_error("{\"images\": []}"), {"has no list \"annotations\""});
  require_words(coco_error("[]"), {"annotations.json"});
  require_words(coco_error(replaced(good, "\"id\": 7", "\"id\": 9223372036854775815")),
                {"images[0]", "above 2^63 - 1"});
  for (const char* width : {"4294967336", "0", "-40"})
    require_words(coco_error(replaced(good, "\"width\": 40", text("\"width\": ", width))),
                  {"images[0] (id 7)", "has width", width});
  const std::string deep = std::string(300000, '[') + std::string(300000, ']');
  require_words(coco_error(replaced(good, "[1, 2, 10.5, 20]", deep)), {"near annotations[0]", "more than 100 lists"});
  require_words(coco_error(replaced(good, "\"id\": 7", "\"id\": " + deep)), {"near images[0]", "more than 100 lists"});
  require_words(coco_error(replaced(good, "{\"images\"", "{\"more\": " + deep + ", \"images\"")),
                {"more than 100 lists"});
  std::string numbers = "[1";
  for (int i = 0; i < 5000; ++i) numbers += ", 1";
  const std::string many = coco_error(replaced(good, "[1, 2, 10.5, 20]", numbers + "]"));
  require_words(many, {"annotations[0] (id 1)", "has bbox [1,1,", "..., not [x, y, width, height]"});
  CHECK(many.size() < 300);
  const Folder empty;
  require_words(error_of(Code::data, [&] { open_dataset({.dir = empty.path.string()}); }), {"neither", "Annotations/"});
  require_words(error_of(Code::data, [&] { open_dataset({.dir = empty / "none"}); }), {"is not a folder"});
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = empty.path.string(), .format = "tfrecord"}); }),
                {"tfrecord", "coco", "yolo", "csv"});
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = empty.path.string(), .policy = "ignore"}); }),
                {"clip"});
}

TEST_CASE("names that JSON cannot hold are refused when they are written") {
  const Folder folder;
  const Dataset data("test", {"caf\xe9"}, {1}, {}, BoxPolicy::clip);
  require_words(error_of(Code::data, [&] { write_coco_truth(folder / "a.json", data); }), {"a.json", "not UTF-8"});
}

TEST_CASE("bad boxes follow the policy and are counted") {
  const auto open = [](double x, double y, double w, double h, const char* policy, int64_t category = 1) {
    Annotation a;
    a.path = "p.jpg", a.width = 100, a.height = 50;
    a.truths = {{1, {5, 5, 10, 10}, {}, false}, {category, {x, y, w, h}, {}, false}};
    const std::string p = policy;
    return Dataset("test", {"x"}, {1}, {a},
                   p == "clip"   ? BoxPolicy::clip
                   : p == "drop" ? BoxPolicy::drop
                                 : BoxPolicy::error);
  };
  const auto refused = [&](double x, double y, double w, double h, const char* policy) {
    return error_of(Code::data, [&] { open(x, y, w, h, policy); });
  };
  CHECK(open(99.5, 0, 1.2, 5, "error").annotation(0).boxes[1].x2 == 100);  // rounding: cut off in silence
  const Dataset clipped = open(-20, 10, 50, 10, "clip");
  CHECK(clipped.annotation(0).boxes[1].x1 == 0);
  CHECK(clipped.annotation(0).truths[1].box.x == -20);  // the evaluator sees what the file says
  CHECK(clipped.problems().summary() == "1 box clipped");
  CHECK(open(10, -1, 5, 52, "error").annotation(0).boxes[1].y2 == 50);  // and above and below
  require_words(refused(10, -1.5, 5, 5, "error"), {"leaves the picture"});
  require_words(refused(10, 40, 5, 11.5, "error"), {"leaves the picture"});
  require_words(clipped.problems().messages.at(0),
                {"test: annotation 1: box 2 of 2", "p.jpg", "[-20, 10, 30, 20]", "100 x 50", "clipped"});
  CHECK(open(-20, 10, 50, 10, "drop").annotation(0).boxes.size() == 1);
  require_words(refused(-20, 10, 50, 10, "error"), {"p.jpg", "box 2 of 2", "leaves the picture", "clip or drop"});
  CHECK(open(10, 10, 0, 5, "clip").problems().summary() == "1 box dropped");
  CHECK(open(10, 10, 0, 5, "clip").annotation(0).truths.size() == 1);
  CHECK(open(300, 10, 50, 5, "clip").problems().dropped == 1);
  require_words(refused(10, 10, 5, -5, "error"), {"has no area"});
  for (const double x : {-0.9, 50.0}) {  // beside the picture, within the rounding; narrower than a float can tell
    const double w = x < 0 ? 0.8 : 1e-6;
    require_words(refused(x, 10, w, 10, "error"), {"p.jpg", "box 2 of 2", "has no area inside the picture"});
    CHECK(open(x, 10, w, 10, "clip").problems().summary() == "1 box dropped");
    CHECK(open(x, 10, w, 10, "drop").annotation(0).truths.size() == 1);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (double bad : {nan, inf, -inf}) {
    require_words(refused(10, 10, bad, 5, "clip"), {"p.jpg", "box 2", "not finite", "drop"});
    CHECK(open(10, 10, bad, 5, "drop").problems().dropped == 1);
  }
  require_words(error_of(Code::data, [&] { open(1, 1, 5, 5, "clip", 4); }), {"p.jpg", "class 4 is out of range"});
}

TEST_CASE("of many bad boxes all are counted and twenty are told") {
  Annotation a;
  a.path = "p.jpg", a.width = a.height = 50;
  a.truths.assign(25, {1, {5, 5, 0, 10}});
  const Dataset data("test", {"x"}, {1}, {a}, BoxPolicy::clip);
  CHECK(data.problems().summary() == "25 boxes dropped");
  CHECK(data.problems().messages.size() == 20);
}

TEST_CASE("pictures that training may leave out") {
  std::vector<Annotation> all(4);
  for (Annotation& a : all) a.width = a.height = 50;
  all[1].truths = {{1, {5, 5, 10, 10}, {}, true}};  // a crowd
  all[2].truths = {{1, {5, 5, 1, 10}}, {1, {5, 5, 10, 0.5}}};
  all[3].truths = {{1, {5, 5, 1, 10}}, {1, {5, 5, 1.5, 10}}};
  const Dataset data("test", {"x"}, {1}, all, BoxPolicy::error);
  CHECK(data.filtered("none").size() == 4);
  CHECK(data.filtered("empty").size() == 2);
  CHECK(data.filtered("tiny").size() == 1);
  require_words(error_of(Code::usage, [&] { data.filtered("small"); }), {"small", "tiny"});
}
