// CSV data sets: their layouts, columns and quotes, the names of the classes, and broken files.
#include <array>
#include <map>
#include <set>

#include "core/random.h"
#include "core/words.h"
#include "data/shapes.h"
#include "tests/small_dataset.h"

using namespace fovea;
using namespace fovea::test;

namespace {

Dataset open(const Folder& folder, const std::string& split = "", const std::string& policy = "clip") {
  return open_dataset({.dir = folder.path.string(), .split = split, .policy = policy});
}
std::string error(const Folder& folder, const std::string& split = "", const std::string& format = "auto") {
  return error_of(Code::data, [&] { open_dataset({.dir = folder.path.string(), .format = format, .split = split}); });
}

// a.png of 40 x 30 and b.png of 20 x 10, with a file of boxes beside them.
struct CsvFolder : Folder {
  explicit CsvFolder(const std::string& csv, const std::string& name = "boxes.csv") {
    add_pictures(*this, ".");
    write(name, csv);
  }
};

void check_box(const Annotation& a, size_t i, float x1, float y1, float x2, float y2) {
  REQUIRE(a.boxes.size() > i);
  const Box<float>& b = a.boxes[i];
  CHECK((b.x1 == x1 && b.y1 == y1 && b.x2 == x2 && b.y2 == y2));
}

}  // namespace

TEST_CASE("CSV: corners in pixels, pictures without objects, and a file that is divided") {
  const CsvFolder folder("b.png,,,,,\na.png,1,2,11.5,22,dog\n./a.png,0,0,40,30,cat\n");
  write_png(folder / "c.png", Image(8, 8, 90));  // no line names it
  CHECK(find_splits(folder.path.string()).empty());
  const Dataset data = open(folder, "", "error");
  REQUIRE(data.size() == 2);
  CHECK(data.classes() == std::vector<std::string>{"cat", "dog"});
  CHECK(data.class_ids() == std::vector<int64_t>{1, 2});
  CHECK(data.annotation(0).id == 1);
  CHECK(data.annotation(0).labels == std::vector<int>{0, 1});  // both spellings of a.png, by name
  check_box(data.annotation(0), 1, 1, 2, 11.5, 22);
  CHECK(data.annotation(1).boxes.empty());
  CHECK(data.get(1).image.width == 20);
  const auto part = [&](const char* split) {
    return open_dataset({.dir = folder.path.string(), .split = split, .val_fraction = 0.5});
  };
  CHECK(part("train").size() == 1);
  CHECK(part("val").size() == 1);
  CHECK(part("train").annotation(0).path != part("val").annotation(0).path);
}

TEST_CASE("CSV: columns by name or by place, and separators") {
  for (const std::string csv : {
           "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,1,1,dog,1,2,11.5,22\nb.png,1,1,,,,,\n",
           "Class,YMax,XMax,YMin,XMin,Image_Path,confidence\ndog,22,11.5,2,1,a.png,0.5\n,,,,,b.png,\n",
           "image_id,x_min,y_min,x_max,y_max,label\na,1,2,11.5,22,dog\nb,,,,,\n",
           "path,x1,y1,x2,y2,class_name,x,y,w,h\na.png,1,2,11.5,22,dog,9,9,9,9\nb.png,,,,,,,,,\n",
           "image,category,x,y,w,h\na.png,dog,1,2,10.5,20\nb.png,,,,,\n",
           "file,name,x,y,width,height\na.png,dog,1,2,10.5,20\nb.png,,,,,\n",
           "image_name,label_name,bbox_x,bbox_y,bbox_width,bbox_height\na.png,dog,1,2,10.5,20\nb.png,,,,,\n",
           "image_id,width,height,bbox,label\na,40,30,\"[1, 2, 10.5, 20]\",dog\nb,20,10,[],\n",
           "image_id,width,height,bbox,label,x,y\na,40,30,\"[1, 2, 10.5, 20]\",dog,7,7\nb,20,10,,,7,7\n",
           "a.png,1,2,11.5,22,dog,40,30\nb.png,,,,,,20,10\n",
           "b.png,,,,,\na.png,1,2,11.5,22,dog\n",
           "a.png , +1, 2.0, 1.15e1, 22 , dog\n\n  \nb.png,,,,,",
           "\xEF\xBB\xBFimage,xmin,ymin,xmax,ymax,class\r\n\r\na.png,1,2,11.5,22,dog\r\nb.png,,,,,\r\n",
           "image,xmin,ymin,xmax,ymax,class\ra.png,1,2,11.5,22,dog\r\rb.png,,,,,\r",
           "\n\"a.png\",\"1\",\"2\",\"11.5\", \"22\" ,\"dog\"\r\n\"b.png\",\"\",\"\",\"\",\"\",\"\"",
           "image;xmin;ymin;xmax;ymax;class\na.png;1;2;11.5;22;dog\nb.png;;;;;\n",
           "a.png\t1\t2\t11.5\t22\tdog\nb.png\t\t\t\t\t\n",
       }) {
    INFO(csv);
    const Dataset data = open(CsvFolder(csv), "", "error");
    REQUIRE(data.size() == 2);
    CHECK(data.classes() == std::vector<std::string>{"dog"});
    REQUIRE(data.annotation(0).boxes.size() == 1);
    check_box(data.annotation(0), 0, 1, 2, 11.5, 22);
    CHECK(data.annotation(1).boxes.empty());
  }
  CHECK(open(CsvFolder("image,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n")).classes() == std::vector<std::string>{"object"});
}

