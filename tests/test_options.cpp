// The options of RetinaNet: as text, those of other frameworks, and what is refused.
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "models/presets.h"
#include "tests/catch.h"

using namespace fovea;

TEST_CASE("the settings in the chapter's table of frameworks exist and go together") {
  std::ifstream chapter(FOVEA_SOURCE_DIR "/models/README.md");
  int rows = 0, settings = 0;
  for (std::string line; std::getline(chapter, line);) {
    if (!line.starts_with("| ") || line.find("=") == std::string::npos) continue;
    RetinaNetOptions o;
    for (char& c : line) c = c == '`' || c == '|' || c == ':' ? ' ' : c;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (const auto at = word.find('='); at != std::string::npos)
        set_option(o, word.substr(0, at), word.substr(at + 1)), ++settings;
    INFO(line);
    CHECK_NOTHROW(check_options(o));
    ++rows;
  }
  CHECK(rows >= 7);
  CHECK(settings >= 30);
}

TEST_CASE("options as text") {
  RetinaNetOptions o;
  for (auto& [key, value] : to_text(preset("tv_retinanet_r50_v2").model)) {
    CHECK(!help_of_option(key).empty());
    set_option(o, key, value);
  }
  CHECK(to_text(o) == to_text(preset("tv_retinanet_r50_v2").model));
  set_option(o, "anchors.ratios", "[1, 2, 0.5]");
  CHECK(o.anchors.ratios == std::vector<double>{1, 2, 0.5});
  try {
    set_option(o, "loss.gama", "1");
    FAIL("an unknown key was taken");
  } catch (const Error& e) {
    CHECK(e.code == Code::usage);
    CHECK(std::string(e.what()).find("'loss.gamma'") != std::string::npos);
  }
  CHECK(help_of_option("width").find(text("tiny ", resnet_options("tiny").width, ", ")) != std::string::npos);
  for (const char* list : {"0.5 1 2", "[1 2]", "1 2, 3"})
    CHECK_THROWS_WITH(set_option(o, "anchors.ratios", list), contains("is not a value for it"));
  CHECK_THROWS_AS(set_option(o, "loss.gamma", "two"), Error);
  CHECK_THROWS_AS(set_option(o, "classes", "3.5"), Error);
  for (const char* none : {"inf", "-inf", "nan"}) CHECK_THROWS_AS(set_option(o, "anchors.base", none), Error);
  CHECK_THROWS_AS(set_option(o, "pixel_std", "1,inf,1"), Error);
  o.box_weight = -1;
  CHECK_THROWS_WITH(check_options(o), contains("box_weight must be at least 0"));
  o.box_weight = 0;
  CHECK_NOTHROW(check_options(o));
  o.box_loss = "giuo";
  CHECK_THROWS_AS(check_options(o), Error);
  o.box_loss = "giou", o.matcher.low = 0.6;
  CHECK_THROWS_AS(check_options(o), Error);
  o = {.loss = {.kind = "softmax", .gamma = 0.5}};
  CHECK_THROWS_WITH(check_options(o), contains("softmax needs loss.gamma = 0 or loss.gamma >= 1"));
  o = {};
  set_option(o, "coder.style", "corners");
  CHECK(o.coder.style == BoxCoder::Style::corners);
  CHECK_NOTHROW(check_options(o));
  o.coder.least = 1;
  CHECK_THROWS_WITH(check_options(o), contains("coder.least is for coder.style = centre"));
  CHECK_THROWS_WITH(set_option(o, "coder.style", "edges"), contains("centre | corners"));
  for (auto& p : presets()) CHECK_NOTHROW(check_options(p.model));
  CHECK_THROWS_AS(preset("retinanet_r5"), Error);
}

