// Pipes where a file is expected: read to their end, unless that does not come.
#include <fcntl.h>
#include <sys/stat.h>

#include <csignal>
#include <thread>

#include "core/random.h"
#include "data/image.h"
#include "tests/files.h"

using namespace fovea;
using namespace fovea::test;

namespace {

std::string make_pipe(const Folder& folder) {
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  return pipe;
}
void write_picture(const std::string& pipe, const Image& image) {  // waits for a reader
  const std::vector<uint8_t> png = encode_png(image);
  std::ofstream(pipe, std::ios::binary).write(reinterpret_cast<const char*>(png.data()), std::streamsize(png.size()));
}

}  // namespace

TEST_CASE("a pipe is read as a file is") {
  const Folder folder;
  const std::string pipe = make_pipe(folder);
  Image image(300, 200);  // of many bytes, so that they come in several pieces
  Dice dice(3);
  for (uint8_t& v : image.rgb) v = uint8_t(dice.integer(0, 255));
  std::thread writer([&] { write_picture(pipe, image); });
  const Image read = read_image(pipe);
  writer.join();
  CHECK(read == image);
}

TEST_CASE("a pipe whose header alone is asked for is refused, since the rest would be lost") {
  const Folder folder;
  const std::string pipe = make_pipe(folder);
  std::thread writer([&] { write_picture(pipe, Image(2, 3)); });
  const std::string message = message_of([&] { read_image_size(pipe); }, Code::data);
  const int released = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);  // the writer, which nobody has read from
  writer.join();
  close(released);
  require_words(message, {pipe, "is a pipe"});
}

TEST_CASE("a pipe that goes on and on is refused") {
  const Folder folder;
  const std::string pipe = make_pipe(folder);
  const auto handler = std::signal(SIGPIPE, SIG_IGN);  // which the writer gets once nobody reads
  std::thread writer([&] {
    std::ofstream out(pipe, std::ios::binary);
    while (out << std::string(1 << 16, 'y')) {}
  });
  const std::string message = error_of(Code::data, [&] { read_bytes(pipe, {.pipe = 3 << 20}); });
  writer.join();
  std::signal(SIGPIPE, handler);
  require_words(message, {pipe, "a pipe that goes on after 3 MiB", "make it a file"});
}