TEST_CASE("CSV in the layouts that it comes in") {
  const std::string train = "a.png,1,2,11.5,22,dog\n", val = "b.png,1,2,3,4,cat\n";
  const auto check_splits = [](const Folder& folder, const std::string& second, const std::string& format = "auto") {
    CHECK(find_splits(folder.path.string(), format) == std::vector<std::string>{"train", second});
    const Dataset data = open(folder, "train"), other = open(folder, second);
    REQUIRE((data.size() == 1 && other.size() == 1));
    CHECK(data.classes() == std::vector<std::string>{"cat", "dog"});  // of both files
    CHECK(data.annotation(0).width == 40);
    check_box(data.annotation(0), 0, 1, 2, 11.5, 22);
    CHECK(other.annotation(0).width == 20);
    require_words(error_of(Code::usage, [&] { open(folder, "trian"); }), {"trian", "train, " + second});
  };
  for (const auto& [first, second] :
       std::map<std::string, std::string>{{"train.csv", "val.csv"},
                                          {"train_labels.csv", "val_labels.csv"},
                                          {"annotations-train.csv", "annotations-val.csv"},
                                          {"train_annots.CSV", "val.annotations.csv"},
                                          {"annotations.csv", "val_annotations.csv"}}) {
    INFO(first);
    for (const std::string images : {".", "images", "Images"})
      for (const std::string place : {"", "annotations/"}) {
        const Folder folder;
        add_pictures(folder, images);
        folder.write(place + first, train), folder.write(place + second, val);
        folder.write("scores.csv", "epoch,loss\n1,0.5\n");
        check_splits(folder, "val");
      }
  }
  for (const std::string pictures : {"", "images/"}) {
    const Folder folder;
    for (const std::string split : {"train", "valid"}) {
      add_pictures(folder, pictures + split);
      folder.write(split + ".csv", split == "train" ? train : val);
    }
    check_splits(folder, "valid");
  }
  for (const std::string pictures : {"", "/images"}) {
    const Folder folder;
    for (const std::string split : {"train", "valid"}) {
      add_pictures(folder, split + pictures);
      folder.write(split + "/_annotations.csv", split == "train" ? train : val);
      folder.write(split + "/_classes.csv", "cat,0\ndog,1\n");
    }
    folder.write("notes/old.csv", train);  // no folder of pictures
    check_splits(folder, "valid", "csv");
    folder.write("valid/_classes.csv", "dog,0\ncat,1\n");
    require_words(error(folder, "train"), {"valid/_classes.csv", "differs from", "train/_classes.csv"});
  }
}

