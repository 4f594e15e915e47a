// PASCAL VOC data sets: their layouts and split files, where pixels are counted from, and broken files.
#include "data/dataset.h"

#include <cstdlib>
#include <sstream>

#include "tests/small_dataset.h"
#include "tests/spoken.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

std::string object(const std::string& name, const std::string& box, const std::string& difficult = "0") {
  std::string s = "<object><name>" + name + "</name><difficult>" + difficult + "</difficult><bndbox>";
  std::istringstream numbers(box);
  for (const char* side : {"xmin", "ymin", "xmax", "ymax"}) {
    std::string v;
    numbers >> v;
    s += std::string("<") + side + ">" + v + "</" + side + ">";
  }
  return s + "</bndbox></object>\n";
}
std::string voc(const std::string& objects, int width = 40, int height = 30) {
  return text("<annotation>\n<filename>a.png</filename>\n<size><width>", width, "</width><height>", height,
              "</height><depth>3</depth></size>\n", objects, "</annotation>\n");
}

struct VocFolder : Folder {
  VocFolder() {
    add_pictures(*this, "JPEGImages");
    write("Annotations/a.xml", voc(object("dog", "2 3 11 30") + object("cat", "1 1 40 30", "1")));
    write("Annotations/b.xml", voc("", 20, 10));
    write("ImageSets/Main/train.txt", std::string("a\n"));
    write("ImageSets/Main/val.txt", std::string("b 1\n\n"));
    write("ImageSets/Main/dog_train.txt", std::string("a -1\n"));
  }
  std::string error(const std::string& xml, const std::string& policy = "clip") const {
    write("Annotations/a.xml", xml);
    return error_of(Code::data, [&] { open_dataset({.dir = path.string(), .split = "train", .policy = policy}); });
  }
};

}  // namespace

TEST_CASE("VOC: splits, difficult objects, pixels from 1") {
  const VocFolder folder;
  const std::string dir = folder.path.string();
  CHECK(find_splits(dir) == std::vector<std::string>{"train", "val"});
  const Dataset data = open_dataset({.dir = dir, .split = "train"});
  REQUIRE(data.size() == 1);
  CHECK(data.classes() == std::vector<std::string>{"cat", "dog"});
  CHECK(data.annotation(0).id == 1);
  const Sample sample = data.get(0);
  REQUIRE(sample.boxes.size() == 1);
  CHECK(sample.boxes[0].x1 == 1);
  CHECK(sample.boxes[0].y1 == 2);
  CHECK(sample.boxes[0].x2 == 11);
  CHECK(sample.boxes[0].y2 == 30);
  CHECK(sample.labels == std::vector<int>{1});
  CHECK(sample.ignore.size() == 1);
  CHECK(open_dataset({.dir = dir, .split = "val"}).annotation(0).boxes.empty());
  CHECK(open_dataset({.dir = dir}).size() == 2);
  require_words(error_of(Code::usage, [&] { open_dataset({.dir = dir, .split = "trian"}); }), {"trian", "train, val"});
  for (const auto& [mark, difficult] : {std::pair("True", true), {"\n 1", true}, {"False", false}, {"", false}}) {
    folder.write("Annotations/a.xml", voc(object("dog", "2 3 11 30", mark)));
    CHECK(open_dataset({.dir = dir, .split = "train"}).get(0).ignore.size() == size_t(difficult));
  }
  folder.write("Annotations/b.xml", voc(object("dog", "-3 3 11.5 10"), 20, 10));  // outside: says nothing
  CHECK(open_dataset({.dir = dir, .split = "train"}).annotation(0).boxes[0].x1 == 1);
  for (const char* zero : {"3 0 11.5 10", "0 3 11.5 10"}) {  // edges, counted from 0
    folder.write("Annotations/b.xml", voc(object("dog", zero), 20, 10));
    CHECK(open_dataset({.dir = dir, .split = "train"}).annotation(0).boxes[0].x1 == 2);
  }
  CHECK(open_dataset({.dir = dir, .split = "val"}).annotation(0).boxes[0].x2 == 11.5f);
}

TEST_CASE("VOC: split files as people write them") {
  const VocFolder folder;
  const std::string dir = folder.path.string();
  for (const char* name : {"my cat (1)", "run 1", "night 0 1"}) {
    folder.write(text("Annotations/", name, ".xml"), voc(object("dog", "2 3 11 30")));
    write_png(folder / text("JPEGImages/", name, ".png"), Image(40, 30, 90));
  }
  folder.write("ImageSets/Main/val.txt", std::string("\xEF\xBB\xBF"
                                                     "b\r\n\r\nb 0\r\nmy cat (1)\r\nrun 1 -1\r\nnight 0 1\r\n"));
  folder.write("ImageSets/Main/val_small.TXT", std::string("run 1\n"));
  CHECK(find_splits(dir) == std::vector<std::string>{"train", "val", "val_small"});  // dog_train is of one class
  CHECK(open_dataset({.dir = dir, .split = "val"}).size() == 4);
  CHECK(open_dataset({.dir = dir, .split = "val_small"}).annotation(0).path == folder / "JPEGImages/run 1.png");
  folder.write("ImageSets/Main/val.txt", std::string("b\ncow 1\n"));
  require_words(error_of(Code::data, [&] { open_dataset({.dir = dir, .split = "val"}); }), {"val.txt:2", "\"cow 1\""});
}

