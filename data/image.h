// Pictures in memory, and their files: JPEG, PNG, BMP and PNM in, PNG and JPEG out.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fovea {

// 8-bit RGB, rows from top to bottom: rgb [height, width, 3].
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;

  Image() = default;
  Image(int width, int height, uint8_t grey = 0)
      : width(width), height(height), rgb(size_t(width) * size_t(height) * 3, grey) {}
  uint8_t* at(int x, int y) { return rgb.data() + (size_t(y) * size_t(width) + size_t(x)) * 3; }
  const uint8_t* at(int x, int y) const { return rgb.data() + (size_t(y) * size_t(width) + size_t(x)) * 3; }
  bool empty() const { return rgb.empty(); }
  bool operator==(const Image&) const = default;
};

struct ReadOptions {
  int64_t max_pixels = 200'000'000;  // width * height, checked against the header before anything is allocated
  bool orient = true;                // turn the picture as its EXIF orientation says
};

struct ImageSize {
  int width = 0, height = 0;
};

inline constexpr const char* kImageEndings = ".jpg .jpeg .png .bmp .ppm .pgm .pnm";

// All of these throw Code::data with a message that names the file, what is wrong with it and what to do. Grey becomes
// RGB, CMYK and YCCK are converted, 16 bits keep their upper 8 (a PNM's values become parts of its greatest),
// transparency is laid over white. A damaged or cut-off file is an error, never a half-grey picture.
Image read_image(const std::string& path, const ReadOptions& options = {});
Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const ReadOptions& options = {});
ImageSize read_image_size(const std::string& path, const ReadOptions& options = {});  // from the header, turned by EXIF
bool is_image_name(const std::string& path);         // by its ending, in any case: one of kImageEndings
bool is_unread_image_name(const std::string& path);  // of a picture that is not read: .webp .tiff .heic ...
bool is_hidden(const std::string& path);  // by its first letter, a dot: .idea, and macOS's ._a.jpg beside a.jpg

std::vector<uint8_t> encode_png(const Image& image);
std::vector<uint8_t> encode_jpeg(const Image& image, int quality = 92);
// Written to a temporary file beside `path` and renamed, so that no half file is ever seen.
void write_png(const std::string& path, const Image& image);
void write_jpeg(const std::string& path, const Image& image, int quality = 92);

// The whole file / a whole file, with the same care; used by everything in data/ that touches files. A pipe is waited
// for, and read to its end: asking for its beginning is an error, since the rest would be lost, and so is one that goes
// on and on.
struct ReadLimits {
  size_t most = ~size_t{0};           // bytes of a file that are read, its beginning
  uint64_t pipe = uint64_t{1} << 30;  // bytes that a pipe may have: larger than any picture, label file or list
};
std::vector<uint8_t> read_bytes(const std::string& path, const ReadLimits& limits = {});
void write_bytes(const std::string& path, std::span<const uint8_t> bytes);

}  // namespace fovea