TEST_CASE("CSV: a column says which split a line is of") {
  const std::string header = "Set,image,xmin,ymin,xmax,ymax,class\n";
  for (const auto& [first, second, name] : std::vector<std::array<std::string, 3>>{
           {"train", "val", "val"}, {"TRAIN", "Validation", "validation"}, {"training", "Testing", "test"}}) {
    const CsvFolder folder(header + first + ",a.png,1,2,11.5,22,dog\n" + second + ",b.png,1,2,3,4,cat\n" + first +
                           ",a.png,2,2,3,4,dog\n");
    INFO(first);
    CHECK((find_splits(folder.path.string()) == std::vector{name, std::string("train")}) == (name == "test"));
    const Dataset data = open(folder, "train"), other = open(folder, name);
    REQUIRE((data.size() == 1 && other.size() == 1));
    CHECK((data.annotation(0).width == 40 && other.annotation(0).width == 20));
    CHECK((data.annotation(0).boxes.size() == 2 && other.annotation(0).boxes.size() == 1));
    CHECK(data.classes() == std::vector<std::string>{"cat", "dog"});  // of all lines
    CHECK(other.classes() == data.classes());
  }
  // The only one that there is is not divided, and the name of a file goes before its columns.
  const std::string lines = "train,a.png,1,2,3,4,dog\nTrain,b.png,,,,,\n";
  CHECK(find_splits(CsvFolder(header + lines).path.string()) == std::vector<std::string>{"train"});
  CHECK(find_splits(CsvFolder(header + lines, "val.csv").path.string()).empty());
  CHECK(open(CsvFolder(header + lines + "test,c.png,1,2,3,4,dog\n"), "train").size() == 2);
  // Words that are no splits are of something else.
  CHECK(find_splits(CsvFolder(header + "3,a.png,1,2,3,4,dog\nwinter,b.png,,,,,\n").path.string()).empty());
  require_words(error(CsvFolder(header + lines + ",b.png,1,2,3,4,dog\n"), "train"),
                {"boxes.csv:4", "split \"\" is none of train"});
  require_words(error(CsvFolder(header + lines + "val,b.png,1,2,x,4,dog\n"), "train"), {"boxes.csv:4", "no number"});
  require_words(error(CsvFolder(header + lines + "val,\"b.png,1,2,x,4,dog\n"), "train"), {"boxes.csv:4", "closed"});
}

TEST_CASE("CSV: pictures that a path may mean") {
  const Folder elsewhere;
  add_pictures(elsewhere, "far");
  for (const std::string name :
       {"sub/a.png", "sub\\a.png", "sub/a", "in.2020", "turned.jpg", "/gone/turned.jpg", "C:\\gone\\turned.jpg"}) {
    INFO(name);
    const CsvFolder folder(name + ",1,2,3,4,dog\n");
    add_pictures(folder, "images/sub");
    write_png(folder / "images/in.2020.png", Image(40, 30, 90));
    write_jpeg(folder / "images/turned.jpg", Image(40, 30, 90));
    CHECK(open(folder).annotation(0).width == 40);
  }
  CHECK(open(CsvFolder(elsewhere / "far/b.png" + ",1,2,3,4,dog\n")).annotation(0).width == 20);
  require_words(error(CsvFolder("x/a.png,1,2,3,4,dog\ny/a.png,1,2,3,4,dog\n")),
                {"boxes.csv:2", "y/a.png", "may both be"});
  require_words(error(CsvFolder("a.png,1,2,3,4,dog\ny/a.png,1,2,3,4,dog\n")),
                {"boxes.csv:2", "y/a.png", "may both be"});
  const CsvFolder comma("\"a,b.png\",1,2,3,4,dog\na.png,,,,,\n");
  write_png(comma / "a,b.png", Image(8, 8, 90));
  CHECK(open(comma).size() == 2);
}

