// Writing a file so that a crash, a kill or a full disk leaves either the old one or the new one, never a part.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace fovea {

// Writes to a temporary file beside `path` (".<name>.tmp-<process>"); commit() makes it durable (fsync), renames it and
// makes the folder durable. Without commit() it vanishes. A link stays, and what it leads to is replaced, or made; a
// device, a pipe, and whatever an open descriptor is (/dev/stdout) are written as they are. Throws Error{Code::failure}
// naming the file and the reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  void commit(bool durable = true);  // false: whole or absent, but maybe not after a power cut

 private:
  [[noreturn]] void give_up(const std::string& what, int error);
  std::string path_, temporary_;
  int file_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view content, bool durable = true);
void remove_temporaries(const std::string& folder);  // what killed writers left behind

}  // namespace fovea