TEST_CASE("VOC in the layouts that it comes in") {
  const Folder folder;
  const std::string dir = folder.path.string();
  add_pictures(folder, "IMAGES");
  folder.write("annotations/a.xml", voc(object("dog", "2 3 11 30")));
  folder.write("annotations/b.XML", voc("", 20, 10));
  const Dataset data = open_dataset({.dir = dir, .format = "voc"});
  CHECK(data.size() == 2);
  const auto as_coco = [&] { open_dataset({.dir = dir, .format = "coco"}); };
  require_words(error_of(Code::data, as_coco), {"it is a PASCAL VOC folder", "--format voc"});
  CHECK(open_dataset({.dir = dir, .split = "train", .val_fraction = 0}).size() == 2);
  // A mask beside the picture: the XML file's <filename> decides, whatever the order of the folder.
  for (const char* mask : {"IMAGES/a.bmp", "IMAGES/a.jpg", "IMAGES/a.pgm"}) folder.write(mask, "a mask");
  CHECK(open_dataset({.dir = dir}).annotation(0).path == folder / "IMAGES/a.png");
  folder.write("annotations/a.xml", replaced(voc(""), "a.png", "photo.png"));
  require_words(error_of(Code::data, [&] { open_dataset({.dir = dir}); }), {"a.xml", "more than one", "<filename>"});
  const Folder folders;
  for (const char* split : {"test", "train"}) {
    add_pictures(folders, split);
    folders.write(split + std::string("/a.xml"), voc(object(split, "2 3 11 30")));
  }
  CHECK(find_splits(folders.path.string()) == std::vector<std::string>{"test", "train"});
  const Dataset part = open_dataset({.dir = folders.path.string(), .split = "train"});
  CHECK(part.size() == 1);
  CHECK(part.classes() == std::vector<std::string>{"test", "train"});  // the same in every split
  CHECK(part.annotation(0).labels == std::vector<int>{1});
}

TEST_CASE("VOC: of a folder of whole ones, one is to be named") {
  const VocFolder folder;
  fs::create_directories(folder.path / "VOC2007");
  for (const char* part : {"Annotations", "ImageSets", "JPEGImages"})
    fs::rename(folder.path / part, folder.path / "VOC2007" / part);
  require_words(error_of(Code::data, [&] { open_dataset({.dir = folder.path.string(), .split = "train"}); }),
                {"whole VOC folders", folder / "VOC2007"});
  CHECK(open_dataset({.dir = folder / "VOC2007", .split = "train"}).size() > 0);
}

TEST_CASE("hidden files are neither annotations nor a reason to take a folder for VOC") {
  const Folder folder;
  fs::create_directories(folder.path / ".idea");
  folder.write(".idea/misc.xml", "<project/>");
  fs::create_directories(folder.path / "__MACOSX");
  folder.write("__MACOSX/._a.xml", std::string("\0\5\26\7", 4));
  add_pictures(folder, "images");
  folder.write("annotations.json", good_coco);
  CHECK(find_splits(folder.path.string()).empty());
  CHECK(open_dataset({.dir = folder.path.string()}).classes() == std::vector<std::string>{"cat", "dog"});
  fs::remove(folder.path / "annotations.json");
  fs::create_directories(folder.path / "annotations");
  folder.write("annotations/a.xml", voc(object("hen", "1 1 10 10")));
  folder.write("annotations/._a.xml", std::string("\0\5\26\7", 4));
  CHECK(open_dataset({.dir = folder.path.string()}).size() == 1);
  fs::create_directories(folder.path / "ImageSets");
  for (const char* list : {"ImageSets/train.txt", "ImageSets/._train.txt"}) folder.write(list, "a\n");
  CHECK(find_splits(folder.path.string()) == std::vector<std::string>{"train"});
}