TEST_CASE("CSV: the names of the classes") {
  CHECK(open(CsvFolder("a.png,1,2,3,4,10\na.png,1,2,3,4,9\nb.png,1,2,3,4,1\n")).classes() ==
        std::vector<std::string>{"1", "9", "10"});
  const CsvFolder folder("a.png,1,2,3,4,dog\n", "train.csv");
  folder.write("val.csv", "b.png,1,2,3,4,dog\n");
  for (const char* classes : {"zebra,1\ndog,0\n", "class,id\r\n\"dog\",0\r\nzebra,1\r\n", "dog;0\nzebra;1"}) {
    folder.write("classes.csv", classes);
    CHECK(open(folder, "train").classes() == std::vector<std::string>{"dog", "zebra"});
    CHECK(open(folder, "val").annotation(0).labels == std::vector<int>{0});
  }
  for (const auto& [classes, words] : std::map<std::string, std::vector<std::string>>{
           {"cat,0\nfog,1\n", {"train.csv:1", "class \"dog\" is not in", "classes.csv", "did you mean 'fog'?"}},
           {"dog,0\ncat\n", {"classes.csv:2", "has 1 column", "name,number"}},
           {"dog,0\ncat,one\n", {"classes.csv:2", "\"one\" is no number of a class"}},
           {"0,dog\n1,cat\n", {"classes.csv:1", "\"dog\" is no number of a class"}},
           {"dog,0\n,1\n", {"classes.csv:2", "name is empty"}},
           {"dog,0\nc\xE4t,1\n", {"classes.csv:2", "not UTF-8"}},
           {"dog,0\ndog,1\n", {"classes.csv:2", "a second class is called \"dog\""}},
           {"dog,0\ncat,0\n", {"classes.csv:2", "a second class has the number 0"}},
           {"dog,1\ncat,2\n", {"classes.csv", "\"dog\" is number 1", "none is 0", "from 0"}},
           {"dog,0\ncat,2\n", {"classes.csv", "\"cat\" is number 2", "none is 1"}},
           {"", {"classes.csv", "has no classes"}}}) {
    INFO(classes);
    folder.write("classes.csv", classes);
    require_words(error(folder, "train"), words);
  }
  folder.write("classes.csv", "dog,0\n"), folder.write("val.csv", "\nb.png,,,,,\nb.png,1,2,3,4,god\n");
  require_words(error(folder, "val"), {"val.csv:3", "class \"god\" is not in", "did you mean 'dog'?"});
}

TEST_CASE("CSV: broken files are refused by line") {
  const std::string header = "image,xmin,ymin,xmax,ymax,class\n", good = "a.png,1,2,3,4,dog\n";
  for (const auto& [csv, words] : std::map<std::string, std::vector<std::string>>{
           {good + "a.png,1,2,3,4\n", {"boxes.csv:2", "has 5 columns, the first line has 6", "quotes"}},
           {header + "a,b.png,1,2,3,4,dog\n", {"boxes.csv:2", "has 7 columns"}},
           {header + "a.png,1,2,x,4,dog\n", {"boxes.csv:2", "xmax \"x\" is no number"}},
           {good + "a.png,1,,3,4,dog\n", {"boxes.csv:2", "y1 \"\" is no number", "leave all four empty"}},
           {"image;xmin;ymin;xmax;ymax;class\na.png;1,5;2;3;4;dog\n", {"boxes.csv:2", "xmin \"1,5\"", "12.5"}},
           {"image,bbox\na.png,\"[1, 2, 3]\"\n", {"boxes.csv:2", "bbox \"[1, 2, 3]\" is not four numbers"}},
           {"image,bbox\na.png,\"[1, 2, 3, w]\"\n", {"boxes.csv:2", "bbox \"w\" is no number"}},
           {good + ",1,2,3,4,dog\n", {"boxes.csv:2", "names no picture"}},
           {good + "a.png,1,2,3,4,\n", {"boxes.csv:2", "has no class"}},
           {good + "a.png,1,2,3,4,\"d\nog\"\n", {"boxes.csv:2", "line break"}},
           {good + "a.png,1,2,3,4,d\xE4g\n", {"boxes.csv:2", "not UTF-8"}},
           {good + "\n\"a.png,1,2,3,4,dog\n", {"boxes.csv:3", "never closed"}},
           {good + "a.png,1,2,3,4,\"dog\"gy\n", {"boxes.csv:2", "after its closing quote"}},
           {good + "\nc.png,1,2,3,4,dog\n", {"boxes.csv:3", "picture \"c.png\" is neither", "remove its lines"}},
           {good + "\nd.png,1,2,3,4,dog\nc.png,1,2,3,4,dog\n",
            {"boxes.csv:4", "\"c.png\"", "(2 of 3 pictures are missing)"}},
           {header + "b.png,,,,,\na.png,0,.1,0.9,1,dog\n", {"boxes.csv:3", "beyond 1", "pixels are wanted"}},
           {good + "a.png,nan,2,3,4,dog\n", {"boxes.csv:2", "is not finite"}},
           {header, {"boxes.csv", "holds no pictures"}},
           {"a.png,,,,,\n", {"boxes.csv", "has no classes"}}}) {
    INFO(csv);
    require_words(error(CsvFolder(csv)), words);
  }
  const CsvFolder folder(good + "a.png,9,2,3,4,dog\na.png,-5,2,3,4,cat\n");
  const Dataset data = open(folder);
  CHECK(data.problems().summary() == "1 box clipped, 1 box dropped");
  require_words(data.problems().messages[0], {"boxes.csv:2: box 2 of 3 [9, 2, 3, 4]", "a.png", "no area"});
  require_words(error_of(Code::data, [&] { open(folder, "", "error"); }), {"boxes.csv:2", "has no area"});
  folder.write("c.webp", "a picture"), folder.write("boxes.csv", "c.webp,1,2,3,4,dog\n");
  require_words(error(folder), {"boxes.csv:1", "c.webp", "not read", "convert"});
  const CsvFolder two(good, "train.csv");
  two.write("labels.csv", good);
  require_words(error(two, "train"), {"train.csv", "is split \"train\" as", "labels.csv", "rename or remove"});
}

