// `fovea bench`: the fields of each part's report, figures that follow from others, and the comparison with a kept one.
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "models/presets.h"
#include "models/summary.h"
#include "nn/checkpoint.h"
#include "ops/cpu/kernels.h"
#include "ops/shape.h"
#include "tests/program.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;
using Json = nlohmann::ordered_json;

namespace {

const std::string kQuick = " --rounds 2 --warmup 1 --threads 1 --json ";

// The one line of JSON that it prints.
Json report(const std::string& arguments, const std::string& environment = "") {
  const Result r = run("bench " + arguments + kQuick, environment);
  INFO(arguments << "\n" << r.out << r.err);
  REQUIRE(r.code == 0);
  REQUIRE(r.out.find('\n') == r.out.size() - 1);
  return Json::parse(r.out);
}

void require_keys(const Json& json, const std::vector<std::string>& keys) {
  INFO(json.dump());
  for (const std::string& key : keys) {
    INFO(key);
    REQUIRE(json.contains(key));
  }
}

// The network of `bench model --arch tiny --classes 3`: trained whole, otherwise as torchvision's.
RetinaNetOptions tiny() {
  RetinaNetOptions options = preset("tv_retinanet_r50").model;
  options.backbone = "tiny", options.classes = 3, options.freeze_stages = 0;
  options.backbone_norm = "batch", options.norm_eps = 1e-5;
  return options;
}

double ms(const Json& row) { return row["ms_median"].get<double>(); }
double value(const Json& json, const char* key) { return json[key].get<double>(); }

// Every row has its times and its roofline: at best these bytes and operations, over what was taken.
void check_rows(const Json& json, const std::vector<std::string>& names) {
  require_keys(json, {"bench", "processor", "threads", "isa", "copy_gb_per_s", "peak_gflops", "rows"});
  REQUIRE(json["rows"].size() == names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const Json& row = json["rows"][i];
    CHECK(row["name"] == names[i]);
    require_keys(row, {"ms_min", "ms_median", "roofline"});
    CHECK(value(row, "ms_min") > 0);
    CHECK(value(row, "ms_min") <= ms(row));
    CHECK(value(row, "roofline") > 0);
  }
}

double best_ms(const Json& json, double bytes, double flops) {
  return 1e-6 * std::max(bytes / value(json, "copy_gb_per_s"), flops / value(json, "peak_gflops"));
}

}  // namespace

TEST_CASE("bench model counts the operations of the network, three times in training") {
  const double macs = double(summarise(tiny(), {64, 96}).multiply_adds);
  for (const char* mode : {"infer", "train"}) {
    const Json json = report(text("model --arch tiny --size 64x96 --batch 2 --classes 3 --mode ", mode));
    require_keys(json, {"arch", "size", "batch", "mode", "threads", "isa", "blas", "peak_mb", "ms_min", "ms_median",
                        "images_per_s", "gflops", "ms"});
    CHECK(json["ms"].size() == 2);
    CHECK(value(json, "images_per_s") == Approx(2000 / ms(json)));
    CHECK(value(json, "gflops") * ms(json) * 1e6 == Approx(2 * macs * 2 * (mode == std::string("train") ? 3 : 1)));
  }
  fails("bench model --arch resnet19", 2, {"resnet19", "resnet18", "resnet101"});
  for (const char* size : {"0x64", "64x65537", "64x"})
    fails(text("bench model --size ", size), 2, {size, "each 1 to 65536"});
  const std::string quick = "bench model --arch tiny --size 64x64 --rounds 1 --warmup 0 ";
  CHECK(run(quick + "--trace trace.json").code == 0);
  CHECK(Json::parse(slurp(shared() / "trace.json")).contains("traceEvents"));
  shared().write("weights.safetensors", std::string("mine"));
  for (const std::string flag : {"--trace", "--check"}) {
    fails(quick + flag + " gone/file", 2, {flag + " gone/file: there is no folder 'gone'", "make it first"});
    fails(quick + flag + " weights.safetensors", 2, {"'weights.safetensors' exists: choose another " + flag});
  }
  CHECK(slurp(shared() / "weights.safetensors") == "mine");
  CHECK(run(quick + "--trace /dev/null").code == 0);
}

