// What image.cpp asks of the libraries that unpack and pack pictures. Internal to data/.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"

namespace fovea::detail {

struct ImageHeader {
  ImageSize size;       // as stored, before any turning
  int orientation = 1;  // EXIF: 1..8
};
// Called with the size in the header before any memory is taken; throws where it is too large.
using SizeCheck = std::function<void(ImageSize)>;

// libjpeg. `reason` is filled where the result is empty.
Image decode_jpeg(std::span<const uint8_t> bytes, const SizeCheck& check, ImageHeader& header, std::string& reason);
bool read_jpeg_header(std::span<const uint8_t> bytes, ImageHeader& header, std::string& reason);
std::vector<uint8_t> encode_jpeg(const Image& image, int quality, std::string& reason);
// EXIF is a TIFF header, then a directory, whose entry 0x0112 is the orientation: 1..8, also 1 where there is none.
int exif_orientation(std::span<const uint8_t> tiff);

// The number of n bytes, the lowest first, at a place that there is.
inline size_t little_endian(std::span<const uint8_t> bytes, size_t at, int n) {
  size_t v = 0;
  for (int i = 0; i < n; ++i) v |= size_t(bytes[at + size_t(i)]) << 8 * i;
  return v;
}

// stb_image: PNG and BMP.
bool read_stb_header(std::span<const uint8_t> bytes, ImageSize& size, std::string& reason);
Image decode_stb(std::span<const uint8_t> bytes, ImageSize size, std::string& reason);  // size: of the header
std::vector<uint8_t> encode_png(const Image& image);

}  // namespace fovea::detail
