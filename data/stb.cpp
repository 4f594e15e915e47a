// stb_image and stb_image_write with only the decoders that Fovea uses; compiled without warnings, static to this file.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MALLOC take
#define STBI_REALLOC_SIZED(block, old, size) take_more(block, size)
#define STBI_REALLOC take_more
#define STBI_FREE std::free
#include <cstdint>
#include <cstdlib>

// The most bytes that stb_image may take at a time: a PNG of a few pixels can be packed data without end.
static thread_local std::size_t room = SIZE_MAX;
static void* take(std::size_t size) { return size <= room ? std::malloc(size) : nullptr; }
static void* take_more(void* block, std::size_t size) { return size <= room ? std::realloc(block, size) : nullptr; }

#include <stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

#include <climits>
#include <memory>

#include "data/codecs.h"

namespace fovea::detail {

// A BMP whose header has 52 or 56 bytes (BITMAPV2INFOHEADER and V3) with V4's of 108, which begins as they do and which
// stb_image knows. It also wants the pixels right after the header or the palette. Empty for other files.
static std::vector<uint8_t> with_longer_header(std::span<const uint8_t> bytes) {
  if (bytes.size() <= 30 || bytes[0] != 'B') return {};
  const auto little = [&](size_t at, int n) { return little_endian(bytes, at, n); };
  constexpr size_t kBefore = 14, kLonger = 108;  // of the file's own header; of V4's
  const size_t size = little(kBefore, 4), end = kBefore + size, pixels = little(10, 4);
  if ((size != 52 && size != 56) || pixels < end || pixels > bytes.size()) return {};
  const size_t palette = little(28, 2) < 16 ? pixels - end : 0;
  std::vector<uint8_t> out(bytes.begin(), bytes.begin() + std::ptrdiff_t(end));
  out.resize(kBefore + kLonger);
  out.insert(out.end(), bytes.begin() + std::ptrdiff_t(pixels - palette), bytes.end());
  out[kBefore] = kLonger;
  for (int i = 0; i < 4; ++i) out[size_t(10 + i)] = uint8_t((kBefore + kLonger + palette) >> 8 * i);
  return out;
}

bool read_stb_header(std::span<const uint8_t> bytes, ImageSize& size, std::string& reason) {
  int channels = 0;
  const std::vector<uint8_t> longer = with_longer_header(bytes);
  if (!longer.empty()) bytes = longer;
  if (bytes.size() > INT_MAX) return reason = "the file is over 2 GiB", false;
  if (stbi_info_from_memory(bytes.data(), int(bytes.size()), &size.width, &size.height, &channels)) {
    if (size.height < 0 && size.height > INT_MIN) size.height = -size.height;  // a BMP from the top
    return true;
  }
  const char* why = stbi_failure_reason();
  return reason = why ? why : "broken header", false;
}

Image decode_stb(std::span<const uint8_t> bytes, ImageSize size, std::string& reason) {
  const std::vector<uint8_t> longer = with_longer_header(bytes);
  if (!longer.empty()) bytes = longer;
  int width = 0, height = 0, channels = 0;
  // Four channels of 16 bits and a byte a row, and twice that where stb_image doubles a block; so the file itself.
  room = 2 * (8 * size_t(size.width) + 1) * size_t(size.height) + 2 * bytes.size() + (1 << 16);
  const std::unique_ptr<uint8_t, void (*)(void*)> pixels(
      stbi_load_from_memory(bytes.data(), int(bytes.size()), &width, &height, &channels, 0), stbi_image_free);
  if (!pixels) {
    const char* why = stbi_failure_reason();
    return reason = why ? why : "broken data", Image();
  }
  Image image(width, height);
  const uint8_t* from = pixels.get();
  uint8_t* to = image.rgb.data();
  // The fourth byte of a BMP's pixels is alpha only where the header has masks.
  const bool unused = bytes[0] == 'B' && bytes[14] != 12 && bytes[30] == 0;
  const bool grey = channels < 3, alpha = channels % 2 == 0 && !unused;
  for (size_t i = size_t(width) * size_t(height); i > 0; --i, from += channels, to += 3) {
    const int a = alpha ? from[channels - 1] : 255;
    for (int c = 0; c < 3; ++c) {
      const int v = from[grey ? 0 : c];
      to[c] = uint8_t(a == 255 ? v : (v * a + 255 * (255 - a) + 127) / 255);  // over white
    }
  }
  return image;
}

std::vector<uint8_t> encode_png(const Image& image) {
  std::vector<uint8_t> bytes;
  const auto append = [](void* context, void* data, int size) {
    auto& out = *static_cast<std::vector<uint8_t>*>(context);
    out.insert(out.end(), static_cast<uint8_t*>(data), static_cast<uint8_t*>(data) + size);
  };
  stbi_write_png_to_func(append, &bytes, image.width, image.height, 3, image.rgb.data(), image.width * 3);
  return bytes;
}

}  // namespace fovea::detail