TEST_CASE("bench model --check writes a network that gives the outputs beside it") {
  report("model --arch tiny --size 64x64 --batch 2 --classes 3 --mode train --check out.safetensors");
  const NamedTensors file = read_safetensors(shared() / "out.safetensors");
  RetinaNet model(tiny(), 5);
  load_weights(model, file, {.file_prefix = "model/"});
  const auto out = model(permute(file.at("images"), {0, 2, 3, 1}));
  Target target[2];
  for (int i = 0; i < 2; ++i) {
    const auto boxes = file.at(text(i, "/boxes")).values<float>();
    for (size_t b = 0; b + 3 < boxes.size(); b += 4)
      target[i].boxes.push_back({boxes[b], boxes[b + 1], boxes[b + 2], boxes[b + 3]});
    target[i].labels = file.at(text(i, "/labels")).values<int64_t>();
    CHECK(target[i].boxes.size() == 8);
  }
  check_near(concat(out.logits, 1), file.at("cls_logits"));
  check_near(concat(out.deltas, 1), file.at("bbox_regression"));
  const auto losses = model.loss(out, {target[0], target[1]});
  check_near(losses.classification, file.at("loss/classification"));
  check_near(losses.box, file.at("loss/bbox_regression"));
}

TEST_CASE("bench ops times a row of the table with its bytes and operations") {
  Json json = report("ops --op relu --mb 0.05");
  check_rows(json, {"relu forward", "relu forward+backward"});
  for (const Json& row : json["rows"]) {
    CHECK(value(row, "mb") >= 0.05);
    CHECK(value(row, "gb_per_s") == Approx(value(row, "mb") / ms(row)));
    CHECK(value(row, "roofline") == Approx(best_ms(json, 1e6 * value(row, "mb"), 0) / ms(row)));
  }
  CHECK(value(json["rows"][1], "mb") == Approx(2 * value(json["rows"][0], "mb")));  // and dy, and dx
  json = report("ops --op linear --mb 0.05");
  check_rows(json, {"linear forward", "linear forward+backward"});
  const Json& row = json["rows"][0];
  long long n, m, in, in2, out;
  REQUIRE(std::sscanf(row["inputs"].get<std::string>().c_str(), "[%lld, %lld, %lld] [%lld, %lld]", &n, &m, &in, &in2,
                      &out) == 5);
  CHECK(value(row, "gflops") * ms(row) * 1e6 == Approx(2.0 * double(n * m * in * out)));
  check_rows(report("ops --op argmax --mb 0.05"), {"argmax forward"});
  CHECK(value(report("ops --op reshape --mb 0.05")["rows"][0], "mb") == 0);  // a view
  fails("bench ops --op relo", 2, {"'relo'", "'relu'"});
}

