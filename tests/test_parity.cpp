// fovea parity on fresh cases of torchvision's RetinaNet, and on cases with one thing changed, which must fail.
// Needs python3-torch, python3-torchvision and the case script of a shared folder; says so and passes without them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "nn/safetensors.h"
#include "tests/program.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

std::string script() {
  const char* shared = std::getenv("FOVEA_SHARED");
  return (shared ? std::string(shared) : std::string(FOVEA_SOURCE_DIR "/../shared")) + "/oracle/torchvision_case.py";
}
bool python(const std::string& arguments) {
  return std::system(("/usr/bin/python3 " + arguments + " > /dev/null 2>&1").c_str()) == 0;
}

// The case's path in a folder; empty where there is no torchvision. `wrapper`: a script that runs the case script.
std::string make_case(const Folder& folder, const std::string& arch, const std::string& size, int seed,
                      const std::string& wrapper = "") {
  static const bool possible = fs::exists(script()) && python("-c 'import torchvision'");
  if (!possible) return "";
  const std::string path = folder / (arch + ".safetensors");
  const std::string arguments = " --arch " + arch + " --size " + size + " --seed " + std::to_string(seed) + " " + path;
  REQUIRE(python(wrapper + " " + script() + arguments));
  return path;
}

int parity(const std::string& path, const std::string& flags = "") { return run("parity " + path + " " + flags).code; }

// The exit code for the case with element `index` of one tensor changed: in its file, which is large, and back after.
int parity_with(const std::string& path, const std::string& name, int64_t index, double change) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string json(length, ' ');
  file.read(json.data(), static_cast<std::streamsize>(length));
  const uint64_t begin = sizeof length + length;
  const auto header = parse_safetensors_header(json, fs::file_size(path) - begin, path);
  const auto entry =
      std::find_if(header.entries.begin(), header.entries.end(), [&](auto& e) { return e.name == name; });
  REQUIRE(entry != header.entries.end());
  const auto with_changed = [&]<class T>() {
    const auto at = static_cast<std::streamoff>(begin + entry->begin + static_cast<uint64_t>(index) * sizeof(T));
    T old, changed;
    const auto put = [&](const T& v) { file.seekp(at).write(reinterpret_cast<const char*>(&v), sizeof v).flush(); };
    file.seekg(at).read(reinterpret_cast<char*>(&old), sizeof old);
    put(changed = static_cast<T>(old + static_cast<T>(change)));
    REQUIRE(changed != old);
    const int code = parity(path);
    put(old);
    REQUIRE(file);
    return code;
  };
  if (entry->dtype == "I64") return with_changed.operator()<int64_t>();
  return entry->dtype == "F64" ? with_changed.operator()<double>() : with_changed.operator()<float>();
}

}  // namespace

TEST_CASE("parity with torchvision, and none with a changed case") {
  const Folder folder;
  const std::string path = make_case(folder, "resnet18", "32x64", 11);
  if (path.empty()) {
    WARN("skipped: needs torchvision for /usr/bin/python3 and " << script());
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
    INFO(gradient);
    CHECK(parity_with(path, gradient, 3, 0.01 * largest(read_safetensors(path).at(gradient))) == 1);
  }
}

TEST_CASE("parity with torchvision's v2: group norms, GIoU, P6 from C5") {
  const Folder folder;
  const std::string path = make_case(folder, "v2", "64x64", 12);
  if (path.empty()) {
    WARN("skipped: needs torchvision for /usr/bin/python3 and " << script());
    return;
  }
  CHECK(parity(path) == 0);
  CHECK(parity_with(path, "param/head.classification_head.conv.1.1.weight", 17, 0.5) == 1);
}

TEST_CASE("parity with torchvision in f64: to 1e-9, in every gradient") {
  const std::string wrapper = FOVEA_SOURCE_DIR "/tests/parity_case_f64.py";
  for (const char* arch : {"resnet50", "v2"}) {
    const Folder folder;
    const std::string path = make_case(folder, arch, "32x64", 13, wrapper);
    if (path.empty()) {
      WARN("skipped: needs torchvision for /usr/bin/python3 and " << script());
      return;
    }
    INFO(arch);
    CHECK(parity(path) == 0);
    if (arch == std::string("v2")) {  // one of them will do: these take half a minute
      CHECK(parity_with(path, "param/backbone.body.layer3.1.bn2.weight", 100, 1e-6) == 1);
      CHECK(parity_with(path, "expect/grad/backbone.body.layer1.0.conv1.weight", 3, 1e-6) == 1);
      CHECK(parity_with(path, "expect/eval/bbox_regression", 9, 1e-6) == 1);
    }
  }
}
