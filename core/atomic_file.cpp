// A temporary file, fsync, rename, fsync of the folder.
#include "core/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace fovea {

namespace fs = std::filesystem;

static fs::path folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

// A device or a pipe (/dev/null), or a link to an open file (/dev/stdout): a file must not take its place.
static bool is_special(const std::string& path) {
  if ((path.starts_with("/proc/") || path.starts_with("/dev/")) && folder_of(path).filename() == "fd") return true;
  std::error_code ignored;
  const fs::file_status what = fs::status(path, ignored);
  return fs::exists(what) && !fs::is_regular_file(what) && !fs::is_directory(what);
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  std::error_code error;
  for (int links = 0; !is_special(path_) && fs::is_symlink(path_, error); ++links) {
    if (links == 40) give_up("cannot be written", ELOOP);
    path_ = (folder_of(path_) / fs::read_symlink(path_, error)).string();
  }
  if (is_special(path_)) {
    file_ = open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);  // after what was printed
    if (file_ < 0) give_up("cannot be written", errno);
    return;
  }
  const std::string whole = fs::path(path_).filename().string();  // of 255 bytes at most, of which the end needs some
  const std::string name = text(".", whole.size() < 220 ? whole : whole.substr(0, 200), ".tmp-", getpid());
  temporary_ = (folder_of(path_) / name).string();
  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) give_up("cannot be written", errno);
}
AtomicFile::~AtomicFile() {
  if (file_ >= 0) close(file_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::give_up(const std::string& what, int error) {
  if (file_ >= 0) close(file_);
  file_ = -1;
  const bool whole = !temporary_.empty() && access(path_.c_str(), F_OK) == 0;
  unlink(temporary_.c_str());
  temporary_.clear();
  const char* hint = error == ENOSPC || error == EDQUOT || error == EFBIG
                         ? "free some space, then try again"
                         : "does the folder exist, and may this user write into it?";
  const char* kept = whole ? " (the file from before is unchanged)" : "";
  fail(Code::failure, text(path_, ": ", what, ": ", std::strerror(error), kept, "\n  hint: ", hint));
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(file_, p, bytes < (size_t{1} << 30) ? bytes : size_t{1} << 30);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) give_up("could not be written", done < 0 ? errno : ENOSPC);
    p += done;
    bytes -= static_cast<size_t>(done);
  }
}

void AtomicFile::commit(bool durable) {
  const bool special = temporary_.empty();
  // First the content: a rename may reach the disk before it, and a power cut then leaves the name with a part, or
  // nothing, of the new file, and the old one lost.
  if (durable && !special && fsync(file_) != 0) give_up("could not be written", errno);
  const int file = file_;
  file_ = -1;
  if (close(file) != 0) give_up("could not be written", errno);
  if (special) return;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) give_up("could not be replaced", errno);
  temporary_.clear();
  if (!durable) return;
  // Then the name: a power cut may undo a rename that only memory knows of, which leaves the old file, or none.
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // the rename is done; some file systems do not open folders
  fsync(folder);
  close(folder);
}

void write_file_atomically(const std::string& path, std::string_view content, bool durable) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit(durable);
}

void remove_temporaries(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name[0] == '.' && name.find(".tmp-") != std::string::npos) fs::remove(entry.path(), ignored);
  }
}

}  // namespace fovea