TEST_CASE("a .csv file without boxes is no data set") {
  for (const auto& [csv, words] : std::map<std::string, std::vector<std::string>>{
           {"", {"train.csv", "is empty"}},
           {std::string("\xFF\xFEi\0d\0,\0", 8), {"train.csv", "is UTF-16", "as UTF-8"}},
           {"image_id,PredictionString\na,x\n", {"train.csv", "no columns of a box"}},
           {"xmin,ymin,xmax,ymax,class\n1,2,3,4,dog\n", {"train.csv", "no column of the picture"}},
           {"a.png,1,2,x,4,dog\n", {"train.csv", "x2 \"x\" is no number", "path,x1,y1,x2,y2,class"}},
           {"1,5.1,3.5,1.4,0.2,setosa\n", {"train.csv", "\"1\", which is no picture", "path,x1,y1,x2,y2,class"}},
           {"2026-01-31,,,,,\n", {"train.csv", "\"2026-01-31\", which is no picture"}},
           {",1,2,3,4,dog\n", {"train.csv", "\"\", which is no picture"}},
           {"a.png,640,480,3,20000,dog\n", {"train.csv", "x2 3 is below x1 640"}},
           {"a.png,1,,3,4,dog\n", {"train.csv", "y1 \"\" is no number"}},
           {"a.png,1,2,3,4,\n", {"train.csv", "a box without a class"}},
           {"a.png,1,2,3,4\n", {"train.csv", "has 5 columns", "path,x1,y1,x2,y2,class"}}}) {
    INFO(csv);
    const CsvFolder folder(csv, "train.csv");
    const std::string message = error(folder, "train");
    require_words(message, {"neither annotations.json", "Annotations/", "labels/", "a .csv file of boxes"});
    require_words(message, words);
    require_words(error(folder, "train", "csv"), words);
    folder.write("val.csv", "b.png,1,2,3,4,dog\n");  // a split that was meant is not taken for a stranger
    require_words(error(folder, "train"), words);
  }
  const Folder empty;
  require_words(error(empty, "", "csv"), {"no .csv file of boxes"});
  const CsvFolder folder("b.png,1,2,3,4,dog\n");
  require_words(error(folder, "", "coco"), {"no annotations.json", "--format csv"});
  folder.write("a.txt", "0 .5 .5 1 1"), folder.write("classes.txt", "cat");
  CHECK(open(folder).classes() == std::vector<std::string>{"cat"});  // YOLO's labels beside it are read
  folder.write("annotations.json", good_coco);
  CHECK(open(folder).class_ids() == std::vector<int64_t>{2, 9});
}

