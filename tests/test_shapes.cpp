// The made data set, drawing and plots: the same bytes for the same seed, true boxes, nothing outside the picture.
#include "data/shapes.h"

#include <cmath>
#include <map>
#include <set>

#include "core/threads.h"
#include "data/plot.h"
#include "tests/files.h"

using namespace fovea;
using namespace fovea::test;

namespace {

std::map<std::string, std::vector<uint8_t>> contents(const std::filesystem::path& dir) {
  std::map<std::string, std::vector<uint8_t>> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), dir).string()] = read_bytes(entry.path().string());
  return files;
}

}  // namespace

TEST_CASE("the same seed makes the same bytes on any number of threads") {
  const Folder folder;
  const ShapesOptions options{.train = 9, .val = 3, .size = 64};
  const ThreadCount restored(1);
  make_shapes(folder / "one", options);
  set_num_threads(3);
  make_shapes(folder / "three", options);
  const auto one = contents(folder / "one");
  CHECK(one.size() == 14);
  CHECK(one == contents(folder / "three"));
  ShapesOptions other = options;
  other.seed = 2;
  make_shapes(folder / "other", other);
  CHECK(contents(folder / "other") != one);
  const std::string refusal = test::error_of(Code::usage, [&] { make_shapes(folder / "one", other); });
  test::require_words(refusal, {"one/train", "exists already"});
  CHECK(contents(folder / "one") == one);
  CHECK_THROWS_AS(make_shapes(folder / "x", {.classes = 9}), Error);
  const auto vast = [&] { make_shapes(folder / "x", {.imbalance = 1e9}); };
  test::require_words(test::error_of(Code::usage, vast), {"imbalance of 1e+09", "1000000"});
  make_shapes(folder / "train-only", {.train = 2, .val = 0, .size = 64});
  CHECK(find_splits(folder / "train-only") == std::vector<std::string>{"train"});  // so training knows of no other
}

TEST_CASE("scenes: sizes, classes, empty pictures, imbalance, and boxes in the picture") {
  ShapesOptions o{.size = 96, .classes = 8, .imbalance = 16};
  std::vector<int> labels(8);
  int empty = 0, objects = 0;
  double least = 1e9, most = 0;
  for (uint64_t i = 0; i < 500; ++i) {
    const Sample s = make_scene(o, 0, i);
    empty += s.boxes.empty();
    for (size_t b = 0; b < s.boxes.size(); ++b) {
      const Box<float>& box = s.boxes[b];
      REQUIRE((box.x1 >= 0 && box.y1 >= 0 && box.x2 <= s.image.width && box.y2 <= s.image.height && box.area() > 0));
      labels[size_t(s.labels[b])]++, ++objects;
      least = std::min(least, std::sqrt(double(box.area()))), most = std::max(most, std::sqrt(double(box.area())));
    }
  }
  CHECK(empty > 8);
  CHECK(empty < 60);
  CHECK(objects > 1000);
  CHECK(most / least > 4);                                              // two octaves
  CHECK(std::abs(std::log2(double(labels[0]) / labels[7]) - 4) < 0.8);  // 16 = 2^4
  for (int n : labels) CHECK(n > 0);
}

TEST_CASE("splits have scenes of their own, with boxes in hundredths of pixels") {
  const Sample train = make_scene({.size = 64, .empty = 0}, 0, 3), val = make_scene({.size = 64, .empty = 0}, 1, 3);
  CHECK_FALSE(train.image == val.image);
  for (const Box<float>& b : train.boxes)
    for (const float side : {b.x1, b.y1, b.x2, b.y2}) CHECK(std::abs(side * 100 - std::round(side * 100)) < 1e-3f);
}

TEST_CASE("shapes overlap little, and those that are hidden too far leave") {
  int objects[2] = {};
  for (const bool strict : {false, true}) {
    const ShapesOptions o{.size = 96, .empty = 0, .max_objects = 12, .hidden = strict ? 0.1 : 1};
    for (uint64_t i = 0; i < 60; ++i) {
      const Sample s = make_scene(o, 0, i);
      objects[strict] += int(s.boxes.size());
      const auto inside = [&](const Box<float>& b) {  // cut boxes may overlap by more
        return b.x1 > 0 && b.y1 > 0 && b.x2 < float(s.image.width) && b.y2 < float(s.image.height);
      };
      for (size_t a = 0; a < s.boxes.size(); ++a)
        for (size_t b = 0; b < a; ++b)
          if (inside(s.boxes[a]) && inside(s.boxes[b])) CHECK(iou(s.boxes[a], s.boxes[b]) < 0.36f);
    }
  }
  CHECK(objects[true] > 60);
  CHECK(objects[true] < 0.9 * objects[false]);
}

