// Runs the program as its users do, in one temporary folder, for the tests of what it prints and how it ends.
#pragma once
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/files.h"

namespace fovea::test {

inline const std::string kProgram = "'" FOVEA_BINARY_DIR "/fovea'";  // for a shell

struct Result {
  int code;
  std::string out, err;
};

// One folder for all tests of a program.
inline const Folder& shared() {
  static const Folder folder;
  return folder;
}

inline Result run(const std::string& arguments, const std::string& environment = "") {
  const std::string out = shared() / ".out", err = shared() / ".err";
  const std::string line = "cd '" + shared().path.string() + "' && env " + environment + " " + kProgram + " " +
                           arguments + " >'" + out + "' 2>'" + err + "'";
  const int status = std::system(line.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(out), slurp(err)};
}

// Fails with this code and one message (further lines are hints, indented) that holds all the words.
inline void fails(const std::string& arguments, int code, const std::vector<std::string>& words,
                  const std::string& environment = "") {
  const Result r = run(arguments, environment);
  INFO(arguments << "\n" << r.err);
  CHECK(r.code == code);
  const size_t start = r.err.find("error: ");
  REQUIRE(start != std::string::npos);
  require_words(r.err.substr(start), words);
  for (size_t at = r.err.find('\n', start); at + 1 < r.err.size(); at = r.err.find('\n', at + 1))
    CHECK(r.err[at + 1] == ' ');
}

// A network and a size for tests: a step takes some 10 ms.
inline const std::string kSmall =
    " --preset toy --batch 4 --set data.short_side=64 --set model.channels=8 --set model.tower_depth=1"
    " --set train.warmup=2 --set eval.pictures=2 ";

// The data set `tiny`, and a run `done` on it.
inline void make_data() {
  static const bool made = [] {
    REQUIRE(run("data make shapes tiny --train 12 --val 4 --size 64 --classes 3").code == 0);
    const Result r = run("train --data tiny --steps 6 --out done" + kSmall);
    INFO(r.err);
    REQUIRE(r.code == 0);
    return true;
  }();
  REQUIRE(made);
}

// Starts the program without waiting for it.
inline pid_t start(const std::string& arguments) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string line =
        "cd '" + shared().path.string() + "' && exec " + kProgram + " " + arguments + " >.out 2>.err";
    execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  return child;
}

inline int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Until it holds; not for ever.
template <class Holds> void wait_until(const Holds& holds, int tries = 3000) {
  for (int i = 0; i < tries && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

// In the log of a run.
inline void wait_for_lines(const std::string& run, int wanted) {
  wait_until([&] {
    const std::string log = slurp(shared() / (run + "/log.jsonl"));
    return std::count(log.begin(), log.end(), '\n') >= wanted;
  });
}

// The most memory that the program held, which must end well.
inline long peak_kib(const std::string& arguments) {
  const pid_t child = start(arguments);
  int status = 0;
  rusage usage{};
  REQUIRE(wait4(child, &status, 0, &usage) == child);
  CHECK(status == 0);
  return usage.ru_maxrss;
}

}  // namespace fovea::test
