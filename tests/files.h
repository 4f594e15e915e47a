// Temporary folders, small files and what an error said, for the tests of everything that reads files.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/catch.h"

namespace fovea::test {

struct Folder {  // removed at the end
  std::filesystem::path path;
  explicit Folder(const std::filesystem::path& in = std::filesystem::temp_directory_path())
      : path(in / ("fovea-test-" + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
    return (path / name).string();
  }
  std::string write(const std::string& name, const std::vector<uint8_t>& bytes) const {
    return write(name, std::string(bytes.begin(), bytes.end()));
  }
};

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// In memory where that is possible, for small files: fsync on a disk takes tens of milliseconds.
inline std::filesystem::path memory() {
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
}

// The message of the Error that `work` ends in; "" where there is none.
template <class Work> std::string message_of(const Work& work, std::optional<Code> code = {}) {
  try {
    work();
  } catch (const Error& error) {
    if (code) CHECK(error.code == *code);
    return error.what();
  }
  return "";
}
// The same, checked to be of this code and one line.
template <class Work> std::string error_of(Code code, const Work& work) {
  const std::string message = message_of(work, code);
  CHECK(message.find('\n') == std::string::npos);
  return message;
}

inline void require_words(const std::string& message, const std::vector<std::string>& words) {
  INFO(message);
  for (const std::string& word : words) {
    INFO("missing: " << word);
    REQUIRE(message.find(word) != std::string::npos);
  }
}

}  // namespace fovea::test