TEST_CASE("a box is tight around its shape") {
  ShapesOptions o{.size = 128, .classes = 1, .empty = 0, .max_objects = 1};
  std::vector<double> errors;
  for (uint64_t i = 0; i < 60; ++i) {
    const Sample s = make_scene(o, 0, i);
    REQUIRE(s.boxes.size() == 1);
    const Box<float> b = s.boxes[0];
    if (b.x1 < 2 || b.x2 > s.image.width - 2 || b.width() < 30) continue;
    // Along the middle row of a circle: the largest step near its left edge.
    const int y = int((b.y1 + b.y2) / 2);
    int best = 0, where = 0;
    for (int x = std::max(1, int(b.x1) - 6); x < int(b.x1) + 7; ++x) {
      int step = 0;
      for (int c = 0; c < 3; ++c) step += std::abs(int(s.image.at(x, y)[c]) - int(s.image.at(x - 1, y)[c]));
      if (step > best) best = step, where = x;
    }
    errors.push_back(std::abs(where - double(b.x1)));
  }
  REQUIRE(errors.size() > 10);
  std::nth_element(errors.begin(), errors.begin() + std::ptrdiff_t(errors.size() / 2), errors.end());
  CHECK(errors[errors.size() / 2] <= 1.0);
}

TEST_CASE("drawing covers what it says, and stays inside the picture") {
  Image image(40, 30);
  draw_box(image, {10, 10, 20, 20}, {255, 0, 0}, 2);
  CHECK(image.at(10, 15)[0] == 255);
  CHECK(image.at(9, 15)[0] == 255);
  CHECK(image.at(8, 15)[0] == 0);
  CHECK(image.at(15, 15)[0] == 0);
  fill_box(image, {30.25f, 5, 31, 6}, {0, 200, 0});
  CHECK(image.at(30, 5)[1] == 150);
  Image line(40, 40);  // the ink of an anti-aliased line is its area
  draw_line(line, 5, 7, 33, 28, {255, 255, 255}, 2);
  double ink = 0;
  for (size_t i = 0; i < line.rgb.size(); i += 3) ink += line.rgb[i] / 255.0;
  CHECK(ink == Approx(35 * 2 + 3.14159).epsilon(0.05));
  for (const Box<float>& wild :
       {Box<float>{-50, -50, 500, 500}, Box<float>{-1e9f, 5, 1e9f, 6}, Box<float>{39, 29, 40, 30}}) {
    draw_label(image, wild, "a label that is longer than the picture", class_colour(3), 2);
    draw_ignore(image, wild);
  }
  const float inf = INFINITY;
  for (const float wild : {1e30f, -1e30f, inf, -inf, NAN})
    for (int side = 0; side < 4; ++side) {
      float at[] = {5, 5, 20, 20};
      at[side] = wild;
      const Box<float> box{at[0], at[1], at[2], at[3]};
      Image fresh(40, 30, 128);
      fill_box(fresh, box, class_colour(1)), draw_box(fresh, box, class_colour(1));
      if (std::isnan(wild)) CHECK(fresh == Image(40, 30, 128));
      draw_label(fresh, box, "8", class_colour(3)), draw_ignore(fresh, box);
      draw_line(fresh, box.x1, box.y1, box.x2, box.y2, class_colour(2)), draw_disc(fresh, wild, 5, 3, class_colour(2));
    }
  Image whole(40, 30);
  fill_box(whole, {-inf, -1e30f, inf, 1e30f}, {9, 9, 9});
  CHECK(whole == Image(40, 30, 9));
  draw_text(image, 35, 25, "\xC3\xA9 x", {9, 9, 9});
  Image along(12, 12), up(12, 12);
  draw_text(along, 0, 0, "F4", {9, 9, 9}), draw_text_up(up, 0, 0, "F4", {9, 9, 9});
  int turned = 0;
  for (int y = 0; y < 12; ++y)
    for (int x = 0; x < 12; ++x) turned += along.at(x, y)[0] == up.at(y, 11 - x)[0];
  CHECK(turned == 144);
  Image light(60, 40, 128), dark(60, 40, 128);  // a label's ink stands out from its ground
  draw_label(light, {5, 25, 50, 38}, "8", {250, 250, 0}, 1), draw_label(dark, {5, 25, 50, 38}, "8", {40, 0, 60}, 1);
  const auto has = [](const Image& picture, int r, int g, int b) {
    for (size_t i = 0; i < picture.rgb.size(); i += 3)
      if (picture.rgb[i] == r && picture.rgb[i + 1] == g && picture.rgb[i + 2] == b) return true;
    return false;
  };
  CHECK((has(light, 16, 16, 20) && !has(light, 255, 255, 255)));
  CHECK((has(dark, 255, 255, 255) && !has(dark, 16, 16, 20)));
  const Image page = tile({Image(64, 32, 200), Image(10, 90, 90), Image()}, {"one", "two"}, {.columns = 2, .cell = 50});
  CHECK(page.width == 2 * 58 + 8);
}

