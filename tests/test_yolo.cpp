// YOLO data sets: their layouts, the names of the classes, boxes and outlines, and broken files.
#include <map>

#include "core/random.h"
#include "core/words.h"
#include "data/dataset.h"
#include "tests/small_dataset.h"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr const char* kLabels = "1 0.25 0.5 0.5 0.2\n\n0 0.1 0.2 0.9 0.2 0.5 0.8\r\n";  // a box, an outline

struct YoloFolder : Folder {
  YoloFolder() {
    for (const char* split : {"train", "val"}) add_pictures(*this, text("images/", split));
    write("labels/train/a.txt", kLabels);
    write("labels/val/b.txt", "0 0.5 0.5 1 1");
    write("data.yaml", "path: ../somewhere\ntrain: images/train\nnames:\n  0: dog\n  1: cat\nnc: 2\n");
  }
  Dataset open(const std::string& split = "train", const std::string& policy = "clip") const {
    return open_dataset({.dir = path.string(), .split = split, .policy = policy});
  }
  std::string error(const std::string& labels, const std::string& policy = "clip") const {
    write("labels/train/a.txt", labels);
    return error_of(Code::data, [&] { open("train", policy); });
  }
};

void check_objects(const Annotation& a) {  // those of kLabels in a picture of 40 x 30
  REQUIRE(a.boxes.size() == 2);
  CHECK(a.labels == std::vector<int>{1, 0});
  const float want[2][4] = {{0, 12, 20, 18}, {4, 6, 36, 24}};
  for (size_t i = 0; i < 2; ++i) {
    const float got[4] = {a.boxes[i].x1, a.boxes[i].y1, a.boxes[i].x2, a.boxes[i].y2};
    for (int side = 0; side < 4; ++side) CHECK(got[side] == Approx(want[i][side]).margin(1e-5));
  }
}

}  // namespace

TEST_CASE("YOLO: splits, boxes and outlines in parts of the picture, pictures without objects") {
  const YoloFolder folder;
  CHECK(find_splits(folder.path.string()) == std::vector<std::string>{"train", "val"});
  const Dataset data = folder.open();
  REQUIRE(data.size() == 2);
  CHECK(data.classes() == std::vector<std::string>{"dog", "cat"});
  CHECK(data.class_ids() == std::vector<int64_t>{1, 2});
  CHECK(data.annotation(0).id == 1);
  CHECK(data.annotation(0).path == folder / "images/train/a.png");
  check_objects(data.annotation(0));
  CHECK(data.annotation(1).boxes.empty());  // no label file
  CHECK(data.get(1).image.width == 20);
  CHECK(folder.open("val").annotation(1).boxes[0].x2 == 20);
  const auto wrong = [&] { folder.open("trian"); };
  require_words(error_of(Code::usage, wrong), {"trian", "train, val"});
  const auto as_coco = [&] { open_dataset({.dir = folder.path.string(), .format = "coco"}); };
  require_words(error_of(Code::data, as_coco), {"it is a YOLO folder", "--format yolo"});
}

