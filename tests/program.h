// Runs the program as its users do, in one temporary folder, for the tests of what it prints and how it ends.
#pragma once
#include <sys/wait.h>

#include <cstdlib>

#include "tests/files.h"

namespace fovea::test {

inline const std::string kProgram = FOVEA_BINARY_DIR "/fovea";

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

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

}  // namespace fovea::test