TEST_CASE("VOC files that are broken are refused in one line, with the line") {
  const VocFolder folder;
  const std::string good = voc(object("dog", "2 3 11 30") + object("cat", "1 1 40 30"));
  require_words(folder.error(good.substr(0, 120)), {"a.xml:", "not valid XML"});
  const std::string size = "<size><width>40</width><height>30</height><depth>3</depth></size>";
  for (const std::string& none : {std::string(), replaced(replaced(size, "40", "0"), "30", "0")}) {
    CHECK(folder.error(replaced(good, size, none)).empty());  // then the picture says it
    CHECK(open_dataset({.dir = folder.path.string(), .split = "train"}).get(0).image.width == 40);
  }
  require_words(folder.error(replaced(good, "<width>40</width>", "<width>0</width>")), {"a.xml:3", "0 x 30"});
  require_words(folder.error(replaced(good, "<xmin>1</xmin>", "<xmin>left</xmin>")), {"a.xml:5", "\"cat\"", "left"});
  require_words(folder.error(replaced(good, "<xmin>1</xmin>", "<xmin>1,5</xmin>")), {"a.xml:5", "\"cat\"", "1,5"});
  {
    const Spoken german;
    CHECK(folder.error(replaced(good, "<xmin>1</xmin>", "<xmin> +1.5\n </xmin>")).empty());
  }
  require_words(folder.error(replaced(good, "<name>cat</name>", "")), {"a.xml:5", "no <name>"});
  require_words(folder.error(replaced(good, "cat", "c\nat")), {"a.xml:5", "line break"});
  require_words(folder.error(replaced(good, "cat", " \n ")), {"a.xml:5", "no <name>"});
  folder.write("Annotations/a.xml", replaced(good, "cat", "\n  dog "));
  CHECK(open_dataset({.dir = folder.path.string()}).classes() == std::vector<std::string>{"dog"});
  const std::string latin = replaced(good, "cat", "caf\xe9");
  require_words(folder.error(latin), {"a.xml:5", "not UTF-8", "save the file as UTF-8"});
  CHECK(folder.error("<?xml version='1.0' encoding='iso-8859-1'?>" + latin).empty());
  CHECK(folder.error(replaced(good, "cat", "caf\xc3\xa9")).empty());
  require_words(folder.error(replaced(good, "<xmin>1</xmin>", "<xmin>nan</xmin>")),
                {"a.xml:5: box 2 of 2", "a.png", "not finite"});
  require_words(folder.error("<html></html>"), {"no <annotation>"});
  require_words(folder.error(replaced(good, "<xmax>11</xmax>", "<xmax>2</xmax>"), "error"),
                {"a.xml:4: box 1 of 2 [1, 2, 1, 30]", "a.png", "no area"});
  require_words(folder.error(replaced(good, "<ymax>30</ymax>", "<ymax>1</ymax>"), "error"),
                {"a.xml:4: box 1 of 2 [1, 2, 11, 1]", "a.png", "no area"});
  folder.write("Annotations/a.xml", replaced(good, "<width>40</width>", "<width>41</width>"));
  const Dataset data = open_dataset({.dir = folder.path.string(), .split = "train"});
  require_words(error_of(Code::data, [&] { data.get(0); }), {"a.png", "is 40 x 30", "say 41 x 30"});
  folder.write("Annotations/a.xml", replaced(good, "<height>30</height>", "<height>31</height>"));
  const Dataset taller = open_dataset({.dir = folder.path.string(), .split = "train"});
  require_words(error_of(Code::data, [&] { taller.get(0); }), {"say 40 x 31"});
  folder.write("ImageSets/Main/train.txt", std::string("a\nzebra\n"));
  require_words(folder.error(good), {"train.txt:2", "zebra"});
  folder.write("ImageSets/Main/train.txt", std::string("a\n"));
  fs::remove(folder.path / "JPEGImages/a.png");
  require_words(folder.error(good), {"a.xml", "(a.jpg or \"a.png\") does not exist; is the folder"});
  fs::remove(folder.path / "JPEGImages/b.png");
  folder.write("ImageSets/Main/train.txt", std::string("a\nb\n"));
  require_words(folder.error(good), {"a.xml", "does not exist (2 of 2 pictures are missing)"});
}

TEST_CASE("the blood cells open as they are") {
  const char* shared = std::getenv("FOVEA_SHARED");
  const fs::path dir = (shared ? fs::path(shared) : fs::path(FOVEA_SOURCE_DIR) / ".." / "shared") / "data/bccd";
  if (!fs::exists(dir)) {
    WARN("no " + dir.string() + ": skipped");
    return;
  }
  int64_t pictures = 0, boxes = 0, dropped = 0;
  for (const char* split : {"train", "val", "test"}) {
    const Dataset data = open_dataset({.dir = dir.string(), .split = split});
    CHECK(data.classes() == std::vector<std::string>{"Platelets", "RBC", "WBC"});
    pictures += data.size(), dropped += data.problems().dropped;
    for (int64_t i = 0; i < data.size(); ++i) boxes += int64_t(data.annotation(i).boxes.size());
    CHECK_NOTHROW(data.get(0));
  }
  CHECK(pictures == 364);
  CHECK(boxes == 4886);
  CHECK(dropped == 2);
}
