// The program where machines are shared: few threads, names from elsewhere, signals, and what power cuts leave.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "core/atomic_file.h"
#include "data/json.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

std::string some_picture() { return (*fs::directory_iterator(shared() / "tiny/val/images")).path().string(); }

}  // namespace

TEST_CASE("a signal that the caller ignores does not stop a run") {
  make_data();
  std::signal(SIGINT, SIG_IGN);  // as a shell does for a job in the background
  const pid_t child = start("train --data tiny --steps 40 --out background" + kSmall + "--set eval.every=0");
  std::signal(SIGINT, SIG_DFL);
  wait_for_lines("background", 1);
  kill(child, SIGINT);
  CHECK(wait_for(child) == 0);
}

TEST_CASE("detect needs no thread beside its own") {
  make_data();
  if (geteuid() != 0) return;  // a limit on processes does not count root's, so it takes another user
  const std::string as_other = "cd '" + shared().path.string() +
                               "' && FOVEA_THREADS=1 setpriv --reuid=54321 --clear-groups prlimit --nproc=1 " +
                               kProgram;
  if (std::system((as_other + " --version >.out 2>.err").c_str()) != 0) return;
  const int status = std::system((as_other + " detect --weights done tiny/val/images --json >.out 2>.err").c_str());
  INFO(slurp(shared() / ".err"));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(slurp(shared() / ".out").starts_with("["));
}

TEST_CASE("what Kubernetes says of services is no key") {
  CHECK(run("train --keys", "FOVEA_TRAIN_SERVICE_HOST=10.0.0.1 FOVEA_TRAIN_PORT=tcp://10.0.0.1:80").code == 0);
  CHECK(run("train --keys", "FOVEA_DATA_PORT_80_TCP_ADDR=10.0.0.1 FOVEA_EVAL_SERVICE_PORT_HTTP=80").code == 0);
  fails("train --keys", 2, {"FOVEA_TRAIN_STEP ", "FOVEA_TRAIN_STEPS"}, "FOVEA_TRAIN_STEP=3");
}

#ifndef __SANITIZE_ADDRESS__  // it takes more addresses than any limit leaves
TEST_CASE("a limit on addresses that OpenBLAS would wait at for ever is an error") {
  make_data();
  if (slurp(shared() / "done/env.json").find("OpenBLAS") == std::string::npos) return;
  const std::string line = "cd '" + shared().path.string() + "' && ulimit -v 110000 && FOVEA_THREADS=1 timeout 60 " +
                           kProgram + " gradcheck --op linear >.out 2>.err";
  const int status = std::system(line.c_str());
  const std::string said = slurp(shared() / ".out");
  INFO(said);
  CHECK(WEXITSTATUS(status) == 1);  // of the check that failed
  require_words(said, {"out of memory: OpenBLAS wants", "ulimit -v"});
}
#endif

TEST_CASE("a name as long as a file can have is written") {
  make_data();
  const Folder folder;
  const std::string name(251, 'n');
  write_file_atomically(folder / (name + ".txt"), "one");
  write_file_atomically(folder / (name + ".txt"), "two");
  CHECK(slurp(folder / (name + ".txt")) == "two");
  fs::copy_file(some_picture(), folder / (name + ".jpg"));
  CHECK(run("detect --weights done '" + (folder / (name + ".jpg")) + "' --out long-name").code == 0);
  CHECK(fs::exists(shared() / ("long-name/" + name + ".jpg")));
}

TEST_CASE("what was found until a drawing cannot be written is kept") {
  make_data();
  const std::string detect = "detect --weights done tiny/val/images --set model.score_threshold=0.001 --out kept";
  REQUIRE(run(detect).code == 0);
  const auto count = [] { return parse_json(slurp(shared() / "kept/detections.json")).items.size(); };
  const size_t all = count();
  fs::path last;
  for (auto& entry : fs::directory_iterator(shared() / "kept"))
    if (entry.path().extension() == ".jpg") last = std::max(last, entry.path());
  fs::remove(last), fs::create_directories(last / "in the way");
  fails(detect, 1, {last.filename().string(), "detections.json holds"});
  CHECK((count() > 0 && count() <= all));
}

TEST_CASE("a page of pictures that a power cut left empty does not stop a run") {
  make_data();
  fs::copy(shared() / "done", shared() / "cut", fs::copy_options::recursive);
  fs::resize_file(shared() / "cut/validation.png", 0);
  const Result r = run("train --resume cut");
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(slurp(shared() / "cut/report.html").find("Figures of the best checkpoint") != std::string::npos);
}

TEST_CASE("a log that was edited by hand does not end a run") {
  make_data();
  fs::copy(shared() / "done", shared() / "edited", fs::copy_options::recursive);
  const std::string log = slurp(shared() / "edited/log.jsonl");
  shared().write("edited/log.jsonl",
                 log + "{\"event\":\"step\",\"loss\":1}\n{\"event\":\"eval\",\"best\":true}\nstep\n");
  const std::string before = slurp(shared() / "edited/report.html");
  const Result r = run("train --resume edited");
  INFO(r.err);
  CHECK(r.code == 0);
  const auto cards = [](const std::string& page) {  // what is behind the title, which names the folder
    const size_t begin = page.find("<h1>");
    return page.substr(begin, page.find("<h2>") - begin);
  };
  CHECK(cards(slurp(shared() / "edited/report.html")) == cards(before));
}

