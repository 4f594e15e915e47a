// Finds out what a file is, checks it before memory is taken, turns it upright, and says clearly what is wrong with it.
#include "data/image.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/words.h"
#include "data/codecs.h"

namespace fovea {
namespace {

enum class Kind { jpeg, png, bmp, pnm };
using Bytes = std::span<const uint8_t>;

bool begins(Bytes bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() && std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

[[noreturn]] void reject(const std::string& name, const std::string& what, const std::string& hint) {
  fail(Code::data, name + ": " + what + "; " + hint);
}

// Names what the file is instead of a picture.
[[noreturn]] void reject_unknown(Bytes bytes, const std::string& name) {
  const char* convert = "convert it to JPEG or PNG";
  if (bytes.empty()) reject(name, "the file is empty", "copy it again or leave it out");
  if (begins(bytes, "GIF8")) reject(name, "is a GIF", convert);
  if (begins(bytes, "WEBP", 8)) reject(name, "is a WebP picture", convert);
  if (begins(bytes, "II*") || begins(bytes, std::string_view("MM\0*", 4))) reject(name, "is a TIFF", convert);
  if (begins(bytes, "ftyp", 4)) reject(name, "is a HEIC, AVIF or video file", convert);
  if (begins(bytes, "version https://git-lfs")) reject(name, "is a Git LFS pointer", "run `git lfs pull`");
  if (bytes[0] == 'P' && bytes.size() > 1 && bytes[1] >= '1' && bytes[1] <= '7')
    reject(name, "is a PNM of a kind that is not read (only binary P5 and P6)", convert);
  const auto start = bytes.first(std::min<size_t>(bytes.size(), 24));
  const bool is_text = std::all_of(start.begin(), start.end(), [](uint8_t c) { return c >= 32 || std::isspace(c); });
  std::string words(start.begin(), start.end());
  std::replace_if(
      words.begin(), words.end(), [](unsigned char c) { return c < 32; }, ' ');
  reject(name, is_text ? "is text, not a picture: it begins with \"" + words + "\"" : "is not a JPEG, PNG, BMP or PNM",
         "replace it by the picture or leave it out");
}

Kind kind_of(Bytes bytes, const std::string& name) {
  if (begins(bytes, "\xFF\xD8\xFF")) return Kind::jpeg;
  if (begins(bytes, "\x89PNG\r\n\x1A\n")) return Kind::png;
  if (begins(bytes, "BM") && bytes.size() > 30) {
    if (bytes[14] != 12 && bytes[30] != 0 && bytes[30] != 3)  // runs, or a JPEG or PNG inside
      reject(name, "is a BMP of a kind that is not read (only without compression)", "convert it to JPEG or PNG");
    return Kind::bmp;
  }
  if (begins(bytes, "P5") || begins(bytes, "P6")) return Kind::pnm;
  reject_unknown(bytes, name);
}

[[noreturn]] void reject_damaged(const char* kind, const std::string& name, const std::string& reason) {
  reject(name, text("damaged or cut-off ", kind, " (", reason, ")"), "copy it again or leave it out");
}

// stb_image reads zeros past the end of a BMP, and a palette of less than no colours as it finds it in memory: what is
// wrong with the header's sizes, "" where nothing is.
std::string bmp_fault(Bytes bytes, ImageSize size) {
  const auto little = [&](size_t at, int n) { return detail::little_endian(bytes, at, n); };
  const size_t bits = little(14, 4) == 12 ? little(24, 2) : little(28, 2);
  const size_t start = little(10, 4), end = start + (size_t(size.width) * bits + 31) / 32 * 4 * size_t(size.height);
  if (start < 14 + little(14, 4)) return text("its pixels begin at byte ", start, ", inside its header");
  return end > bytes.size() ? text("it ends after ", bytes.size(), " bytes") : "";
}

uint32_t big32(Bytes bytes, size_t at) {
  return uint32_t(bytes[at]) << 24 | uint32_t(bytes[at + 1]) << 16 | uint32_t(bytes[at + 2]) << 8 | bytes[at + 3];
}

uint32_t crc32(Bytes bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xEDB88320u : 0);
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (uint8_t byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) & 255];
  return ~crc;
}

// Calls f(at, length) for each whole part of a PNG, whose data of `length` bytes begin 8 bytes after `at`, until one
// gives true: whether there was such a part.
template <class F> bool find_part(Bytes bytes, const F& f) {
  for (size_t at = 8; at + 12 <= bytes.size();) {
    const size_t length = big32(bytes, at);
    if (length > bytes.size() - at - 12) break;
    if (f(at, length)) return true;
    at += length + 12;
  }
  return false;
}

// stb_image looks at no checksum: what is wrong with a PNG's parts (length, type, data, CRC), "" where nothing is.
std::string png_fault(Bytes bytes) {
  std::string fault;
  const bool ended = find_part(bytes, [&](size_t at, size_t length) {
    if (crc32(bytes.subspan(at + 4, length + 4)) != big32(bytes, at + 8 + length))
      fault = text("the checksum of its part at byte ", at, " is wrong");
    return !fault.empty() || begins(bytes, "IEND", at + 4);
  });
  return ended ? fault : text("it ends after ", bytes.size(), " bytes");
}

// stb_image takes the colours that a palette lacks as it finds them in memory: the file with all 256, the further ones
// black, as other programs have them; empty where it has no palette, or one of 256.
std::vector<uint8_t> with_whole_palette(Bytes bytes) {
  std::vector<uint8_t> out;
  constexpr size_t kWhole = 3 * 256;
  find_part(bytes, [&](size_t at, size_t length) {
    if (!begins(bytes, "PLTE", at + 4) || length == 0 || length % 3 != 0 || length >= kWhole) return false;
    const Bytes before = bytes.first(at + 8 + length), after = bytes.subspan(at + 8 + length);
    out.assign(before.begin(), before.end());
    out[at + 2] = kWhole >> 8, out[at + 3] = kWhole & 255;
    out.resize(at + 8 + kWhole);
    out.insert(out.end(), after.begin(), after.end());
    return true;
  });
  return out;
}

int png_orientation(Bytes bytes) {  // its part eXIf may be anywhere
  int orientation = 1;
  find_part(bytes, [&](size_t at, size_t length) {
    if (!begins(bytes, "eXIf", at + 4)) return false;
    Bytes tiff = bytes.subspan(at + 8, length);
    if (begins(tiff, std::string_view("Exif\0\0", 6))) tiff = tiff.subspan(6);  // of a JPEG, copied whole
    return orientation = detail::exif_orientation(tiff), true;
  });
  return orientation;
}

struct PnmHeader {
  ImageSize size;
  size_t greatest = 0, start = 0;  // the value of white; where the samples begin
};

PnmHeader read_pnm_header(Bytes bytes) {
  size_t at = 2, numbers[3] = {};  // '#' begins a comment
  for (size_t& number : numbers) {
    while (at < bytes.size() && (std::isspace(bytes[at]) || bytes[at] == '#'))
      if (bytes[at++] == '#')
        while (at < bytes.size() && bytes[at] != '\n') ++at;
    for (; at < bytes.size() && std::isdigit(bytes[at]); ++at)
      number = std::min<size_t>(number * 10 + (bytes[at] - '0'), INT_MAX);
  }
  return {{int(numbers[0]), int(numbers[1])}, numbers[2], at + 1};
}

// Values above 255 take two bytes, the upper one first.
Image decode_pnm(Bytes bytes, std::string& reason) {
  const auto [size, greatest, start] = read_pnm_header(bytes);
  const size_t channels = bytes[1] == '6' ? 3 : 1, wide = greatest > 255 ? 2 : 1;
  if (greatest < 1 || greatest > 65535) return reason = text("its greatest value is ", greatest), Image();
  if (start + size_t(size.width) * size_t(size.height) * channels * wide > bytes.size())
    return reason = text("it ends after ", bytes.size(), " bytes"), Image();
  std::vector<uint8_t> eight_bits(greatest + 1);
  for (size_t v = 0; v <= greatest; ++v)
    eight_bits[v] = uint8_t(greatest == 65535 ? v >> 8 : (v * 255 + greatest / 2) / greatest);
  Image image(size.width, size.height);
  const uint8_t* from = bytes.data() + start;
  for (size_t i = 0; i < image.rgb.size(); i += 3)
    for (size_t c = 0; c < 3; ++c) {
      if (c >= channels) {
        image.rgb[i + c] = image.rgb[i];
        continue;
      }
      const size_t v = wide == 2 ? size_t(from[0]) << 8 | from[1] : from[0];
      image.rgb[i + c] = eight_bits[std::min(v, greatest)];
      from += wide;
    }
  return image;
}

// EXIF orientations 2..8: each pixel (x, y) of the upright picture comes from this place of the stored one.
Image turned(const Image& image, int orientation) {
  if (orientation <= 1) return image;
  const bool swap = orientation >= 5;
  Image out(swap ? image.height : image.width, swap ? image.width : image.height);
  const int w = image.width - 1, h = image.height - 1;
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      const int sx = swap ? y : x, sy = swap ? x : y;
      const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
      const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
      std::memcpy(out.at(x, y), image.at(mirror_x ? w - sx : sx, mirror_y ? h - sy : sy), 3);
    }
  return out;
}