TEST_CASE("text is drawn of ASCII and of Latin letters without their marks, one cell a character") {
  CHECK(text_width("abc", 2) == 36);
  CHECK(text_width("\xC3\xA9 \xE7\x8C\xAB") == 18);  // a sign for each character, not for each byte
  const auto drawn = [](const std::string& text) {
    Image page(60, 10);
    return draw_text(page, 0, 0, text, {9, 9, 9}), page;
  };
  CHECK(drawn("\xE7\x8C\xABx") == drawn("\x7Fx"));                        // a box
  CHECK(drawn("S\xC3\xBC\xC3\x9F \xC3\x80\xC3\xBF") == drawn("Sus Ay"));  // the first and the last of each list
  CHECK(drawn("\xC4\x80\xC4\xBF\xC5\x82\xC3\xB3\xC5\xBC\xC5\xBF") == drawn("ALlozs"));
  CHECK(drawn("\xC2\xB5\xC6\x80\xC3") == drawn("\x7F\x7F\x7F"));  // beside them, and half a letter
}

TEST_CASE("labels stay in the picture, dashes have gaps, and classes have colours of their own") {
  const auto ink = [](const Box<float>& box) {  // of the digits
    Image image(80, 60, 128);
    draw_label(image, box, "888", {250, 250, 0}, 1);
    int dots = 0;
    for (size_t i = 0; i < image.rgb.size(); i += 3) dots += image.rgb[i] == 16 && image.rgb[i + 2] == 20;
    return dots;
  };
  const int all = ink({20, 30, 60, 50});
  CHECK(all > 20);
  CHECK(ink({70, 30, 79, 50}) == all);  // at the right edge, at the top
  CHECK(ink({20, 0, 60, 50}) == all);
  Image dashed(80, 60);
  draw_ignore(dashed, {8, 20, 72, 50});
  int drawn = 0;
  for (int x = 10; x < 70; ++x) drawn += dashed.at(x, 20)[0] > 100;
  CHECK((drawn > 24 && drawn < 46));
  std::set<std::vector<int>> colours;
  for (int label = 0; label < 24; ++label) {
    const Colour c = class_colour(label);
    colours.insert({c.r, c.g, c.b});
  }
  CHECK(colours.size() == 24);
}

TEST_CASE("a label ends before one below it goes on, and is as large as its picture asks for") {
  Image image(120, 40, 128);
  draw_label(image, {20, 30, 90, 38}, "0.4466", {250, 250, 0});
  draw_label(image, {5, 30, 60, 38}, "0.44", {250, 250, 0});
  int ink = 0;  // the darkest column between the two
  for (int x = 20; x < 60; ++x) {
    int rows = 0;
    for (int y = 0; y < 30; ++y) rows += image.at(x, y)[0] == 16;
    ink = std::max(ink, rows);
  }
  CHECK(ink == text_height() + 2);
  CHECK((label_scale(Image(1, 1)) == 1 && label_scale(Image(640, 1000)) == 1 && label_scale(Image(4000, 30)) == 5));
}