TEST_CASE("scores and reports of a long run do not read its log again") {
  make_data();
  std::vector<long> kib;  // at their peak
  for (const int more : {0, 40'000}) {
    const std::string name = text("logged-", more);
    fs::copy(shared() / "done", shared() / name, fs::copy_options::recursive);
    const std::string log = slurp(shared() / (name + "/log.jsonl"));
    const size_t at = log.find("{\"event\":\"step\"");
    std::string all = log;
    for (int i = 0; i < more; ++i) all += log.substr(at, log.find('\n', at) + 1 - at);
    shared().write(name + "/log.jsonl", all);
    kib.push_back(peak_kib("train --steps 12 --threads 1 --resume " + name));
  }
#ifndef __SANITIZE_ADDRESS__  // it keeps what was freed
  CHECK(kib[1] - kib[0] < 100'000);
#endif
}

TEST_CASE("weights that are cut off while they are read end the program with a message") {
  make_data();
  const pid_t child = start("train --data tiny --steps 2000 --out bus" + kSmall);
  wait_for_lines("bus", 1);
  kill(child, SIGBUS);  // as the system does where a mapped file is shorter than it was
  CHECK(wait_for(child) == 4);
  require_words(slurp(shared() / ".err"), {"error: a file of weights was cut off", "hint:"});
}

TEST_CASE("a picture that is gone: the command that looks for others can be typed") {
  make_data();
  for (const std::string split : {"train", "val"}) {
    fs::copy(shared() / "tiny", shared() / ("of " + split), fs::copy_options::recursive);
    const pid_t child = start("train --data 'of " + split + "' --steps 2000 --out lacks-" + split + kSmall);
    wait_for_lines("lacks-" + split, 1);
    for (auto& entry : fs::directory_iterator(shared() / ("of " + split + "/" + split + "/images")))
      fs::resize_file(entry.path(), 10);
    CHECK(wait_for(child) == 3);
    const std::string said = slurp(shared() / ".err");
    const size_t at = said.find("fovea data stats 'of " + split + "' --split " + split + " --verify\n");
    INFO(said);
    REQUIRE(at != std::string::npos);
    const Result r = run(said.substr(at + 6, said.find('\n', at) - at - 6));
    CHECK(r.code == 3);
    CHECK(r.out.find("cannot be used") != std::string::npos);
  }
}

TEST_CASE("the first process of a container is ended by SIGTERM and Ctrl-C") {
  make_data();
  if (std::system("unshare -pf true 2>/dev/null") != 0) return;  // not allowed here
  for (const int signal : {SIGINT, SIGTERM}) {
    std::string many;  // of one picture, so that it is still at work
    for (int i = 0; i < 3000; ++i) many += " first.jpg";
    fs::copy_file(some_picture(), shared() / "first.jpg", fs::copy_options::skip_existing);
    const std::string out = text("contained-", signal);
    const std::string line = "cd '" + shared().path.string() + "' && exec unshare -pf " + kProgram +
                             " detect --weights done" + many + " --out " + out + " >.out 2>.err";
    const pid_t child = fork();
    if (child == 0) execl("/bin/sh", "sh", "-c", line.c_str(), nullptr), _exit(127);
    wait_until([&] { return fs::exists(shared() / (out + "/first.jpg")); });
    const std::string name = std::to_string(child);
    const std::string inside = slurp("/proc/" + name + "/task/" + name + "/children");
    REQUIRE(std::atoi(inside.c_str()) > 0);
    kill(std::atoi(inside.c_str()), signal);
    CHECK(wait_for(child) == 128 + signal);
    CHECK(slurp(shared() / (out + "/detections.json")) == "[]\n");
  }
}

TEST_CASE("a new volume is an empty folder") {
  make_data();
  for (const char* name : {"volume-1", "volume-2"})
    fs::create_directories(shared() / (std::string(name) + "/lost+found"));
  CHECK(run("train --data tiny --steps 1 --out volume-1" + kSmall).code == 0);
  CHECK(run("detect --weights done tiny/val/images --out volume-2").code == 0);
  shared().write("volume-3/lost+found/file", std::string());
  shared().write("volume-3/other", std::string());
  fails("train --data tiny --steps 1 --out volume-3" + kSmall, 2, {"not an empty folder"});
  fails("detect --weights done tiny/val/images --out volume-3", 2, {"choose another --out"});
}

TEST_CASE("SIGTERM writes a checkpoint also while a disk does not answer") {
  make_data();
  fs::copy(shared() / "tiny", shared() / "slow", fs::copy_options::recursive);
  const pid_t child = start("train --data slow --steps 2000 --out waits" + kSmall + "--set eval.every=0");
  wait_for_lines("waits", 1);
  const fs::path picture = fs::directory_iterator(shared() / "slow/train/images")->path();
  fs::remove(picture);
  REQUIRE(mkfifo(picture.c_str(), 0600) == 0);  // to open it waits for a writer
  std::string log, before;
  for (int i = 0; i < 100 && (log.empty() || log != before); ++i) {
    before = log;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    log = slurp(shared() / "waits/log.jsonl");
  }
  const size_t at = log.rfind("\"step\":") + 7;
  const std::string step = "step-" + log.substr(at, log.find(',', at) - at) + ".safetensors\n";
  kill(child, SIGTERM);
  wait_until([&] { return slurp(shared() / "waits/checkpoints/latest") == step; }, 1000);
  CHECK(slurp(shared() / "waits/checkpoints/latest") == step);
  kill(child, SIGKILL);
  wait_for(child);
}