TEST_CASE("YOLO in the layouts that it comes in") {
  const auto whole = [](const Folder& folder) {
    CHECK(find_splits(folder.path.string()).empty());
    const Dataset data = open_dataset({.dir = folder.path.string()});
    REQUIRE(data.size() == 2);
    CHECK(data.classes() == std::vector<std::string>{"dog", "cat"});
    check_objects(data.annotation(0));
    CHECK(open_dataset({.dir = folder.path.string(), .split = "val", .val_fraction = 0.5}).size() == 1);
  };
  for (const char* images : {"images", "Images", "obj_train_data", "."}) {
    const Folder folder;
    add_pictures(folder, images);
    folder.write(images + std::string("/a.txt"), kLabels);
    folder.write(images + std::string("/b.TXT.bak"), "no label");
    folder.write(images + std::string("/README.txt"), "no label either");
    folder.write("obj.names", "dog\ncat\n\n");
    whole(folder);
  }
  const Folder plain;
  add_pictures(plain, "images");
  plain.write("labels/a.txt", kLabels), plain.write("labels/classes.txt",
                                                    "\xEF\xBB\xBF"
                                                    "dog\r\ncat\r\n");
  whole(plain);
  for (const bool apart : {true, false}) {  // as Roboflow writes it for newer and for older YOLOs
    const Folder folder;
    for (const std::string split : {"test", "train"}) {
      add_pictures(folder, split + (apart ? "/images" : ""));
      folder.write(split + (apart ? "/labels/a.txt" : "/a.txt"), kLabels);
      if (!apart) folder.write(split + "/_darknet.labels", "dog\ncat");
    }
    if (apart) folder.write("data.yaml", "names: ['dog', 'cat']\nnc: 2");
    folder.write("README.dataset.txt", "made by hand");
    CHECK(find_splits(folder.path.string()) == std::vector<std::string>{"test", "train"});
    const auto open = [&] { return open_dataset({.dir = folder.path.string(), .split = "test", .policy = "error"}); };
    check_objects(open().annotation(0));
    if (apart) continue;
    folder.write("train/_darknet.labels", "cat\ndog");
    require_words(error_of(Code::data, open), {"train/_darknet.labels", "differs from", "test/_darknet.labels"});
    folder.write("classes.txt", "dog\ncat");
    check_objects(open().annotation(0));
  }
}

TEST_CASE("YOLO: label files with endings in capitals, and links to no file") {
  for (const std::string labels : {"labels", "images", "."}) {
    const Folder folder;
    add_pictures(folder, labels == "." ? "." : "images");
    folder.write("classes.txt", "dog\ncat"), folder.write(labels + "/a.TXT", kLabels);
    const auto open = [&] { return open_dataset({.dir = folder.path.string()}); };
    check_objects(open().annotation(0));
    folder.write("train.txt", labels == "." ? "a.png\n" : "images/a.png\n");
    check_objects(open().annotation(0));
    std::filesystem::remove(folder.path / "train.txt");
    std::filesystem::create_symlink("gone/b.txt", folder.path / labels / "b.txt");
    require_words(error_of(Code::data, open), {"b.txt", "cannot be opened"});
  }
}

TEST_CASE("YOLO: labels that may not be looked at are not called missing") {
  const YoloFolder folder;  // a link in a circle stands for what is another user's: root may look at that
  add_pictures(folder, "images/train/sub");
  std::filesystem::create_symlink("sub", folder.path / "labels/train/sub");
  require_words(error_of(Code::data, [&] { folder.open(); }), {"labels/train/sub/a.txt", "cannot be opened"});
  const Folder flat;
  add_pictures(flat, "images"), flat.write("classes.txt", "dog");
  std::filesystem::create_symlink("labels", flat.path / "labels");
  require_words(error_of(Code::data, [&] { open_dataset({.dir = flat.path.string()}); }),
                {"/labels: cannot be opened"});
}

TEST_CASE("YOLO: the points of a pose are no part of its box") {
  const YoloFolder folder;
  for (const std::string points : {" .1 .1 2 .9 .9 1", " .1 .1 .9 .9", " .1 .1 2"}) {
    folder.write("labels/train/a.txt", "1 .5 .5 .5 .4" + points + "\n");
    folder.write("data.yaml", "names: [dog, cat]\nkpt_shape: [2, 3]\n");
    const Box<float> box = folder.open().annotation(0).boxes[0];
    CHECK((box.x1 == 10 && box.y1 == Approx(9) && box.x2 == 30 && box.y2 == Approx(21)));
  }
  require_words(folder.error("1 .5 .5 .5"), {"has 4 numbers"});
}

TEST_CASE("YOLO: texts of other systems") {
  const YoloFolder folder;
  folder.write("labels/train/a.txt", "1 .5 .5 .1 .1\r0 .5 .5 .2 .2\r\r1 .5 .5 .3 .3\r");  // not one outline
  CHECK(folder.open().annotation(0).labels == std::vector<int>{1, 0, 1});
  require_words(folder.error("1 .5 .5 .1 .1\r0 .5\r"), {"a.txt:2", "has 2 numbers"});
  require_words(folder.error(std::string("\xFF\xFE\x30\0", 4)), {"labels/train/a.txt", "is UTF-16", "as UTF-8"});
}