TEST_CASE("a light box with an edge is seen on any ground") {
  for (const int ground : {0, 128, 245, 255}) {
    Image image(40, 40, static_cast<uint8_t>(ground));
    draw_edged_box(image, {10.3f, 10, 30, 30}, {245, 245, 245}, 2);
    int most = 0;  // of the column that crosses its upper side
    for (int y = 0; y < 20; ++y) most = std::max(most, std::abs(image.at(20, y)[0] - ground));
    INFO(ground);
    CHECK(most > 100);
  }
}

TEST_CASE("pages of pictures: in the middle of their cells, captions that fit, ink that stands out") {
  const TileOptions o{.columns = 1, .cell = 50};
  const Image page = tile({Image(10, 50, 255)}, {"abcdefghijklm"}, o);
  CHECK((page.at(8 + 19, 30)[0] == 24 && page.at(8 + 20, 30)[0] == 255));
  CHECK((page.at(8 + 29, 30)[0] == 255 && page.at(8 + 30, 30)[0] == 24));
  CHECK(page == tile({Image(10, 50, 255)}, {"abcdef.."}, o));
  const auto brightest = [](const Image& image) { return *std::max_element(image.rgb.begin(), image.rgb.end()); };
  CHECK(brightest(tile({Image(50, 50)}, {"x"}, o)) > 200);
}

TEST_CASE("curves rise upwards between their limits, faint ones are pale, and the legend avoids them") {
  const Colour red{255, 0, 0};
  const auto rows = [](const Image& plot, int x) {  // where a column is red: the first and the last row
    std::pair<int, int> found{-1, -1};
    for (int y = 0; y < plot.height; ++y)
      if (const uint8_t* p = plot.at(x, y); p[0] > 200 && p[1] < 120) found = {found.first < 0 ? y : found.first, y};
    return found;
  };
  const Series rising{.name = "r", .x = {0, 1}, .y = {0, 1}, .colour = red};
  const Image plot = plot_curves({rising}, {.width = 400, .height = 300});
  CHECK(rows(plot, 300).second < rows(plot, 150).first);
  int west = 0, east = 0;  // the name of the curve, which ends at the top on the right
  for (int y = 25; y < 150; ++y)
    for (int x = 70; x < 370; ++x) (x < 220 ? west : east) += plot.at(x, y)[0] < 60 && plot.at(x, y)[2] < 70;
  CHECK((west > 0 && east == 0));
  const Series flat{.name = "", .x = {0, 1}, .y = {0.25, 0.25}, .colour = red};
  const int quarter = rows(plot_curves({flat}, {.width = 400, .height = 300, .y_min = 0, .y_max = 1}), 200).first;
  CHECK(std::abs(quarter - (266 - (266 - 20) / 4)) < 4);  // between the axis and the top
  Series faint = flat;
  faint.faint = true;
  CHECK(rows(plot_curves({faint}, {.width = 400, .height = 300}), 200).first == -1);
}

TEST_CASE("curves differ without their colours, in the legend too, and letters grow") {
  const Colour red{255, 0, 0};
  const auto red_pixels = [&](const Image& plot, int from, int to) {  // in these rows
    int n = 0;
    for (int y = from; y < to; ++y)
      for (int x = 0; x < plot.width; ++x) n += plot.at(x, y)[0] > 250 && plot.at(x, y)[1] < 5;
    return n;
  };
  const auto plot = [&](const std::string& name, bool second, int letters = 1) {  // of one point, below a legend
    std::vector<Series> all(second ? 1 : 0);
    all.push_back({.name = name, .x = {1}, .y = {0.2}, .colour = red});
    return plot_curves(all, {.width = 400, .height = 300, .letters = letters, .y_min = 0, .y_max = 1});
  };
  CHECK(red_pixels(plot("", false), 150, 266) < red_pixels(plot("", true), 150, 266));  // a disc, a square
  const Series line{.name = "r", .x = {0, 1}, .y = {0.2, 0.2}, .colour = red};
  const int plain = red_pixels(plot_curves({line}, {.width = 400, .height = 300, .y_min = 0, .y_max = 1}), 0, 150);
  CHECK(red_pixels(plot("r", false), 0, 150) > plain + 10);     // the line's sample, and a disc on it
  const auto ink = [&](const std::string& name, int letters) {  // its darkest part: axes and letters
    const Image image = plot(name, false, letters);
    return std::count(image.rgb.begin(), image.rgb.end(), 44);
  };
  CHECK(ink("name", 2) - ink("", 2) > 3 * (ink("name", 1) - ink("", 1)));
}

