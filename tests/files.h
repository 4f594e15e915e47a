// Temporary folders, small files and what an error said, for the tests of everything that reads files.
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/catch.h"

namespace fovea::test {

struct Folder {  // removed at the end
  std::filesystem::path path;
  Folder() : path(std::filesystem::temp_directory_path() / ("fovea-test-" + std::to_string(std::random_device{}()))) {
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

// The message of the Error of this code that `work` ends in, checked to be one line; "" where there is none.
template <class Work> std::string error_of(Code code, const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.code == code);
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
  return "";
}

inline void require_words(const std::string& message, const std::vector<std::string>& words) {
  INFO(message);
  for (const std::string& word : words) {
    INFO("missing: " << word);
    REQUIRE(message.find(word) != std::string::npos);
  }
}

}  // namespace fovea::test