TEST_CASE("YOLO: pictures in folders within those of the splits") {
  const Folder folder;
  folder.write("classes.txt", "dog\ncat");
  for (const char* inside : {"images/train/b/deep/er", "images/train/a", "images/train/.trash", "images/val/c"})
    add_pictures(folder, inside);
  folder.write("labels/train/b/deep/er/a.txt", kLabels), folder.write("labels/train/a/b.txt", "0 .5 .5 1 1");
  folder.write("labels/train/.trash/x.txt", "0 .5 .5 1 1"), folder.write("labels/val/c/a.txt", kLabels);
  write_png(folder / "images/train/top.png", Image(8, 8, 90));
  const auto open = [&] { return open_dataset({.dir = folder.path.string(), .split = "train"}); };
  const auto check_all = [&](const std::vector<std::string>& names) {
    const Dataset data = open();
    REQUIRE(data.size() == int64_t(names.size()));
    for (int64_t i = 0; i < data.size(); ++i)
      CHECK(data.annotation(i).path == folder / ("images/train/" + names[size_t(i)]));
    check_objects(data.annotation(2));
    CHECK(data.annotation(0).boxes.empty());
    CHECK(data.annotation(1).boxes[0].x2 == 20);
  };
  const Folder roboflow;
  roboflow.write("data.yaml", "names: [dog, cat]");
  for (const std::string split : {"train", "valid"}) {
    add_pictures(roboflow, split + "/images/x/y");
    roboflow.write(split + "/labels/x/y/a.txt", kLabels);
  }
  CHECK(find_splits(roboflow.path.string()) == std::vector<std::string>{"train", "valid"});
  const Dataset train = open_dataset({.dir = roboflow.path.string(), .split = "train"});
  REQUIRE(train.size() == 2);
  check_objects(train.annotation(0));
  const std::vector<std::string> names{"a/a.png", "a/b.png", "b/deep/er/a.png", "b/deep/er/b.png", "top.png"};
  CHECK(find_splits(folder.path.string()) == std::vector<std::string>{"train", "val"});
  check_all(names);
  std::filesystem::create_directory_symlink(folder.path / "images/train", folder.path / "images/train/a/circle");
  std::filesystem::create_directory_symlink("a", folder.path / "images/train/0");
  check_all(names);
  add_pictures(folder, "elsewhere");
  std::filesystem::create_directory_symlink(folder.path / "elsewhere", folder.path / "images/train/c");
  CHECK(open().annotation(4).path == folder / "images/train/c/a.png");
  folder.write("labels/train/a/deep/c.txt", "");
  require_words(error_of(Code::data, open), {"a/deep/c.txt", "its picture is not in"});
  std::filesystem::remove_all(folder.path / "labels/train/a/deep");
  folder.write("images/train/a/a.jpg", "another a");
  require_words(error_of(Code::data, open), {"more than one picture is called a"});
}

struct ListFolder : Folder {  // pictures and labels, and nothing that says which are to train on
  ListFolder(const std::string& images, const std::string& labels) {
    add_pictures(*this, images);
    write(labels + "/a.txt", kLabels);
    write("classes.txt", "dog\ncat\n");
  }
  Dataset open(const std::string& split) const {
    return open_dataset({.dir = path.string(), .split = split, .policy = "error"});
  }
  std::string error(const std::string& split) const {
    return error_of(Code::data, [&] { open(split); });
  }
  std::vector<std::string> splits() const { return find_splits(path.string()); }
};