TEST_CASE("CSV: fields of any characters come through their quotes, and lines are counted across them") {
  Dice dice(11);
  const auto word = [&](int64_t kinds) {
    static const char* const letters[] = {"a", "b", "\"", ",", ";", " ", "\t", "\xC3\xA9", "\n", "\r\n"};
    std::string s;
    for (int64_t n = dice.integer(0, 9); n > 0; --n) s += letters[dice.integer(0, kinds - 1)];
    return s;
  };
  const auto field = [&](const std::string& s) {  // in quotes where it must be, or by chance
    if (s.find_first_of("\",;\t\r\n ") == s.npos && dice.uniform(0, 1) < 0.5) return s;
    std::string all;
    for (const char c : s) all += c == '"' ? "\"\"" : std::string(1, c);
    return "\"" + all + "\"";
  };
  for (int round = 0; round < 40; ++round) {
    std::string csv = "note,image,xmin,ymin,xmax,ymax,class\n";
    std::vector<std::string> labels, lines;
    for (int64_t n = dice.integer(1, 20); n > 0; --n) {
      labels.push_back(word(8) + "x" + word(8));
      lines.push_back(text("boxes.csv:", 1 + std::count(csv.begin(), csv.end(), '\n'), ": box ", labels.size(), " "));
      csv += field(word(10)) + ",a.png,-9,2,3,4," + field(labels.back()) + "\r\n";
    }
    INFO(csv);
    const Dataset data = open(CsvFolder(csv));
    CHECK(data.classes().size() == std::set<std::string>(labels.begin(), labels.end()).size());
    REQUIRE(data.annotation(0).labels.size() == labels.size());
    REQUIRE(data.problems().messages.size() == labels.size());  // each box leaves the picture
    for (size_t i = 0; i < labels.size(); ++i) {
      CHECK(data.classes()[size_t(data.annotation(0).labels[i])] == labels[i]);
      CHECK(data.problems().messages[i].find(lines[i]) != std::string::npos);
    }
  }
}

TEST_CASE("a CSV file of the boxes of made shapes is the same data set") {
  const Folder folder;
  make_shapes(folder / "shapes", {.train = 8, .val = 4, .size = 64, .classes = 3, .empty = 0.3, .seed = 5});
  std::map<std::string, Dataset> coco;
  for (const std::string split : {"train", "val"}) {
    const Dataset data = open_dataset({.dir = folder / "shapes", .split = split});
    std::string csv = "class,filename,xmin,ymin,xmax,ymax\n";
    for (int64_t i = 0; i < data.size(); ++i) {
      const Annotation& a = data.annotation(i);
      if (a.truths.empty()) csv += "," + a.path + ",,,,\n";
      for (const CocoGroundTruth& truth : a.truths) {
        const CocoBox& box = truth.box;
        csv += data.classes()[size_t(truth.category - data.class_ids()[0])] + "," + a.path;
        for (const double side : {box.x, box.y, box.x + box.w, box.y + box.h}) csv += "," + shortest(side);
        csv += "\n";
      }
    }
    folder.write(split + "_labels.csv", csv);
    coco.emplace(split, data);
  }
  std::string classes;
  for (size_t k = 0; k < 3; ++k) classes += text(coco.at("val").classes()[k], ",", k, "\n");
  folder.write("classes.csv", classes);
  for (const auto& [split, theirs] : coco) {
    const Dataset ours = open_dataset({.dir = folder.path.string(), .format = "csv", .split = split});
    CHECK(ours.classes() == theirs.classes());
    REQUIRE(ours.size() == theirs.size());
    for (int64_t i = 0; i < ours.size(); ++i) {
      const Sample a = ours.get(i), b = theirs.get(i);
      CHECK((a.path == b.path && a.image == b.image && a.labels == b.labels));
      REQUIRE(a.boxes.size() == b.boxes.size());
      for (size_t k = 0; k < a.boxes.size(); ++k) CHECK(iou(a.boxes[k], b.boxes[k]) > 0.9999f);
    }
  }
}