const char* name_of(Kind kind) {
  const char* names[] = {"JPEG", "PNG", "BMP", "PNM"};
  return names[int(kind)];
}

void check_size(ImageSize size, const std::string& name, const ReadOptions& options) {
  check(Code::data, size.width > 0 && size.height > 0, name, ": its header says ", size.width, " x ", size.height,
        " pixels; leave it out");
  check(Code::data, int64_t(size.width) * size.height <= options.max_pixels, name, ": its header says ", size.width,
        " x ", size.height, " pixels, more than the limit of ", options.max_pixels / 1'000'000,
        " million; shrink it or leave it out");
}

detail::ImageHeader read_header(Bytes bytes, Kind kind, const std::string& name) {
  detail::ImageHeader header;
  std::string reason;
  if (kind == Kind::png && begins(bytes, "IHDR", 12) && bytes.size() >= 24) {  // stb_image calls a large one unknown
    header.size = {int(big32(bytes, 16) & INT_MAX), int(big32(bytes, 20) & INT_MAX)};
    header.orientation = png_orientation(bytes);
    return header;
  }
  if (kind == Kind::pnm) return header.size = read_pnm_header(bytes).size, header;
  const bool ok = kind == Kind::jpeg ? detail::read_jpeg_header(bytes, header, reason)
                                     : detail::read_stb_header(bytes, header.size, reason);
  if (!ok) reject_damaged(name_of(kind), name, reason);
  return header;
}