TEST_CASE("bench conv times the three sums of a convolution and explains the algorithm") {
  const std::string shape = "8x12x16->32,3,1", quoted = "'" + shape + "'";
  const double macs = 8 * 12 * 16 * 32 * 9;
  for (const char* algo : {"winograd", "direct", "reference"}) {
    const Json json = report(text("conv --shape ", quoted, " --algo ", algo));
    check_rows(json, {shape + " value", shape + " input gradient", shape + " weight gradient"});
    for (const Json& row : json["rows"]) {
      CHECK(row["algo"] == algo);
      CHECK(value(row, "gflops") * ms(row) * 1e6 == Approx(2 * macs));
      const double bytes = 4 * (8 * 12 * 16 + 9 * 16 * 32 + 8 * 12 * 32);
      CHECK(value(row, "roofline") == Approx(best_ms(json, bytes, 2 * macs) / ms(row)));
    }
  }
  const Json why = report("conv --explain --shape " + quoted + " --shape '9x9x64->64,3,2'");
  REQUIRE(why["rows"].size() == 6);
  CHECK(why["rows"][0]["algo"] == "winograd");
  CHECK(value(why["rows"][0], "direct_mmul") == Approx(1e-6 * macs));
  CHECK(value(why["rows"][0], "winograd_mmul") == Approx(1e-6 * macs / 4));
  CHECK(why["rows"][0]["tiles"] == 6);
  CHECK(why["rows"][3]["algo"] == "direct");
  CHECK(why["rows"][3]["winograd_mmul"].is_null());
  CHECK(report("conv --explain --shape " + quoted, "FOVEA_CONV_ALGO=direct")["rows"][0]["algo"] == "direct");
  const std::string head = "9x8+3x4+1x1x8->16,3,1";  // one list of tiles
  const Json list = report("conv --shape '" + head + "'");
  check_rows(list, {head + " value", head + " input gradient", head + " weight gradient"});
  for (const Json& row : list["rows"]) CHECK(value(row, "gflops") * ms(row) * 1e6 == Approx(2. * 85 * 8 * 16 * 9));
  CHECK(report("conv --explain --shape '" + head + "'")["rows"][0]["tiles"] == 6 + 1 + 1);
  const std::string narrow = "7x5x32->64,3,1,16";  // in groups
  const Json groups = report("conv --shape '" + narrow + "'");
  check_rows(groups, {narrow + " value", narrow + " input gradient", narrow + " weight gradient"});
  for (const Json& row : groups["rows"]) {
    CHECK(row["algo"] == "grouped");
    CHECK(value(row, "gflops") * ms(row) * 1e6 == Approx(2. * 35 * 2 * 64 * 9));
  }
  CHECK(report("conv --explain --algo direct --shape '" + narrow + "'")["rows"][0]["algo"] == "direct");
  const std::string half = "bench conv --precision bf16 --shape " + quoted;
  if (cpu::kernels().half) {
    const Json of_half = report(half.substr(6));
    check_rows(of_half, {shape + " value", shape + " input gradient", shape + " weight gradient"});
    const double bytes = 2 * (8 * 12 * 16 + 8 * 12 * 32) + 4 * 9 * 16 * 32;
    for (const Json& row : of_half["rows"])
      CHECK(value(row, "roofline") == Approx(best_ms(of_half, bytes, 2 * macs) / ms(row)));
  }
  CHECK(run(half, "FOVEA_ISA=v3").code == 7);
  fails("bench conv --shape 8x8+4x4", 2, {"HxWxC->K,kernel,stride"});
  fails("bench conv --shape 8x8x16", 2, {"8x8x16", "HxWxC->K,kernel,stride"});
  fails("bench conv --shape '8x8x16->16,3,1,3'", 2, {"do not divide into 3 groups"});
  fails("bench conv --shape '8x8x16->16,3,1,'", 2, {"HxWxC->K,kernel,stride"});
  fails("bench conv --explain --shape '99999999999x9x16->16,3,1'", 2, {"above 100000"});
  fails("bench conv --explain --shape '9x9x16->16,3,4294967297'", 2, {"above 100000"});  // 2^32 + 1
  fails("bench conv --algo fast", 2, {"'fast'", "winograd"});
}

TEST_CASE("bench parts times the focal loss, the matcher and NMS") {
  const Json json = report("parts --locations 50 --classes 3 --anchors 40 --truths 2 --boxes 30");
  check_rows(json, {"focal loss with gradient, 50x3", "matcher, 40 anchors, 2 boxes", "nms, 30 boxes"});
  CHECK(value(json["rows"][0], "roofline") == Approx(best_ms(json, 8 * 50 * 3, 0) / ms(json["rows"][0])));
  fails("bench parts --boxes 0", 2, {"--boxes"});
}

TEST_CASE("bench ladder climbs from the definition to the kernels, each rung held against f64") {
  for (const char* shape : {"7x5x3->32", "1x9x16->64"}) {
    const Json json = report(text("ladder --shape '", shape, "'"));
    require_keys(json, {"bench", "processor", "threads", "isa", "peak_gflops", "shape", "rows"});
    std::vector<std::string> names;
    for (const Json& row : json["rows"]) {
      names.push_back(row["name"]);
      require_keys(row, {"ms_median", "gflops", "of_peak", "error", "why"});
      CHECK(value(row, "of_peak") == Approx(value(row, "gflops") / value(json, "peak_gflops")));
      CHECK(value(row, "error") > 0);
      CHECK(value(row, "error") < (row["name"] == "bf16" || row["name"] == "tiles" ? 1e-2 : 1e-5));
    }
    std::vector<std::string> all{"naive", "blocked", "vectorised", "packed", "winograd"};
    if (json["isa"] == "v4_bf16") all.push_back("bf16");
    if (json["isa"] == "amx") all.push_back("tiles");
    CHECK(names == all);
  }
  fails("bench ladder --shape '8x8x8->33'", 2, {"multiple of 32"});
  if (!has_device()) fails("bench ladder --device cuda", 6, {"--device cpu"});
}