TEST_CASE("YOLO: lists of pictures name the splits") {
  for (const auto& [images, labels] : std::map<std::string, std::string>{
           {"images", "labels"}, {"obj", "obj"}, {"images/x", "images/x"}, {"images/x/y", "labels/x/y"}}) {
    const ListFolder folder(images, labels);
    for (const std::string& before :
         {std::string(), std::string("./"), std::string("data/"), std::string("data\\"), folder / ""}) {
      INFO(before << images);
      const std::string a = before + images + "/a.png\n";
      folder.write("train.txt", "\r\n" + a + "\n" + "./" + images + "/a.png");
      folder.write("Valid.txt", before + images + "/b.png\r\n" + a);
      CHECK(folder.open("Valid").size() == 2);
      check_objects(folder.open("Valid").annotation(0));
      const Dataset data = folder.open("train");
      REQUIRE(data.size() == 1);
      check_objects(data.annotation(0));
      CHECK(data.get(0).image.width == 40);
    }
    CHECK(folder.splits() == std::vector<std::string>{"Valid", "train"});  // nor is "obj" one, where the pictures are
    folder.write("train.txt", folder / images + "/a.png"), std::filesystem::remove(folder.path / "Valid.txt");
    CHECK(folder.splits().empty());
  }
  const ListFolder folder("images", "labels");
  folder.write("images/a.txt", "0 .5 .5 1 1");  // the one in labels/ comes first
  folder.write("sets/x/one.txt", "../../images/a.png"), folder.write("two.txt", "images/b.png\nimages/a.png");
  folder.write("data.yaml",
               "path: ../x\ntrain: sets/x/one.txt # half\nval: '../x/two.txt'\ntest: none.txt\nnames: [dog, cat]");
  CHECK(folder.splits() == std::vector<std::string>{"train", "val"});
  check_objects(folder.open("train").annotation(0));
  CHECK(folder.open("val").size() == 2);
  const YoloFolder both;  // folders, too
  both.write("train.txt", "gone/a.png"), both.write("one.txt", "images/val/a.png\nimages/val/b.png\n");
  CHECK(both.open().annotation(0).boxes.size() == 2);
  both.write("data.yaml", "names: [dog, cat]\ntrain: one.txt");
  CHECK(both.open().annotation(1).path == both / "images/val/b.png");
  CHECK(find_splits(both.path.string()) == std::vector<std::string>{"train", "val"});  // a folder that is called so
}

TEST_CASE("YOLO: one list is divided, and other files are no lists") {
  const ListFolder folder("obj_train_data", "obj_train_data");  // CVAT's
  folder.write("train.txt", "data/obj_train_data/b.png\ndata/obj_train_data/a.png\n");
  CHECK(folder.splits().empty());
  CHECK(folder.open("").size() == 2);
  CHECK(open_dataset({.dir = folder.path.string(), .split = "val", .val_fraction = 0.5}).size() == 1);
  folder.write("bad.txt", "obj_train_data/a.png\n"), folder.write("README.txt", "a.png");
  folder.write("val.txt", "\n0 .5 .5 1 1\n");  // the labels of a picture that is called val.png
  folder.write("test.txt", "000012\n");        // VOC's way
  CHECK(folder.splits().empty());
  folder.write("val.txt", "obj_train_data/a.png");
  CHECK(folder.splits() == std::vector<std::string>{"train", "val"});
}

TEST_CASE("YOLO: broken lists are refused by line") {
  const ListFolder folder("images", "labels");
  folder.write("val.txt", "images/a.png");
  for (const auto& [list, words] : std::map<std::string, std::vector<std::string>>{
           {"images/a.png\n\nimages/c.png\n", {"train.txt:3", "\"images/c.png\" does not exist", "remove the line"}},
           {"/far/images/a.png",
            {"train.txt:1", "\"/far/images/a.png\" does not exist", "from " + folder.path.string()}},
           {"images/c.png\nimages/a.png\nimages/d.png",
            {"train.txt:1", "\"images/c.png\" does not exist (2 of 3 pictures are missing); write"}},
           {std::string(5000, 'x') + ".png", {"train.txt:1", "xxx...\" does not exist"}},
           {"images/a.png\nimages/c.webp", {"train.txt:2", "\"images/c.webp\" is no picture"}},
           {"images/b.png", {"train.txt", "none of its pictures has a label file, such as", "labels/b.txt"}}}) {
    INFO(list);
    folder.write("train.txt", list);
    require_words(folder.error("train"), words);
  }
  write_jpeg(folder / "images/a.jpg", Image(8, 8, 90));
  folder.write("train.txt", "images/a.png\nimages/a.jpg");
  require_words(folder.error("train"), {"more than one picture is called a"});
  folder.write("train.txt", "images/a.png"), folder.write("labels/a.txt", "7 .5 .5 1 1");
  require_words(folder.error("train"), {"labels/a.txt:1", "class 7"});
}

