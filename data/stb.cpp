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

#include <algorithm>
#include <climits>
#include <iterator>
#include <memory>

#include "data/codecs.h"

namespace fovea::detail {

// A BMP as stb_image reads it right; empty where it is so, and for other files. Headers of 52 or 56 bytes
// (BITMAPV2INFOHEADER and V3) become V4's of 108, which begins as they do and which it knows. A palette gets 256
// colours, the further ones black: it takes what memory holds for those that are not there, and for OS/2's last four.
// It also wants the pixels right after the header or the palette.
static std::vector<uint8_t> rewritten_bmp(std::span<const uint8_t> bytes) {
  if (bytes.size() <= 30 || bytes[0] != 'B') return {};
  const auto little = [&](size_t at, int n) { return little_endian(bytes, at, n); };
  constexpr size_t kBefore = 14, kLonger = 108;  // of the file's own header; of V4's
  const size_t size = little(kBefore, 4), end = kBefore + size, pixels = little(10, 4);
  const bool os2 = size == 12, newer = size == 52 || size == 56;
  const bool indexed = little(os2 ? 24 : 28, 2) < 16;
  const bool known = os2 || newer || size == 40 || size == 108 || size == 124;
  if (!(newer || (indexed && known)) || pixels < end || pixels > bytes.size()) return {};
  std::vector<uint8_t> out(bytes.begin(), bytes.begin() + std::ptrdiff_t(kBefore + std::min(size, kLonger)));
  out.resize(kBefore + kLonger);
  if (os2) {  // sides of two bytes instead of four
    const uint8_t* from = &bytes[kBefore + 4];
    const uint8_t rest[] = {from[0], from[1], 0, 0, from[2], from[3], 0, 0, from[4], from[5], from[6], from[7]};
    std::copy(std::begin(rest), std::end(rest), &out[kBefore + 4]);
  }
  const size_t colour = os2 ? 3 : 4, colours = indexed ? std::min<size_t>((pixels - end) / colour, 256) : 0;
  for (size_t i = 0; i < colours; ++i) {
    const uint8_t* from = &bytes[end + i * colour];
    out.insert(out.end(), {from[0], from[1], from[2], 0});
  }
  const size_t start = kBefore + kLonger + (indexed ? 4 * 256 : 0);
  out.resize(start);
  out.insert(out.end(), bytes.begin() + std::ptrdiff_t(pixels), bytes.end());
  out[kBefore] = kLonger;
  for (int i = 0; i < 4; ++i) out[size_t(10 + i)] = uint8_t(start >> 8 * i);
  return out;
}

bool read_stb_header(std::span<const uint8_t> bytes, ImageSize& size, std::string& reason) {
  int channels = 0;
  const std::vector<uint8_t> other = rewritten_bmp(bytes);
  if (!other.empty()) bytes = other;
  if (bytes.size() > INT_MAX) return reason = "the file is over 2 GiB", false;
  if (stbi_info_from_memory(bytes.data(), int(bytes.size()), &size.width, &size.height, &channels)) {
    if (size.height < 0 && size.height > INT_MIN) size.height = -size.height;  // a BMP from the top
    return true;
  }
  const char* why = stbi_failure_reason();
  return reason = why ? why : "broken header", false;
}

Image decode_stb(std::span<const uint8_t> bytes, ImageSize size, std::string& reason) {
  const std::vector<uint8_t> other = rewritten_bmp(bytes);
  if (!other.empty()) bytes = other;
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