TEST_CASE("bench data leaves nothing behind, and names the wait") {
  std::filesystem::create_directories(shared() / "tmp");
  const Json json = report("data --pictures 4 --side 32 --batch 2 --step-ms 1", "TMPDIR=tmp");
  check_rows(json, {"decode", "augment", "decode, augment, batch", "loader, 1 worker"});
  for (const Json& row : json["rows"]) CHECK(value(row, "pictures_per_s") == Approx(1e3 / ms(row)));
  CHECK(json["rows"][3]["wait_ms"].is_number());
  CHECK(std::filesystem::is_empty(shared() / "tmp"));
}

TEST_CASE("bench data leaves nothing behind where it fails or is stopped") {
  const auto folder = shared() / "stopped";
  std::filesystem::create_directories(folder);
  fails("bench data", 1, {"no folder for temporary files", "TMPDIR"}, "TMPDIR=nowhere");
  fails("bench data --split val", 2, {"name it by --data DIR"});
  fails("bench data --side 0", 2, {"a size of 0 pixels"}, "TMPDIR=stopped");
  CHECK(std::filesystem::is_empty(folder));
  for (const int signal : {SIGINT, SIGTERM}) {
    setenv("TMPDIR", folder.c_str(), 1);
    const pid_t child = start("bench data --pictures 64 --side 64 --rounds 100000");
    unsetenv("TMPDIR");
    for (int i = 0; i < 3000 && std::filesystem::is_empty(folder); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    kill(child, signal);
    CHECK(wait_for(child) == 128 + signal);
    CHECK(std::filesystem::is_empty(folder));
  }
}

TEST_CASE("--compare holds each row against the kept one, and names those without a partner") {
  Json kept = report("eval --images 3");
  check_rows(kept, {"match 3x100", "summarise 3x100", "all 3x100"});
  kept["rows"][0]["ms_median"] = 12.5;
  kept["rows"][1]["name"] = "gone";
  shared().write("kept.json", kept.dump());
  const Json now = report("eval --images 3 --compare kept.json");
  CHECK(now["rows"][0]["kept_ms"] == 12.5);
  CHECK(value(now["rows"][0], "ratio") == Approx(12.5 / ms(now["rows"][0])));
  CHECK(value(now["rows"][2], "ratio") == Approx(ms(kept["rows"][2]) / ms(now["rows"][2])));
  CHECK(!now["rows"][1].contains("ratio"));
  CHECK(now["only_kept"] == Json::array({"gone"}));
  CHECK(now["only_now"] == Json::array({"summarise 3x100"}));
  const Result table = run("bench eval --images 3 --rounds 1 --warmup 0 --threads 2 --compare kept.json");
  require_words(table.out, {"ratio", "only kept: gone", "only now: summarise 3x100"});
  require_words(table.err, {"warning", "threads 1 (now 2)"});

  shared().write("kept_conv.json", report("conv --shape '4x4x8->8,3,1' --algo reference").dump());
  shared().write("kept_data.json", report("data --pictures 4 --side 32 --batch 2 --step-ms 1").dump());
  require_words(run("bench conv --shape '4x4x8->8,3,1' --batch 2 --threads 1 --compare kept_conv.json --json").err,
                {R"(warning: kept_conv.json was measured with batch 1 (now 2), algo "reference" (now "auto"))"});
  CHECK(run("data make shapes drawn --train 4 --val 1 --size 32").code == 0);
  const Result drawn = run("bench data --data drawn --split val --batch 1 --rounds 1 --compare kept_data.json --json");
  require_words(drawn.err, {R"(data "made shapes" (now ")", R"(drawn"), split "train" (now "val"))"});

  shared().write("cut.json", kept.dump().substr(0, 200));
  fails("bench eval --images 3 --compare cut.json", 3, {"cut.json", "no report of fovea bench"});
  fails("bench eval --images 3 --compare none.json", 3, {"none.json", "cannot be opened"});
  fails("bench ops --op relu --compare kept.json", 3, {"kept.json", "fovea bench eval", "fovea bench ops"});
  kept["rows"][0]["ms_median"] = 0;
  shared().write("zero.json", kept.dump());
  fails("bench eval --images 3 --compare zero.json", 3, {"zero.json", "ms_median"});
}