TEST_CASE("plots of nothing, of a point, and of numbers that are not finite") {
  CHECK(plot_curves({}).width == 960);
  const double nan = NAN;
  const Image plot =
      plot_curves({{"a", {0, 1, 2, 3}, {1, nan, 3, INFINITY}}, {"b", {2}, {2}}},
                  {.title = "t", .x_axis = "x", .y_axis = "y", .width = 400, .height = 300, .log_y = true});
  int ink = 0;
  for (size_t i = 0; i < plot.rgb.size(); i += 3) ink += plot.rgb[i] < 100 && plot.rgb[i + 2] > 150;
  CHECK(ink > 10);
  CHECK(plot_curves({{"", {0, nan, 2}, {1, 1, 1}}}) == plot_curves({{"", {0, nan, 2}, {1, nan, 1}}}));
  CHECK_THROWS_AS(plot_curves({{"a", {0, 1}, {1}}}), Error);
  const std::vector<double> s = smoothed({4, 4, 4, nan, 4}, 0.9);
  for (double v : s) CHECK(v == Approx(4));
  CHECK(smoothed({0, 1}, 0.9)[1] == Approx(0.1 / 0.19));  // the weight is that of what was before
}

TEST_CASE("a curve that is flat but for rounding is drawn flat, with few ticks") {
  for (const bool log_y : {false, true}) {
    const auto rows = [&](double v) {  // that the curve touches
      const Image plot = plot_curves({{"", {0, 1, 2, 3}, {v, v, std::nextafter(v, 2), v}}},
                                     {.width = 400, .height = 300, .log_y = log_y});
      int rows = 0;
      for (int y = 0; y < plot.height; ++y) {
        const uint8_t* row = plot.at(0, y);
        int ink = 0;
        for (int x = 0; x < plot.width; ++x, row += 3) ink += row[0] < 100 && row[2] > 150;
        rows += ink > 0;
      }
      return rows;
    };
    CHECK(rows(1.7) <= 4);
    CHECK(rows(1) > 0);
  }
  CHECK(round_ticks(0, 48, 5) == std::vector<double>{0, 10, 20, 30, 40});
  CHECK(round_ticks(1e17, 1e17 + 32, 6).size() == 1);
  CHECK(round_ticks(1e9, 1e9 + 10, 5) == std::vector<double>{1e9, 1e9 + 2, 1e9 + 4, 1e9 + 6, 1e9 + 8, 1e9 + 10});
}

TEST_CASE("steps and epochs are whole: there is no tick between two of them") {
  const auto ticks = [](const std::vector<double>& x) {
    const Image plot = plot_curves({{"", x, std::vector<double>(x.size(), 1)}}, {.width = 400, .height = 300});
    int lines = 0;  // of the grid, in a row that crosses nothing else
    for (int i = 70; i < plot.width; ++i) lines += plot.at(i, 30)[0] == 228 && plot.at(i, 30)[2] == 236;
    return lines;
  };
  CHECK(ticks({5}) == 1);
  CHECK(ticks({1, 2, 3}) == 2);  // and one on the axis
  CHECK(ticks({0, 0.5, 1}) > 4);
}

TEST_CASE("a logarithmic axis has labels also where no round power fits, and not more than have room") {
  const auto labels = [](double low, double high) {
    const Image plot = plot_curves({{"", {0, 1}, {low, high}}}, {.width = 400, .height = 300, .log_y = true});
    int fewest = plot.height;  // lines of the grid, where a column crosses nothing else
    for (int x = 200; x < 370; ++x) {
      int lines = 0;
      for (int y = 0; y < plot.height; ++y) lines += plot.at(x, y)[0] == 228 && plot.at(x, y)[2] == 236;
      fewest = std::min(fewest, lines);
    }
    return fewest;
  };
  CHECK(labels(3.1, 3.9) >= 3);
  CHECK((labels(1e-20, 1e20) >= 3 && labels(1e-20, 1e20) <= 10));
}
