// fovea parity on fresh cases of torchvision's RetinaNet, and on cases with one thing changed, which must fail.
// Needs python3-torch, python3-torchvision and the case script of a shared folder; says so and passes without them.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "nn/safetensors.h"
#include "tests/catch.h"

using namespace fovea;
namespace fs = std::filesystem;

namespace {

std::string script() {
  const char* shared = std::getenv("FOVEA_SHARED");
  return (shared ? std::string(shared) : std::string(FOVEA_SOURCE_DIR "/../shared")) + "/oracle/torchvision_case.py";
}
const std::string kProgram = FOVEA_BINARY_DIR "/fovea";
const fs::path kFolder = fs::temp_directory_path() / ("fovea-parity-" + std::to_string(getpid()));

int run(const std::string& command) {
  const int status = std::system((command + " > " + (kFolder / "log").string() + " 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The case's path; empty where it cannot be made here. `wrapper`: a script that runs the case script.
std::string make_case(const std::string& arch, const std::string& size, int seed, const std::string& wrapper = "") {
  fs::create_directories(kFolder);
  if (!fs::exists(script()) || !fs::exists(kProgram)) return "";
  const std::string path = (kFolder / (arch + ".safetensors")).string();
  if (run("/usr/bin/python3 -c 'import torchvision'") != 0) return "";
  const std::string seed_text = std::to_string(seed);
  const std::string arguments = " --arch " + arch + " --size " + size + " --seed " + seed_text + " " + path;
  return run("/usr/bin/python3 " + wrapper + " " + script() + arguments) == 0 ? path : "";
}

int parity(const std::string& path, const std::string& flags = "") {
  return run(kProgram + " parity " + path + " " + flags);
}

// Writes the case with element `index` of one tensor changed, and returns the exit code for it.
int parity_with(const std::string& path, const std::string& name, int64_t index, double change) {
  NamedTensors content = read_safetensors(path);
  for (auto& [n, t] : content.tensors) {
    if (n != name) continue;
    t = t.clone();
    if (t.dtype() == DType::i64) t.data<int64_t>()[index] += int64_t(change);
    else if (t.dtype() == DType::f64) t.data<double>()[index] += change;
    else t.data<float>()[index] += float(change);
  }
  const std::string changed = path + ".changed";
  write_safetensors(changed, content);
  return parity(changed);
}

}  // namespace

TEST_CASE("parity with torchvision, and none with a changed case") {
  const std::string path = make_case("resnet18", "32x64", 11);
  if (path.empty()) {
    WARN("skipped: needs torchvision for /usr/bin/python3, " << script() << " and " << kProgram);
    return;
  }
  CHECK(parity(path) == 0);
  CHECK(parity(path, "--f64 --json") == 0);
  CHECK(parity_with(path, "param/backbone.body.layer2.0.conv1.weight", 1234, 0.5) == 1);
  CHECK(parity_with(path, "param/backbone.body.layer4.1.bn2.running_mean", 7, 0.3) == 1);  // evaluation alone sees it
  CHECK(parity_with(path, "param/head.regression_head.bbox_reg.bias", 3, 0.05) == 1);
  CHECK(parity_with(path, "expect/anchors", 40, 1) == 1);
  CHECK(parity_with(path, "target/0/boxes", 0, -20) == 1);
  CHECK(parity_with(path, "target/0/labels", 0, read_safetensors(path).at("target/0/labels").at(0) == 0 ? 1 : -1) == 1);
  CHECK(parity_with(path, "expect/0/matches", 5, 1) == 1);
  CHECK(parity_with(path, "expect/1/boxes", 9, 3) == 1);
  CHECK(parity_with(path, "expect/0/scores", 2, 0.01) == 1);
  CHECK(parity_with(path, "input/images", 500, 1) == 1);
  for (const char* name : {"backbone.body.layer1.0.bn1.bias", "head.classification_head.conv.2.0.bias",
                           "backbone.fpn.inner_blocks.1.0.weight"}) {
    const std::string gradient = std::string("expect/grad/") + name;
    const Tensor g = read_safetensors(path).at(gradient);
    double largest = 0;
    for (int64_t i = 0; i < g.size(); ++i) largest = std::max(largest, std::abs(g.at(i)));
    INFO(gradient);
    CHECK(parity_with(path, gradient, 3, 0.01 * largest) == 1);
  }
  fs::remove_all(kFolder);
}

TEST_CASE("parity with torchvision's v2: group norms, GIoU, P6 from C5") {
  const std::string path = make_case("v2", "64x64", 12);
  if (path.empty()) {
    WARN("skipped: needs torchvision for /usr/bin/python3, " << script() << " and " << kProgram);
    return;
  }
  CHECK(parity(path) == 0);
  CHECK(parity_with(path, "param/head.classification_head.conv.1.1.weight", 17, 0.5) == 1);
  fs::remove_all(kFolder);
}

TEST_CASE("parity with torchvision in f64: to 1e-9, in every gradient") {
  const std::string wrapper = FOVEA_SOURCE_DIR "/tests/parity_case_f64.py";
  for (const char* arch : {"resnet50", "v2"}) {
    const std::string path = make_case(arch, "32x64", 13, wrapper);
    if (path.empty()) {
      WARN("skipped: needs torchvision for /usr/bin/python3, " << script() << " and " << kProgram);
      return;
    }
    INFO(arch);
    CHECK(parity(path) == 0);
    if (arch == std::string("v2")) {  // one of them will do: these take half a minute
      CHECK(parity_with(path, "param/backbone.body.layer3.1.bn2.weight", 100, 1e-6) == 1);
      CHECK(parity_with(path, "expect/grad/backbone.body.layer1.0.conv1.weight", 3, 1e-6) == 1);
      CHECK(parity_with(path, "expect/eval/bbox_regression", 9, 1e-6) == 1);
    }
    fs::remove_all(kFolder);
  }
}