TEST_CASE("YOLO: names of classes as people write them") {
  const YoloFolder folder;
  const std::vector<std::string> names{"dog", "it's a cat"};
  for (const char* yaml :
       {"names: [dog, \"it's a cat\"]", "names: ['dog',\"it's a cat\",] # two", "names: [dog,\n  it's a cat\n]",
        "names: {1: it's a cat, 0: dog}", "names:\n- dog\n- it's a cat\nroboflow:\n  - x",
        "nc: 2\nnames:\n\n  # two\n"
        "  1: \"it's a cat\"  # the second\n  0: dog\ntrain: x",
        "names:\n  0: dog\n  1: it's a cat", "names: ['dog', 'it''s a cat']"}) {
    INFO(yaml);
    folder.write("data.yaml", yaml);
    CHECK(folder.open().classes() == names);
  }
  for (const auto& [yaml, words] : std::map<std::string, std::vector<std::string>>{
           {"names: dog", {"data.yaml:1", "no list", "classes.txt"}},
           {"nc: 2\nnames: [dog,\ncat", {"data.yaml:2", "no list"}},
           {"names: {dog: 0}", {"data.yaml:1", "dog: 0", "no number"}},
           {"names: [dog, 'cat]", {"data.yaml:1", "'cat", "does not close"}},
           {"names: {0: dog, 1: \"cat, 2: cow}", {"data.yaml:1", "\"cat, 2: cow", "does not close"}},
           {"names:\n- dog\n- 'cat", {"data.yaml:3", "'cat", "does not close"}},
           {"names: {0: dog, 0: cat}", {"data.yaml:1", "two names have the number 0"}},
           {"names:\n  0: dog\n  2: cat", {"data.yaml:1", "no name for the number 1"}},
           {"names: [dog, dog]", {"data.yaml", "two classes are called \"dog\""}},
           {"names: [dog, '']", {"data.yaml", "class 1 has no name"}},
           {"names: [dog, c\xE4t]", {"data.yaml", "UTF-8"}},
           {"nc: 2", {"no names of classes", "classes.txt", "class 0 first"}}}) {
    INFO(yaml);
    folder.write("data.yaml", yaml);
    require_words(error_of(Code::data, [&] { folder.open(); }), words);
  }
  folder.write("data.yaml", "nc: 2"), folder.write("classes.txt", "dog\n\ncat\n");
  require_words(error_of(Code::data, [&] { folder.open(); }), {"classes.txt", "class 1 has no name"});
}

TEST_CASE("YOLO: broken label files are refused by line") {
  const YoloFolder folder;
  for (const auto& [labels, words] : std::map<std::string, std::vector<std::string>>{
           {"0 .5 .5 .1 .1\n2 .5 .5 .1 .1", {"a.txt:2", "class 2 is out of range", "0 to 1"}},
           {"-1 .5 .5 .1 .1", {"a.txt:1", "class -1"}},
           {"0.5 .5 .5 .1 .1", {"class 0.5"}},
           {"nan .5 .5 .1 .1", {"class nan"}},
           {"1e30 .5 .5 .1 .1", {"class 1e+30"}},
           {"dog .5 .5 .1 .1", {"\"dog\" is no number"}},
           {"0 0,5 .5 .1 .1", {"\"0,5\" is no number"}},
           {"0 .5 .5 .1", {"has 4 numbers"}},
           {"0 .5 .5 .1 .1 .9", {"has 6 numbers"}},
           {"0 .1 .1 .5 .5 .9 .9 .1", {"has 8 numbers"}},
           {"0 20 15 10 10", {"20 is no part of the picture", "were pixels written?"}},
           {"0 inf .5 .1 .1", {"no part of the picture"}},
           {"0 .5 nan .1 .1", {"a.txt:1", "is not finite"}},
           {"0 .1 .1 .5 nan .9 .9", {"a.txt:1", "is not finite"}},
           {"0 .1 .1 .5 .5 -inf .9", {"a.txt:1", "is not finite"}}}) {
    INFO(labels);
    require_words(folder.error(labels), words);
  }
  require_words(folder.error("0 0.1 0.5 0.4 0.2", "error"), {"a.txt:1", "box 1 of 1", "leaves the picture of 40 x 30"});
  CHECK(folder.open().annotation(0).boxes[0].x1 == 0);
  CHECK(folder.open().problems().clipped == 1);
  folder.write("labels/train/c.txt", "");
  require_words(error_of(Code::data, [&] { folder.open(); }), {"c.txt", "its picture is not in"});
  std::filesystem::remove(folder.path / "labels/train/c.txt");
  folder.write("images/train/c.webp", "a picture");
  require_words(error_of(Code::data, [&] { folder.open(); }), {"c.webp", "not read", "convert"});
  std::filesystem::remove(folder.path / "images/train/c.webp");
  folder.write("images/train/a.jpg", "another a");
  require_words(error_of(Code::data, [&] { folder.open(); }), {"more than one picture is called a", "rename one"});
}