namespace {

// Settings on top of the defaults, and what the refusal says.
const std::pair<const char*, const char*> kRefused[] = {
    {"width=-1", "width = -1"},
    {"width=1025", "0..1024"},
    {"classes=0", "at least one class"},
    {"freeze_stages=-1", "freeze_stages = -1"},
    {"freeze_stages=6", "0..5"},
    {"last_level=4", "last_level = 4"},
    {"last_level=8", "5..7"},
    {"channels=0", "channels must be"},
    {"tower_depth=-1", "tower_depth = -1 is not in 0..100"},
    {"tower_depth=101", "tower_depth = 101 is not in 0..100"},
    {"prior=0", "prior = 0"},
    {"prior=1", "between 0 and 1"},
    {"anchors.base=0", "above 0"},
    {"anchors.scales=1,0", "scales"},
    {"anchors.ratios=-1", "ratios"},
    {"matcher.low=0.51", "above matcher.high"},
    {"matcher.low=-1 matcher.high=0", "matcher.high must be above 0"},
    {"loss.gamma=-0.1", "is negative"},
    {"loss.kind=focal_star loss.gamma=0", "focal_star needs"},
    {"loss.alpha=1.1", "is above 1"},
    {"loss.kind=alpha_ce loss.alpha=-1", "alpha_ce needs"},
    {"loss.margin=0", "loss.margin = 0"},
    {"loss.margin=1.1", "not in 0..1"},
    {"sampler=ohem loss.kind=softmax", "losses of sigmoids"},
    {"sampler_batch=3", "at least 4"},
    {"sampler_nms=0", "sampler_nms = 0"},
    {"box_beta=-0.1", "box_beta"},
    {"norm_eps=-1e-9", "norm_eps"},
    {"level_top=0", "level_top"},
    {"detections=-1", "detections at least 0"},
    {"coder.wx=0", "coder: weights"},
    {"coder.wy=0", "coder: weights"},
    {"coder.ww=0", "coder: weights"},
    {"coder.wh=-1", "coder: weights"},
    {"coder.least=-1", "coder.least must be"},
    {"score_threshold=1", "no score is higher"},
    {"last_threshold=1", "no score is higher"},
    {"nms_threshold=-0.1", "not in 0..1"},
    {"nms_threshold=1.1", "nms_threshold = 1.1"},
    {"nms_sigma=0", "nms_sigma"},
    {"final_std=-1", "final_std"},
    {"pixel_std=1,0,1", "pixel_std"}};

}  // namespace

TEST_CASE("options out of range are refused one by one, and their borders are not") {
  const auto with = [](const std::string& settings) {  // "key=value key=value" on top of the defaults
    RetinaNetOptions o;
    std::istringstream words(settings);
    for (std::string word; words >> word;)
      set_option(o, word.substr(0, word.find('=')), word.substr(word.find('=') + 1));
    return o;
  };
  for (const auto& [settings, words] : kRefused) {
    INFO(settings);
    CHECK_THROWS_WITH(check_options(with(settings)), contains(words));
  }
  for (const char* border :
       {"width=1024 freeze_stages=5 last_level=5 tower_depth=0", "matcher.low=0.5 loss.gamma=0 loss.alpha=1",
        "loss.margin=1 sampler=ohem sampler_batch=4", "box_beta=0 norm_eps=0 detections=0 nms_threshold=0",
        "nms_threshold=1 final_std=0 score_threshold=-1", "loss.kind=alpha_ce loss.alpha=0"}) {
    INFO(border);
    CHECK_NOTHROW(check_options(with(border)));
  }
  CHECK(with("stride_1x1=1").stride_1x1);
  CHECK_THROWS_AS(with("stride_1x1=yes"), Error);
  CHECK_THROWS_AS(with("pixel_std=1,1,1,1"), Error);
}

TEST_CASE("the presets of torchvision's weights have its rules") {
  for (const bool second : {false, true}) {
    const RetinaNetOptions o = preset(second ? "tv_retinanet_r50_v2" : "tv_retinanet_r50").model;
    CHECK(o.classes == 91);
    CHECK(o.anchors.style == "torchvision");
    CHECK(o.matcher.floor < 0);
    CHECK((o.level_top == 1000 && o.detections == 300 && o.score_threshold == 0.05 && o.nms_threshold == 0.5));
    CHECK(o.norm_eps == (second ? 1e-5 : 0));  // the norms of the first weights had none
    CHECK(o.p6_from == (second ? "c5" : "p5"));
    CHECK(o.box_loss == (second ? "giou" : "l1"));
    CHECK(o.head_norm == (second ? "group" : "none"));
  }
}
