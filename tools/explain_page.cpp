// The page of `fovea explain`: pictures of each stage between the network and its detections, and the tables.
#include <algorithm>
#include <cmath>

#include "core/words.h"
#include "data/draw.h"
#include "tools/explain.h"
#include "tools/html.h"

namespace fovea {
namespace {

using Fate = TracedCandidate::Fate;

constexpr double kLarge = 800, kSmall = 320;  // the long side of the figures, in pixels
constexpr Colour kWhite{245, 245, 245}, kMissed{255, 60, 60}, kAnchor{90, 220, 240};

// A figure in the making: the picture, so many times as large.
struct Canvas {
  Image image;
  double scale;
  Canvas(const Image& picture, double side) : scale(side / std::max(picture.width, picture.height)) {
    const auto pixels = [&](int n) { return std::max(1, static_cast<int>(std::lround(n * scale))); };
    image = resize(picture, pixels(picture.width), pixels(picture.height));
  }
  Box<float> operator()(const Box<float>& b) const {
    const auto f = static_cast<float>(scale);
    return {b.x1 * f, b.y1 * f, b.x2 * f, b.y2 * f};
  }
  Box<float> operator()(const CocoBox& b) const {
    const auto f = [](double v) { return static_cast<float>(v); };
    return (*this)(Box<float>{f(b.x), f(b.y), f(b.x + b.w), f(b.y + b.h)});
  }
};

std::string figure(const Image& image, const std::string& caption) {
  return "<figure>" + html_picture(encode_jpeg(image, 88), "jpeg", caption) + "<figcaption>" + escaped(caption) +
         "</figcaption></figure>\n";
}

std::string found_figure(const Explanation& e) {
  Canvas c(e.picture, kLarge);
  for (size_t g = 0; g < e.truths.size(); ++g) {
    if (e.truths[g].crowd) draw_ignore(c.image, c(e.truths[g].box));
    else if (e.found(g)) draw_edged_box(c.image, c(e.truths[g].box), kWhite, 2);
    else draw_label(c.image, c(e.truths[g].box), "missed", kMissed, kLetters);
  }
  for (size_t d = e.detections.size(); d-- > 0;)  // the best on top
    if (e.detections[d].score >= e.threshold)
      draw_label(c.image, c(e.detections[d].box),
                 e.classes[static_cast<size_t>(e.detections[d].category)] + " " + number(e.detections[d].score, 2),
                 class_colour(static_cast<int>(e.detections[d].category)), kLetters);
  return figure(c.image, text("Detections with a score of ", shortest(e.threshold), " or more",
                              e.labelled ? "; white: the objects, red: those that were missed" : ""));
}

std::string candidates_figure(const Explanation& e) {
  Canvas c(e.picture, kLarge);
  int64_t suppressed = 0, over = 0;
  for (auto it = e.trace.candidates.rbegin(); it != e.trace.candidates.rend(); ++it) {
    suppressed += it->fate == Fate::suppressed, over += it->fate == Fate::over_limit;
    draw_box(c.image, c(e.transform.inverse(it->detection.box)), class_colour(it->detection.label),
             it->fate == Fate::kept ? 2 : 0.7);
  }
  return figure(c.image, text("Before suppression: ", counted(int64_t(e.trace.candidates.size()), "candidate"),
                              ", of which (thin) ", count_text(suppressed), " lost to a better one that they overlap",
                              over ? text(" and ", count_text(over), " came after the ",
                                          count_text(int64_t(e.detections.size())), " that are kept")
                                   : ""));
}

std::string anchors_figure(const Explanation& e) {
  Canvas c(e.picture, kLarge);
  for (size_t d = e.detections.size(); d-- > 0;) {
    if (e.detections[d].score < e.threshold) continue;
    const TracedCandidate& candidate = e.trace.candidates[e.candidates[d]];
    const Box<float> anchor = c(e.anchor(candidate.level, candidate.anchor)), box = c(e.detections[d].box);
    draw_edged_box(c.image, anchor, kAnchor, 2);
    draw_box(c.image, box, class_colour(candidate.detection.label), 2);
    draw_line(c.image, (anchor.x1 + anchor.x2) / 2, (anchor.y1 + anchor.y2) / 2, (box.x1 + box.x2) / 2,
              (box.y1 + box.y2) / 2, kWhite, 1.5);
  }
  return figure(c.image, "Where they came from: each anchor (light blue), and where the network moved it");
}

std::string objects_figure(const Explanation& e) {
  Canvas c(e.picture, kLarge);
  for (size_t g = 0; g < e.truths.size(); ++g) {
    if (e.truths[g].crowd) continue;
    const ObjectTrace& o = e.objects[g];
    draw_edged_box(c.image, c(e.anchor(o.level, o.anchor)), kAnchor, 2);
    draw_label(c.image, c(e.truths[g].box), text("P", o.level, " IoU ", number(o.iou, 2)),
               e.found(g) ? kWhite : kMissed, kLetters);
  }
  return figure(c.image, "What training looks for: each object with its best anchor (light blue), and their IoU");
}

// Black over purple and orange to yellow.
Colour heat(double t) {
  const auto channel = [](double v) { return static_cast<uint8_t>(std::lround(255 * std::clamp(v, 0.0, 1.0))); };
  return {channel(1.8 * t), channel(1.6 * t - 0.6), channel(t < 0.5 ? 1.1 * t : 1.1 - 1.1 * t)};
}

// The highest score of each cell of a level, over the grey picture. The square root shows what is small, too.
std::string level_figure(const Explanation& e, const LevelTrace& level) {
  Canvas c(e.picture, kSmall);
  for (size_t i = 0; i < c.image.rgb.size(); i += 3) {
    uint8_t* p = &c.image.rgb[i];
    p[0] = p[1] = p[2] = static_cast<uint8_t>((p[0] + 2 * p[1] + p[2]) / 8);
  }
  const int64_t of_cell = level.anchors / (level.height * level.width);
  const float half = std::ldexp(0.5f, level.level);
  for (int64_t cell = 0; cell < level.height * level.width; ++cell) {
    const Box<float>& a = box_data(e.anchors[static_cast<size_t>(level.level - 3)])[cell * of_cell];
    const float x = (a.x1 + a.x2) / 2, y = (a.y1 + a.y2) / 2;
    const double t = std::sqrt(level.best[static_cast<size_t>(cell)]);
    fill_box(c.image, c(e.transform.inverse({x - half, y - half, x + half, y + half})), heat(t), 0.25 + 0.6 * t);
  }
  const float best = *std::max_element(level.best.begin(), level.best.end());
  return figure(c.image,
                text("P", level.level, ": ", level.height, " x ", level.width, " cells, best ", number(best, 2)));
}

std::string picture_section(const Explanation& e) {
  std::string s = "<h2>" + escaped(e.path) + "</h2><div class=two>" + found_figure(e) + candidates_figure(e) +
                  anchors_figure(e) + (e.labelled ? objects_figure(e) : "") + "</div>\n";
  s += "<h3>The highest score of each cell (brightness: its square root)</h3><div class=maps>";
  for (const LevelTrace& level : e.trace.levels) s += level_figure(e, level);
  s += "</div>\n<h3>From anchors to detections</h3>" + html_table(kLevelHeads, level_rows(e));
  if (e.labelled) s += "<h3>What became of each object</h3>" + html_table(kObjectHeads, object_rows(e));
  if (const Rows rows = detection_rows(e); !rows.empty())
    s += "<h3>What was found</h3>" + html_table(kDetectionHeads, rows);
  return s;
}

std::string report_section(const ErrorReport& r) {
  const std::string best = r.left_out ? text(", the ", kJudgedDetections, " best of each picture") : "";
  std::string s = "<div class=cards>" + html_card(ap50_text(r), "AP50" + best) +
                  html_card(count_text(r.found) + " / " + count_text(r.objects), "objects found, whatever the score") +
                  html_card(count_text(r.detections), "detections" + best) + "</div>\n";
  s += "<h2>What is wrong, and what it costs</h2>" + html_table(kErrorHeads, error_rows(r));
  return s +
         "<p>The kinds of error of TIDE (Bolya et al. 2020), at IoU 0.5: each is mended alone, so the gains need not "
         "add up. Without any false positive AP50 would gain " +
         number(r.false_positives) + ", with every object found " + number(r.false_negatives) + ".</p>\n";
}

}  // namespace

std::string explain_page(const std::string& weights, const std::string& where, const ErrorReport* report,
                         const std::vector<Explanation>& explanations) {
  const bool labelled = !explanations.empty() && explanations[0].labelled;
  std::string s = html_head("Fovea explain: " + where) + "<h1>What " + escaped(weights) + " finds" +
                  (report || labelled ? ", and what it misses" : "") + "</h1><p>in " + escaped(where) + "</p>\n";
  if (report) s += report_section(*report);
  if (report && !explanations.empty()) s += "<p>The pictures with the most mistakes follow.</p>";
  for (const Explanation& e : explanations) s += picture_section(e);
  return s + "</html>\n";
}

}  // namespace fovea