TEST_CASE("a folder with COCO's or VOC's annotations beside the labels is read by those") {
  const YoloFolder folder;
  add_pictures(folder, "images");
  folder.write("annotations.json", good_coco);
  CHECK(open_dataset({.dir = folder.path.string()}).classes() == std::vector<std::string>{"cat", "dog"});
  CHECK(open_dataset({.dir = folder.path.string()}).class_ids() == std::vector<int64_t>{2, 9});
  const Folder voc;
  add_pictures(voc, "images"), voc.write("classes.txt", "dog"), voc.write("images/a.txt", "0 .5 .5 1 1");
  voc.write("Annotations/a.xml", "<annotation><size><width>40</width><height>30</height></size></annotation>");
  CHECK(find_splits(voc.path.string()).empty());
  const auto opened = [&] { open_dataset({.dir = voc.path.string()}); };
  require_words(error_of(Code::data, opened), {"has no classes"});  // the XML file has none
  CHECK(open_dataset({.dir = voc.path.string(), .format = "yolo"}).annotation(0).boxes.size() == 1);
}

TEST_CASE("YOLO labels and a COCO file of the same boxes are the same data set") {
  Dice dice(8);
  for (int round = 0; round < 20; ++round) {
    const YoloFolder folder;
    std::string labels, records;
    const auto n = dice.integer(0, 9);
    for (int64_t i = 0; i < n; ++i) {
      const double x = dice.uniform(-2, 38), y = dice.uniform(-2, 28), w = dice.uniform(0.5, 40),
                   h = dice.uniform(0.5, 30);
      const int64_t label = dice.integer(0, 1);
      labels += text(label, " ", shortest((x + w / 2) / 40), " ", shortest((y + h / 2) / 30), " ", shortest(w / 40),
                     " ", shortest(h / 30), "\n");
      records += text(i ? "," : "", R"({"image_id": 1, "id": )", i, R"(, "category_id": )", label + 1, R"(, "bbox": [)",
                      shortest(x), ",", shortest(y), ",", shortest(w), ",", shortest(h), "]}");
    }
    folder.write("labels/train/a.txt", labels);
    folder.write("coco.json", text(R"({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],)",
                                   R"("categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],)",
                                   R"("annotations": [)", records, "]}"));
    const Dataset ours = folder.open();
    const Dataset coco = open_dataset({.annotations = folder / "coco.json", .images = folder / "images/train"});
    REQUIRE(ours.size() == coco.size());
    CHECK(ours.classes() == coco.classes());
    CHECK(ours.problems().summary() == coco.problems().summary());
    for (int64_t i = 0; i < 2; ++i) {
      const Annotation &a = ours.annotation(i), &b = coco.annotation(i);
      CHECK(a.labels == b.labels);
      REQUIRE(a.boxes.size() == b.boxes.size());
      for (size_t k = 0; k < a.boxes.size(); ++k) {
        CHECK(a.boxes[k].x1 == Approx(b.boxes[k].x1).margin(1e-4));
        CHECK(a.boxes[k].y1 == Approx(b.boxes[k].y1).margin(1e-4));
        CHECK(a.boxes[k].x2 == Approx(b.boxes[k].x2).margin(1e-4));
        CHECK(a.boxes[k].y2 == Approx(b.boxes[k].y2).margin(1e-4));
      }
    }
  }
}
