// The files of a run, written so that a kill at any moment leaves a run that can go on.
#include "tools/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/gemm.h"
#include "core/isa.h"
#include "core/threads.h"
#include "core/version.h"
#include "core/words.h"

namespace fovea {
namespace fs = std::filesystem;

namespace {

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (!file.eof()) lines.push_back(line);  // a last line without its end was cut off
  return lines;
}

int64_t step_of(const Json& event) { return event.is(Json::Kind::object) ? event["step"].integer() : INT64_MAX; }

bool holds_run(const std::string& path) {
  return fs::exists(path + "/config.toml") || fs::exists(path + "/checkpoints") || fs::exists(path + "/log.jsonl");
}

// False where it is no folder.
template <class Is> bool holds_only(const std::string& path, const Is& is) {
  std::error_code error;
  const fs::directory_iterator entries(path, error);
  return !error && std::all_of(begin(entries), end(entries),
                               [&](const fs::directory_entry& entry) { return is(entry.path().filename().string()); });
}

// What a run that a kill or a full disk ended before its config.toml has left.
bool is_as_good_as_empty(const std::string& path) {
  return holds_only(path, [](const std::string& name) {
    return name == ".lock" || name == "lost+found" || name == "env.json" || name.starts_with(".env.json.tmp-") ||
           name.starts_with(".config.toml.tmp-");
  });
}

}  // namespace

bool holds_nothing(const std::string& path) {
  return holds_only(path, [](const std::string& name) { return name == "lost+found"; });
}

// The lock ends with the process, also by kill -9. Some file systems have none: there a run goes on without.
RunDirectory::RunDirectory(std::string path) : path_(std::move(path)) {
  const int fd = open(file(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return;  // what is written next says why
  lock_ = std::shared_ptr<const int>(new int(fd), [](const int* f) { close(*f), delete f; });
  check(Code::usage, flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, "another fovea trains in '", path_,
        "'\n  hint: wait for its end, or stop it first");
  remove_temporaries(path_);
}

RunDirectory RunDirectory::create(const std::string& path, const Config& config, const Json& environment) {
  std::error_code error;
  check(Code::usage, !holds_run(path), "'", path, "' holds a run already: go on with it with --resume ",
        shell_word(path), ", or choose another --out");
  check(Code::usage, !fs::exists(path) || is_as_good_as_empty(path), "'", path,
        "' exists and is not an empty folder: choose another --out");
  fs::create_directories(path, error);
  check(!error, "cannot make the folder '", path, "': ", error.message());
  RunDirectory run(path);
  write_file_atomically(run.file("env.json"), json_text(environment, 2) + "\n");
  write_file_atomically(run.file("config.toml"), to_toml(config));  // last: from here on it can be resumed
  return run;
}

RunDirectory RunDirectory::reopen(const std::string& path) {
  check(Code::usage, fs::exists(path + "/config.toml"), "'", path, "' holds no run (no config.toml)");
  return RunDirectory(path);
}

void RunDirectory::drop_after(int64_t step) {
  std::vector<std::string> kept;
  int64_t scored = 0;
  steps_.clear(), scores_.clear(), best_ = Json();
  for (auto& line : read_lines(file("log.jsonl")))
    if (const Json event = parse_json(line); step_of(event) <= step) {
      kept.push_back(line + "\n");
      if (event["event"] == "eval") scored = step_of(event);
      note(event);
    }
  write_file_atomically(file("log.jsonl"), joined(kept, ""));
  kept.clear();
  for (auto& line : read_lines(file("metrics.csv")))
    if (kept.empty() || std::atoll(line.c_str()) <= scored)  // the heads, then rows of scorings that were logged
      kept.push_back(line + "\n");
  write_file_atomically(file("metrics.csv"), joined(kept, ""));
}

void RunDirectory::append(const std::string& name, const std::string& line) {
  const int fd = open(file(name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const ssize_t written = fd < 0 ? -1 : write(fd, line.data(), line.size());
  const int problem = written >= 0 ? ENOSPC : errno;
  if (fd >= 0) close(fd);
  check(written == static_cast<ssize_t>(line.size()), "cannot write '", file(name), "': ", std::strerror(problem));
}

void RunDirectory::event(const Json& event) {
  append("log.jsonl", json_text(event) + "\n");
  note(event);
}

void RunDirectory::note(const Json& event) {
  const auto figure = [&](const char* name) { return event[name].number(NAN); };
  if (std::isnan(figure("step"))) return;  // somebody edited the log
  if (event["event"] == "step")
    steps_.push_back({figure("step"), figure("loss"), figure("step_ms") + figure("wait_ms")});
  if (event["event"] != "eval") return;
  scores_.push_back({figure("step"), figure("epoch"), figure("loss"), figure("AP"), figure("AP50")});
  if (event["best"] == true) best_ = event;
}

void RunDirectory::metrics(const Json& row) {
  std::vector<std::string> heads, values;
  for (auto& [name, value] : row.members) {
    const std::string text = json_text(value);  // "null" for NaN, too
    heads.push_back(name), values.push_back(text == "null" ? "" : text);
  }
  std::error_code error;
  const bool fresh = !fs::exists(file("metrics.csv")) || fs::file_size(file("metrics.csv"), error) == 0;
  append("metrics.csv", (fresh ? joined(heads, ",") + "\n" : "") + joined(values, ",") + "\n");
}

Json RunDirectory::environment() const { return parse_json(joined(read_lines(file("env.json")), "")); }

Json environment_json(const std::string& device) {
  std::string processor = "unknown";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) {
      processor = line.substr(std::min(line.size(), line.find(':') + 2));
      break;
    }
  return {{"fovea", kVersion},
          {"compiler", "g++ " __VERSION__},
          {"processor", processor},
          {"processors", processors()},  // that it may run on
          {"instruction_set", name_of(isa())},
          {"instruction_set_best", name_of(best_isa())},
          {"blas", blas_name()},
          {"threads", num_threads()},
          {"device", device}};
}

}  // namespace fovea