bool ends_like(const std::string& path, const std::string& endings) {
  const std::vector<std::string> all = split(endings, ' ');
  return std::find(all.begin(), all.end(), lowered(std::filesystem::path(path).extension().string())) != all.end();
}

}  // namespace

Image decode_image(Bytes bytes, const std::string& name, const ReadOptions& options) {
  const Kind kind = kind_of(bytes, name);
  detail::ImageHeader header;
  std::string reason;
  Image image;
  if (kind == Kind::jpeg) {
    image = detail::decode_jpeg(
        bytes, [&](ImageSize size) { check_size(size, name, options); }, header, reason);
  } else {
    header = read_header(bytes, kind, name);
    check_size(header.size, name, options);
    if (kind == Kind::png) reason = png_fault(bytes);
    if (kind == Kind::bmp) reason = bmp_fault(bytes, header.size);
    std::vector<uint8_t> whole;
    if (kind == Kind::png && reason.empty()) whole = with_whole_palette(bytes);
    if (kind == Kind::pnm) image = decode_pnm(bytes, reason);
    else if (reason.empty()) image = detail::decode_stb(whole.empty() ? bytes : whole, header.size, reason);
  }
  if (image.empty()) reject_damaged(name_of(kind), name, reason);
  return options.orient && header.orientation > 1 ? turned(image, header.orientation) : image;
}

