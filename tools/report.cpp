// Pictures and the report of a run: simple enough to look at on a phone, and whole in one file.
#include "tools/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "core/atomic_file.h"
#include "data/augment.h"
#include "data/plot.h"
#include "tools/html.h"
#include "tools/terminal.h"

namespace fovea {
namespace {

template <class Figures>
Series series(const std::string& name, const std::vector<Figures>& events, double Figures::*x, double Figures::*y) {
  Series s{.name = name, .x = {}, .y = {}};
  for (auto& e : events) s.x.push_back(e.*x), s.y.push_back(e.*y);
  return s;
}

Image loss_curves(const std::vector<StepFigures>& steps, const std::vector<ScoreFigures>& scores) {
  Series raw = series("each step", steps, &StepFigures::step, &StepFigures::loss);
  Series val = series("validation", scores, &ScoreFigures::step, &ScoreFigures::loss);
  const double span =
      std::clamp(static_cast<double>(raw.y.size()) / 25, 1.0, 20.0);  // 4 % of the run, at most 20 steps
  Series smooth{.name = "smoothed", .x = raw.x, .y = smoothed(raw.y, 1 - 1 / span)};
  raw.faint = val.marks = true;
  return plot_curves({raw, smooth, val}, {.title = "Loss",
                                          .x_axis = "step",
                                          .y_axis = "loss (log)",
                                          .width = 660,
                                          .height = 400,
                                          .letters = kLetters,
                                          .log_y = true});
}

Image ap_curves(const std::vector<ScoreFigures>& scores) {
  Series ap = series("AP", scores, &ScoreFigures::epoch, &ScoreFigures::ap);
  Series ap50 = series("AP50", scores, &ScoreFigures::epoch, &ScoreFigures::ap50);
  ap.marks = ap50.marks = true;
  PlotOptions options{.title = "Average precision",
                      .x_axis = "epoch",
                      .y_axis = "AP",
                      .width = 660,
                      .height = 400,
                      .letters = kLetters};
  options.y_min = 0, options.y_max = 1;
  return plot_curves({ap, ap50}, options);
}

std::string ap_text(const Json& v) { return v.is_number() ? number(v.number()) : "n/a"; }

std::string figures_section(const Json& best, const Dataset* val) {
  const auto names = split(
      "AP (IoU 0.50 to 0.95)|AP50|AP75|AP, small objects|AP, medium objects|AP, large objects|AR, 1 detection|"
      "AR, 10 detections|AR, 100 detections|AR, small objects|AR, medium objects|AR, large objects",
      '|');
  std::vector<std::pair<std::string, std::string>> figures, classes;
  for (size_t i = 0; i < 12 && i < best["stats"].items.size(); ++i)
    figures.push_back({names[i], ap_text(best["stats"].items[i])});
  for (size_t c = 0; val && c < val->classes().size() && c < best["class_ap"].items.size(); ++c)
    classes.push_back({val->classes()[c], ap_text(best["class_ap"].items[c])});
  return "<h2>Figures of the best checkpoint</h2><div class=two><div>" + html_rows(figures, true, "All classes") +
         "</div><div>" + html_rows(classes, true, "AP of each class") + "</div></div>\n";
}

// Of now, or of before an interruption. Of one that a power cut has left in part the next scores make another.
std::string pictures_section(const std::string& path) {
  if (!std::ifstream(path).good()) return "";
  try {
    return "<h2>Validation pictures</h2><p>Colours: what was found, with its score. White: what is there.</p>" +
           html_picture(encode_jpeg(read_image(path), 88), "jpeg", "validation pictures with detections");
  } catch (const Error& error) {
    if (error.code != Code::data) throw;
    return "";
  }
}

std::string settings_section(const Config& config, const RunDirectory& run) {
  std::vector<std::pair<std::string, std::string>> chosen, of_preset, machine;
  for (auto& k : config_keys())
    if (auto it = config.origin.find(k.name); it != config.origin.end())
      (from_preset(config, k.name) ? of_preset : chosen).push_back({k.name + " = " + k.get(config), it->second});
  const Json environment = run.environment();
  for (auto& [name, value] : environment.members)
    machine.push_back({name, value.is(Json::Kind::text) ? value.string : json_text(value)});
  return "<h2>How it was made</h2><p>What was chosen for this run; <code>config.toml</code> has every key.</p>" +
         html_rows(chosen, false) + html_folded("From the preset " + config.preset, html_rows(of_preset, false)) +
         html_folded("The machine", html_rows(machine, false));
}

}  // namespace

Image draw_detections(const Image& picture, const std::vector<CocoDetection>& found, const std::vector<int64_t>& ids,
                      const std::vector<std::string>& names, double threshold, double scale, const Annotation* truth) {
  const auto side = [scale](int pixels) { return std::max(1, static_cast<int>(std::lround(pixels * scale))); };
  const auto scaled = [scale](double x1, double y1, double x2, double y2) {
    return Box<float>{static_cast<float>(x1 * scale), static_cast<float>(y1 * scale), static_cast<float>(x2 * scale),
                      static_cast<float>(y2 * scale)};
  };
  // Scaled first, so that lines and letters are sharp.
  Image image = scale == 1 ? picture : resize(picture, side(picture.width), side(picture.height));
  if (truth) {
    for (auto& b : truth->ignore) draw_ignore(image, scaled(b.x1, b.y1, b.x2, b.y2));
    for (auto& b : truth->boxes) draw_edged_box(image, scaled(b.x1, b.y1, b.x2, b.y2), {245, 245, 245}, 1.5);
  }
  for (auto it = found.rbegin(); it != found.rend(); ++it) {  // the best on top
    if (it->score < threshold) continue;
    const auto label = std::find(ids.begin(), ids.end(), it->category) - ids.begin();
    const auto& b = it->box;
    const std::string name = static_cast<size_t>(label) < names.size() ? names[static_cast<size_t>(label)] : "?";
    draw_label(image, scaled(b.x, b.y, b.x + b.w, b.y + b.h), name + " " + number(it->score, 2),
               class_colour(static_cast<int>(label)), label_scale(image));
  }
  return image;
}

Image validation_page(const Dataset& data, const std::vector<ImageDetections>& found, int64_t count, double threshold) {
  const auto by_id = by_image(found);
  std::vector<Image> pictures;
  std::vector<std::string> captions;
  count = std::min(count, data.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = i * data.size() / count;
    const Sample sample = data.get(index);
    const double scale = 320.0 / std::max(sample.image.width, sample.image.height);  // to the page's cells
    const Annotation truth = data.annotation(index);
    std::vector<CocoDetection> boxes;
    if (auto it = by_id.find(sample.id); it != by_id.end()) boxes = *it->second;
    pictures.push_back(
        draw_detections(sample.image, boxes, data.class_ids(), data.classes(), threshold, scale, &truth));
    captions.push_back(sample.path.substr(sample.path.rfind('/') + 1));
  }
  return tile(pictures, captions);
}

void write_report(const RunDirectory& run, const Config& config, const Dataset* val, const Evaluation* evaluation,
                  const std::string& state) {
  const auto& steps = run.steps();
  const auto& scores = run.scores();
  std::string html = html_head("Fovea: " + run.path());
  html += "<h1>" +
          escaped(config.preset + " on " + (config.data.dir.empty() ? config.data.annotations : config.data.dir)) +
          "</h1><p>" + escaped(state) + "</p><div class=cards>";
  const Json& best = run.best();
  const bool scored = !best.is(Json::Kind::null);
  if (scored) {
    html += html_card(ap_text(best["AP"]), "AP") + html_card(ap_text(best["AP50"]), "AP50") +
            html_card(number(best["epoch"].number(NAN), 0), "best epoch");
  }
  double seconds = 0;
  for (auto& s : steps) seconds += s.ms / 1000;
  if (!steps.empty())
    html += html_card(count_text(static_cast<int64_t>(steps.back().step)), "steps") +
            html_card(number(steps.back().loss), "last loss") + html_card(duration(seconds), "of training");
  html += "</div><h2>Curves</h2><div class=two>";
  const auto loss = encode_png(loss_curves(steps, scores));
  write_bytes(run.file("loss.png"), loss);
  html += html_picture(loss, "png", "loss by step");
  if (!scores.empty()) {
    const auto ap = encode_png(ap_curves(scores));
    write_bytes(run.file("ap.png"), ap);
    html += html_picture(ap, "png", "average precision by epoch");
  }
  html += "</div>";
  if (val && evaluation && config.eval.pictures > 0)
    write_png(run.file("validation.png"), validation_page(*val, evaluation->detections, config.eval.pictures, 0.4));
  html += pictures_section(run.file("validation.png"));
  if (scored) html += figures_section(best, val);
  html += settings_section(config, run) + "</html>\n";
  write_file_atomically(run.file("report.html"), html);
}

}  // namespace fovea