Image read_image(const std::string& path, const ReadOptions& options) {
  return decode_image(read_bytes(path), path, options);
}

ImageSize read_image_size(const std::string& path, const ReadOptions& options) {
  constexpr size_t kBeginning = 1 << 15;  // has the header of most JPEGs; other kinds are read whole
  std::vector<uint8_t> bytes = read_bytes(path, {.most = kBeginning});
  detail::ImageHeader header;
  std::string reason;
  const bool found = kind_of(bytes, path) == Kind::jpeg && detail::read_jpeg_header(bytes, header, reason);
  if (!found) {
    if (bytes.size() == kBeginning) bytes = read_bytes(path);
    header = read_header(bytes, kind_of(bytes, path), path);
  }
  check_size(header.size, path, options);
  if (options.orient && header.orientation >= 5) return {header.size.height, header.size.width};
  return header.size;
}

bool is_hidden(const std::string& path) { return std::filesystem::path(path).filename().string().starts_with('.'); }

bool is_image_name(const std::string& path) { return ends_like(path, kImageEndings); }
bool is_unread_image_name(const std::string& path) {
  return ends_like(path, ".webp .tif .tiff .gif .heic .heif .avif");
}

std::vector<uint8_t> encode_png(const Image& image) {
  check(!image.empty(), "encode_png: the picture has no pixels");
  return detail::encode_png(image);
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  check(!image.empty(), "encode_jpeg: the picture has no pixels");
  check(quality >= 1 && quality <= 100, "encode_jpeg: quality ", quality, " is not in 1..100");
  std::string reason;
  std::vector<uint8_t> bytes = detail::encode_jpeg(image, quality, reason);
  check(!bytes.empty(), "encode_jpeg: ", reason);
  return bytes;
}

void write_png(const std::string& path, const Image& image) { write_bytes(path, encode_png(image)); }
void write_jpeg(const std::string& path, const Image& image, int quality) {
  write_bytes(path, encode_jpeg(image, quality));
}

static std::vector<uint8_t> read_pipe(const std::string& path, uint64_t longest) {
  std::ifstream in(path, std::ios::binary);
  check(Code::data, in.good(), path, ": cannot be opened: ", std::strerror(errno));
  std::vector<uint8_t> bytes, piece(1 << 16);
  while (in.good()) {
    const std::streamsize n = in.read(reinterpret_cast<char*>(piece.data()), std::streamsize(piece.size())).gcount();
    check(Code::data, bytes.size() + size_t(n) <= longest, path, ": is a pipe that goes on after ", longest >> 20,
          " MiB; if it is the right one, make it a file");
    bytes.insert(bytes.end(), piece.begin(), piece.begin() + n);
  }
  return bytes;
}

std::vector<uint8_t> read_bytes(const std::string& path, const ReadLimits& limits) {
  std::error_code error;
  check(Code::data, !std::filesystem::is_directory(path, error), path, ": is a folder, not a file");
  const bool pipe = std::filesystem::is_fifo(path, error);  // has no size, and is read once
  check(Code::data, !pipe || limits.most == ~size_t{0}, path,
        ": is a pipe, which can be read only once; make it a file");
  if (pipe) return read_pipe(path, limits.pipe);
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  check(Code::data, in.good(), path, ": cannot be opened: ", std::strerror(errno));
  const std::streamoff size = in.tellg();
  check(Code::data, size >= 0 && size < std::streamoff{1} << 40, path, ": is not a file");
  std::vector<uint8_t> bytes(std::min(static_cast<size_t>(size), limits.most));
  in.seekg(0).read(reinterpret_cast<char*>(bytes.data()), std::streamsize(bytes.size()));
  check(Code::data, in.good(), path, ": cannot be read: ", std::strerror(errno));
  return bytes;
}

void write_bytes(const std::string& path, Bytes bytes) {
  write_file_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, false);
}

}  // namespace fovea
