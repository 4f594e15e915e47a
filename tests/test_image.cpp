// Picture files: every kind that is read, orientation, and what is said about damaged ones.
#include "data/image.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>

// jpeglib.h takes size_t and FILE from above.
#include <jpeglib.h>

#include "core/random.h"
#include "tests/files.h"

using namespace fovea;
using test::Folder;

namespace {

using Bytes = std::vector<uint8_t>;

Image smooth_picture(int width, int height) {
  Image image(width, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      image.at(x, y)[0] = uint8_t(255 * x / width);
      image.at(x, y)[1] = uint8_t(255 * y / height);
      image.at(x, y)[2] = uint8_t(128 + 60 * std::sin(0.1 * (x + y)));
    }
  return image;
}

double mean_difference(const Image& a, const Image& b) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(int(a.rgb[i]) - int(b.rgb[i]));
  return sum / double(a.rgb.size());
}

enum class Scans { one, progressive, one_per_component };

// A JPEG of the given kind through libjpeg: components are those of `space`.
Bytes jpeg(int width, int height, int components, J_COLOR_SPACE in, J_COLOR_SPACE out, Scans scans,
           const std::function<void(int, int, uint8_t*)>& pixel) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &data, &size);
  info.image_width = JDIMENSION(width), info.image_height = JDIMENSION(height);
  info.input_components = components, info.in_color_space = in;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, out);
  jpeg_set_quality(&info, 95, TRUE);
  if (scans == Scans::progressive) jpeg_simple_progression(&info);
  jpeg_scan_info of_component[4] = {};
  for (int i = 0; i < 4; ++i) of_component[i] = {1, {i}, 0, 63, 0, 0};
  if (scans == Scans::one_per_component) info.scan_info = of_component, info.num_scans = components;
  jpeg_start_compress(&info, TRUE);
  std::vector<uint8_t> row(size_t(width) * size_t(components));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) pixel(x, y, &row[size_t(x) * size_t(components)]);
    uint8_t* p = row.data();
    jpeg_write_scanlines(&info, &p, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes bytes(data, data + size);
  std::free(data);
  return bytes;
}

void put32(Bytes& out, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(uint8_t(v >> shift));
}
uint32_t crc32(const uint8_t* data, size_t size) {  // bit by bit
  uint32_t crc = ~0u;
  for (size_t i = 0; i < 8 * size; ++i) {
    crc ^= uint32_t(data[i / 8] >> i % 8 & 1);
    crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}
void chunk(Bytes& out, const char* name, const Bytes& data) {
  put32(out, uint32_t(data.size()));
  out.insert(out.end(), name, name + 4);
  out.insert(out.end(), data.begin(), data.end());
  put32(out, crc32(&out[out.size() - data.size() - 4], data.size() + 4));
}
size_t chunk_size(const Bytes& png, size_t at) {
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length = length << 8 | png[at + i];
  return length + 12;
}
// Makes the checksums right again, so that damage reaches the decoder.
void mend(Bytes& png) {
  for (size_t at = 8, n; at + 12 <= png.size() && (n = chunk_size(png, at)) <= png.size() - at; at += n) {
    Bytes sum;
    put32(sum, crc32(&png[at + 4], n - 8));
    std::copy(sum.begin(), sum.end(), png.begin() + std::ptrdiff_t(at + n - 4));
  }
}
// A PNG whose rows (without filter bytes) are stored, not compressed; or with packed data of its own.
Bytes png(uint32_t width, uint32_t height, int depth, int type, const std::vector<Bytes>& rows,
          const Bytes& palette = {}, const Bytes& alphas = {}, const Bytes& packed = {}) {
  Bytes out{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'}, header, data;
  put32(header, width), put32(header, height);
  for (int v : {depth, type, 0, 0, 0}) header.push_back(uint8_t(v));
  chunk(out, "IHDR", header);
  if (!palette.empty()) chunk(out, "PLTE", palette);
  if (!alphas.empty()) chunk(out, "tRNS", alphas);
  for (const Bytes& row : rows) data.push_back(0), data.insert(data.end(), row.begin(), row.end());
  Bytes zlib{
      0x78, 1, 1, uint8_t(data.size()), uint8_t(data.size() >> 8), uint8_t(~data.size()), uint8_t(~data.size() >> 8)};
  zlib.insert(zlib.end(), data.begin(), data.end());
  put32(zlib, 0);
  chunk(out, "IDAT", packed.empty() ? zlib : packed);
  chunk(out, "IEND", {});
  return out;
}

// So many times 258 zeros as zlib packs them: 13 bits each, of deflate's fixed codes (RFC 1951, 3.2.6).
Bytes packed_zeros(int times) {
  Bytes out{0x78, 1};
  int filled = 0;
  const auto put = [&](const char* bits) {  // in the order of the stream
    for (; *bits; ++bits, filled = (filled + 1) % 8) {
      if (filled == 0) out.push_back(0);
      out.back() = uint8_t(out.back() | (*bits == '1') << filled);
    }
  };
  put("110"), put("00110000");                                    // the last block, fixed codes; the byte 0 ...
  for (int i = 0; i < times; ++i) put("11000101"), put("00000");  // ... 258 times, from a distance of 1
  put("0000000");                                                 // the end
  put32(out, 0);
  return out;
}

Bytes exif(int orientation, bool little, bool wide = false) {  // wide: the orientation is a LONG
  Bytes tiff;
  const auto put = [&](uint32_t v, int n) {
    for (int i = 0; i < n; ++i) tiff.push_back(uint8_t(v >> 8 * (little ? i : n - 1 - i)));
  };
  for (int i = 0; i < 2; ++i) tiff.push_back(little ? 'I' : 'M');
  put(42, 2), put(8, 4), put(2, 2);
  put(0x010F, 2), put(2, 2), put(4, 4), put(0, 4);  // another entry first
  put(0x0112, 2), put(wide ? 4 : 3, 2), put(1, 4), put(uint32_t(orientation), wide ? 4 : 2), put(0, wide ? 0 : 2),
      put(0, 4);
  return tiff;
}
Bytes with_exif(const Bytes& jpeg, int orientation, bool little) {
  Bytes tiff{'E', 'x', 'i', 'f', 0, 0}, out(jpeg.begin(), jpeg.begin() + 2);
  for (uint8_t byte : exif(orientation, little)) tiff.push_back(byte);
  out.push_back(0xFF), out.push_back(0xE1);
  out.push_back(uint8_t((tiff.size() + 2) >> 8)), out.push_back(uint8_t(tiff.size() + 2));
  out.insert(out.end(), tiff.begin(), tiff.end());
  out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
  return out;
}

std::vector<int> pixel(const Image& image, int x, int y) {
  const uint8_t* p = image.at(x, y);
  return {p[0], p[1], p[2]};
}

std::string refusal(const Bytes& bytes) {
  return test::error_of(Code::data, [&] { decode_image(bytes, "a/b.jpg"); });
}
Bytes text_bytes(const std::string& s) { return Bytes(s.begin(), s.end()); }

}  // namespace

TEST_CASE("written pictures come back") {
  const Folder folder;
  const Image image = smooth_picture(67, 43);
  write_png(folder / "a.png", image);
  CHECK(read_image(folder / "a.png") == image);
  write_jpeg(folder / "a.jpg", image, 95);
  CHECK(mean_difference(read_image(folder / "a.jpg"), image) < 1.5);
  const ImageSize size = read_image_size(folder / "a.jpg");
  CHECK(size.width == 67);
  CHECK(size.height == 43);
  Bytes commented = encode_jpeg(image);  // its size comes late: behind a colour profile, say
  const Bytes comment = [] {
    Bytes part(2 + 65535, 'x');
    return part[0] = 0xFF, part[1] = 0xFE, part[2] = 0xFF, part[3] = 0xFF, part;
  }();
  commented.insert(commented.begin() + 2, comment.begin(), comment.end());
  CHECK(read_image_size(folder.write("late.jpg", commented)).width == 67);
  CHECK(encode_jpeg(image) == encode_jpeg(image));
  CHECK_THROWS_AS(write_png(folder / "no/such/folder.png", image), Error);
  CHECK(is_image_name("A/B.JPeG"));
  for (const char* name : {"a.gif", "jpg", "a.jp", "a.", "a"}) CHECK_FALSE(is_image_name(name));
  CHECK(is_unread_image_name("A/IMG_1.HEIC"));
  for (const char* name : {"a.jpg", "webp", "a"}) CHECK_FALSE(is_unread_image_name(name));
}

TEST_CASE("a picture takes the place of a file whole, or leaves nothing, and no other file is touched") {
  const Folder folder;
  folder.write("a.png", "old"), folder.write("a.png.part", "mine");
  std::filesystem::create_directories(folder.path / "b.png/full");  // a folder, which no file replaces
  const Image image = smooth_picture(8, 8);
  write_png(folder / "a.png", image);
  CHECK(read_image(folder / "a.png") == image);
  CHECK(read_bytes(folder / "a.png.part") == text_bytes("mine"));
  CHECK_THROWS_WITH(write_png(folder / "b.png", image), contains("b.png: could not be replaced"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 3);
}

TEST_CASE("JPEG: progressive, grey, CMYK and YCCK") {
  const Image image = smooth_picture(50, 30);
  const auto rgb = [&](int x, int y, uint8_t* p) { std::memcpy(p, image.at(x, y), 3); };
  const Bytes progressive = jpeg(50, 30, 3, JCS_RGB, JCS_YCbCr, Scans::progressive, rgb);
  CHECK(mean_difference(decode_image(progressive, "p"), image) < 2);
  Bytes many = jpeg(8, 8, 1, JCS_GRAYSCALE, JCS_GRAYSCALE, Scans::progressive, [](int, int, uint8_t* p) { *p = 9; });
  const uint8_t start[] = {0xFF, 0xDA};  // of a scan, which takes time for the whole picture
  const Bytes scan(std::find_end(many.begin(), many.end(), start, start + 2), many.end() - 2);
  for (int i = 0; i < 100; ++i) many.insert(many.end() - 2, scan.begin(), scan.end());
  test::require_words(refusal(many), {"a/b.jpg", "JPEG", "more than 100 scans"});
  const Image grey = decode_image(
      jpeg(20, 10, 1, JCS_GRAYSCALE, JCS_GRAYSCALE, Scans::one, [](int, int, uint8_t* p) { *p = 77; }), "g");
  CHECK(pixel(grey, 5, 5) == std::vector<int>{77, 77, 77});
  // libjpeg writes Adobe's marker for both, which means inverted inks.
  for (const J_COLOR_SPACE space : {JCS_CMYK, JCS_YCCK}) {
    const auto inks = [&](int x, int y, uint8_t* p) {
      for (int c = 0; c < 3; ++c) p[c] = image.at(x, y)[c];
      p[3] = 255;
    };
    CHECK(mean_difference(decode_image(jpeg(50, 30, 4, JCS_CMYK, space, Scans::one, inks), "c"), image) < 3);
  }
  // Without the marker, which is the first segment, inks are as they are.
  const auto as_they_are = [&](int x, int y, uint8_t* p) {
    for (int c = 0; c < 3; ++c) p[c] = uint8_t(255 - image.at(x, y)[c]);
    p[3] = 0;
  };
  Bytes plain = jpeg(50, 30, 4, JCS_CMYK, JCS_CMYK, Scans::one, as_they_are);
  REQUIRE((plain[3] == 0xEE && plain[5] == 14));
  plain.erase(plain.begin() + 2, plain.begin() + 18);
  CHECK(mean_difference(decode_image(plain, "c"), image) < 3);
}

TEST_CASE("JPEG of high quality keeps the colours of single pixels") {
  Image stripes(16, 16);
  for (int y = 0; y < 16; ++y)
    for (int x = 0; x < 16; ++x) stripes.at(x, y)[x % 2 ? 2 : 0] = 200;
  CHECK(mean_difference(decode_image(encode_jpeg(stripes, 90), "s"), stripes) < 5);
  CHECK(mean_difference(decode_image(encode_jpeg(stripes, 89), "s"), stripes) > 30);  // halved, for small files
  for (const int quality : {0, 101}) CHECK_THROWS_WITH(encode_jpeg(stripes, quality), contains("not in 1..100"));
}

TEST_CASE("EXIF orientation is honoured") {
  const Image image = smooth_picture(48, 32);
  const auto rgb = [&](int x, int y, uint8_t* p) { std::memcpy(p, image.at(x, y), 3); };
  const Bytes plain = jpeg(48, 32, 3, JCS_RGB, JCS_RGB, Scans::one, rgb);
  const Image stored = decode_image(plain, "p");
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image seen = decode_image(with_exif(plain, orientation, orientation % 2), "o");
    CHECK(seen.width == (orientation < 5 ? 48 : 32));
    // Where the stored upper left corner and its right neighbour are shown (TIFF 6.0, tag 274).
    const int w = seen.width - 1, h = seen.height - 1;
    const int corner[9][2] = {{}, {0, 0}, {w, 0}, {w, h}, {0, h}, {0, 0}, {w, 0}, {w, h}, {0, h}};
    const int step[9][2] = {{}, {1, 0}, {-1, 0}, {-1, 0}, {1, 0}, {0, 1}, {0, 1}, {0, -1}, {0, -1}};
    const auto [x, y] = corner[orientation];
    INFO("orientation " << orientation);
    CHECK(pixel(seen, x, y) == pixel(stored, 0, 0));
    CHECK(pixel(seen, x + 9 * step[orientation][0], y + 9 * step[orientation][1]) == pixel(stored, 9, 0));
  }
  CHECK(decode_image(with_exif(plain, 6, true), "o", {.orient = false}) == stored);
  CHECK(decode_image(with_exif(plain, 99, true), "o") == stored);
  Bytes no_tiff = with_exif(plain, 6, true);
  ++no_tiff[14];  // the 42 behind II
  CHECK(decode_image(no_tiff, "o") == stored);
}

TEST_CASE("EXIF orientation is honoured in PNG, too, before the pixels or after them") {
  const Folder folder;
  const Bytes plain = png(3, 2, 8, 0, {{10, 20, 30}, {40, 50, 60}});
  for (const bool last : {false, true}) {
    Bytes part, turned = plain;
    chunk(part, "eXIf", exif(6, last));
    turned.insert(last ? turned.end() - 12 : turned.begin() + 33, part.begin(), part.end());
    const Image seen = decode_image(turned, "t");
    CHECK(seen.width == 2);
    CHECK(pixel(seen, 0, 0) == std::vector<int>{40, 40, 40});
    CHECK(pixel(seen, 1, 2) == std::vector<int>{30, 30, 30});
    CHECK(decode_image(turned, "t", {.orient = false}) == decode_image(plain, "p"));
    write_bytes(folder / "t.png", turned);
    CHECK(read_image_size(folder / "t.png").width == 2);
    CHECK(read_image_size(folder / "t.png", {.orient = false}).width == 3);
  }
  for (const Bytes& prefix : {Bytes{}, Bytes{'E', 'x', 'i', 'f', 0, 0}}) {  // a LONG, and as it is in a JPEG
    Bytes part, turned = plain, tiff = exif(6, false, prefix.empty());
    tiff.insert(tiff.begin(), prefix.begin(), prefix.end());
    chunk(part, "eXIf", tiff);
    turned.insert(turned.begin() + 33, part.begin(), part.end());
    CHECK(decode_image(turned, "t").width == 2);
  }
}

TEST_CASE("PNG: 16 bits, palette, grey, transparency over white") {
  const Image deep = decode_image(png(1, 1, 16, 2, {{0x12, 0x34, 0xAB, 0xCD, 0xFF, 0x00}}), "deep");
  CHECK(pixel(deep, 0, 0) == std::vector<int>{0x12, 0xAB, 0xFF});
  const Image palette = decode_image(png(3, 1, 8, 3, {{1, 0, 2}}, {1, 2, 3, 40, 50, 60, 7, 8, 9}), "palette");
  CHECK(pixel(palette, 0, 0) == std::vector<int>{40, 50, 60});
  CHECK(pixel(palette, 2, 0) == std::vector<int>{7, 8, 9});
  Bytes places(256);
  std::iota(places.begin(), places.end(), uint8_t(0));
  const Image short_palette = decode_image(png(256, 1, 8, 3, {places}, {1, 2, 3, 40, 50, 60}), "of two colours");
  CHECK(pixel(short_palette, 1, 0) == std::vector<int>{40, 50, 60});
  for (int x = 2; x < 256; ++x) REQUIRE(pixel(short_palette, x, 0) == std::vector<int>{0, 0, 0});
  const Image keyed = decode_image(png(2, 1, 8, 3, {{0, 1}}, {10, 20, 30, 40, 50, 60}, {0, 255}), "keyed");
  CHECK(pixel(keyed, 0, 0) == std::vector<int>{255, 255, 255});
  CHECK(pixel(keyed, 1, 0) == std::vector<int>{40, 50, 60});
  const Image alpha = decode_image(png(2, 1, 8, 6, {{200, 100, 0, 255, 200, 100, 0, 51}}), "alpha");
  CHECK(pixel(alpha, 0, 0) == std::vector<int>{200, 100, 0});
  CHECK(pixel(alpha, 1, 0) == std::vector<int>{244, 224, 204});
  CHECK(pixel(decode_image(png(2, 1, 1, 0, {{0x40}}), "bits"), 1, 0) == std::vector<int>{255, 255, 255});
  CHECK(pixel(decode_image(png(1, 1, 8, 4, {{60, 0}}), "grey"), 0, 0) == std::vector<int>{255, 255, 255});
}

TEST_CASE("BMP and binary PNM") {
  CHECK(pixel(decode_image(text_bytes("P6 # red, green\n2 1\n255\n\xFF\x01\x02\x03\xFE\x04"), "p"), 1, 0) ==
        std::vector<int>{3, 254, 4});
  CHECK(pixel(decode_image(text_bytes("P5\n1 1 255\n\x2A"), "p"), 0, 0) == std::vector<int>{42, 42, 42});
  // 0..15, 0..4095 and 16 bits, the upper byte first.
  CHECK(pixel(decode_image(text_bytes("P6 1 1 15\n\x02\x0F\x08"), "p"), 0, 0) == std::vector<int>{34, 255, 136});
  CHECK(pixel(decode_image(text_bytes("P5 1 1 4095\n\x08\x10"), "p"), 0, 0) == std::vector<int>{129, 129, 129});
  CHECK(pixel(decode_image(text_bytes("P6 1 1 65535\n\x12\xFF\x03\xE8\xFF\x01"), "p"), 0, 0) ==
        std::vector<int>{0x12, 3, 0xFF});
  test::require_words(refusal(text_bytes("P5 2 1 65535\nabc")), {"PNM", "cut-off", "16 bytes"});
  test::require_words(refusal(text_bytes("P5 1 1 70000\nabc")), {"PNM", "70000"});
  Bytes bmp{'B', 'M', 62, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0};
  bmp.resize(54);
  for (int v : {1, 2, 3, 0, 4, 5, 6, 0}) bmp.push_back(uint8_t(v));  // from the bottom, blue first
  CHECK(pixel(decode_image(bmp, "b"), 0, 0) == std::vector<int>{6, 5, 4});
  Bytes wide = bmp;  // 32 bits a pixel: the fourth byte means nothing
  wide[28] = 32, wide[57] = wide[61] = 128;
  CHECK(pixel(decode_image(wide, "b"), 0, 0) == std::vector<int>{6, 5, 4});
  wide[10] = 138, wide[14] = 124, wide[30] = 3;  // with masks of red, green, blue and alpha in its header, it is alpha
  wide.insert(wide.begin() + 54, 84, 0);
  for (size_t at : {56, 59, 62, 69}) wide[at] = 0xFF;
  CHECK(pixel(decode_image(wide, "b"), 0, 0) == std::vector<int>{130, 130, 129});
  Bytes packed = bmp;
  packed[28] = 8, packed[30] = 1;  // 8 bits with runs
  test::require_words(refusal(packed), {"a/b.jpg: is a BMP of a kind that is not read", "convert it"});
  Bytes from_top = bmp;
  for (size_t i = 22; i < 26; ++i) from_top[i] = i == 22 ? 0xFE : 0xFF;  // a height of -2
  CHECK(pixel(decode_image(from_top, "b"), 0, 0) == std::vector<int>{3, 2, 1});
  const Folder folder;
  CHECK(read_image_size(folder.write("top.bmp", from_top)).height == 2);
  for (Bytes* cut : {&bmp, &from_top}) {
    cut->resize(58);
    test::require_words(refusal(*cut), {"a/b.jpg", "BMP", "58 bytes"});
  }
  for (size_t i = 22; i < 26; ++i) from_top[i] = i == 25 ? 0x80 : 0;  // -2^31
  test::require_words(refusal(from_top), {"a/b.jpg", "-2147483648", "leave it out"});
  test::require_words(refusal(text_bytes("P6\n2 2\n255\nabcdef")), {"PNM", "cut-off"});
  test::require_words(refusal(text_bytes("P3\n1 1\n255\n1 2 3")), {"PNM", "binary"});
}

TEST_CASE("BMP with a header of 52 or 56 bytes") {
  const auto bmp = [](int header, int bits, int gap, const Bytes& palette, const Bytes& pixels) {  // 2 x 1
    const int offset = 14 + header + int(palette.size()) + gap;
    Bytes out{'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, uint8_t(offset), 0, 0, 0, uint8_t(header), 0, 0, 0};
    for (int v : {2, 0, 0, 0, 1, 0, 0, 0, 1, 0, bits, 0, bits == 16 || bits == 32 ? 3 : 0}) out.push_back(uint8_t(v));
    out.resize(size_t(14 + header));
    if (bits == 32) out[54] = out[59] = out[64] = 0xFF;                           // red, green, blue
    if (bits == 32 && header == 56) out[69] = 0xFF;                               // alpha
    if (bits == 16) out[55] = 0xF8, out[58] = 0xE0, out[59] = 7, out[62] = 0x1F;  // 5, 6 and 5 bits
    out.insert(out.end(), palette.begin(), palette.end());
    out.resize(size_t(offset));
    out.insert(out.end(), pixels.begin(), pixels.end());
    return out;
  };
  const Folder folder;
  const auto check = [&](const Bytes& bytes, const std::vector<int>& left, const std::vector<int>& right) {
    const Image image = decode_image(bytes, "b");
    REQUIRE((image.width == 2 && image.height == 1));
    CHECK(pixel(image, 0, 0) == left);
    CHECK(pixel(image, 1, 0) == right);
    CHECK(read_image_size(folder.write("b.bmp", bytes)).width == 2);
    test::require_words(refusal(Bytes(bytes.begin(), bytes.end() - 1)), {"a/b.jpg", "cut-off BMP"});
    test::require_words(refusal(Bytes(bytes.begin(), bytes.begin() + 50)), {"a/b.jpg", "cut-off BMP"});
  };
  for (const int header : {52, 56})
    for (const int gap : {0, 2}) {
      INFO(header << " " << gap);
      check(bmp(header, 24, gap, {}, {1, 2, 3, 4, 5, 6, 0, 0}), {3, 2, 1}, {6, 5, 4});  // blue first
      check(bmp(header, 16, gap, {}, {0x00, 0xF8, 0xE0, 0x07}), {255, 0, 0}, {0, 255, 0});
      if (gap == 0) check(bmp(header, 8, 0, {1, 2, 3, 0, 4, 5, 6, 0}, {1, 0, 0, 0}), {6, 5, 4}, {3, 2, 1});
      const std::vector<int> over_white = header == 56 ? std::vector<int>{130, 130, 129} : std::vector<int>{6, 5, 4};
      check(bmp(header, 32, gap, {}, {6, 5, 4, 128, 1, 2, 3, 255}), over_white, {1, 2, 3});
    }
  for (const int header : {40, 52, 56, 108, 124}) {  // a colour that the palette lacks is black, as in other programs
    INFO(header);
    check(bmp(header, 8, 0, {1, 2, 3, 0, 4, 5, 6, 0}, {1, 2, 0, 0}), {6, 5, 4}, {0, 0, 0});
    check(bmp(header, 4, 0, {1, 2, 3, 0, 4, 5, 6, 0}, {0x1F, 0, 0, 0}), {6, 5, 4}, {0, 0, 0});
    check(bmp(header, 1, 0, {1, 2, 3, 0}, {0x40, 0, 0, 0}), {3, 2, 1}, {0, 0, 0});
    check(bmp(header, 1, 0, {}, {0x40, 0, 0, 0}), {0, 0, 0}, {0, 0, 0});
    Bytes inside = bmp(header, 8, 0, {1, 2, 3, 0}, {0, 0, 0, 0});
    inside[10] = 30;
    const char* reason = header == 52 ? "unknown" : "its pixels begin at byte 30, inside its header";
    test::require_words(refusal(inside), {"a/b.jpg", "BMP", reason});
  }
}

TEST_CASE("BMP of OS/2") {
  const auto bmp = [](int bits, const Bytes& palette, const Bytes& pixels) {  // 2 x 1
    const size_t offset = 26 + palette.size();
    Bytes out{'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, uint8_t(offset), uint8_t(offset >> 8), 0, 0};
    for (int v : {12, 0, 0, 0, 2, 0, 1, 0, 1, 0, bits, 0}) out.push_back(uint8_t(v));
    out.insert(out.end(), palette.begin(), palette.end()), out.insert(out.end(), pixels.begin(), pixels.end());
    return decode_image(out, "b");
  };
  Bytes palette(3 * 256);
  for (size_t i = 0; i < palette.size(); ++i) palette[i] = uint8_t(i / 3 + i % 3);
  const Image last = bmp(8, palette, {250, 253, 0, 0}), two = bmp(1, {1, 2, 3, 4, 5, 6}, {0x40, 0, 0, 0});
  CHECK((pixel(last, 0, 0) == std::vector{252, 251, 250} && pixel(last, 1, 0) == std::vector{255, 254, 253}));
  CHECK((pixel(two, 0, 0) == std::vector{3, 2, 1} && pixel(two, 1, 0) == std::vector{6, 5, 4}));
  const Image plain = bmp(24, {}, {1, 2, 3, 4, 5, 6, 0, 0});
  CHECK((pixel(plain, 0, 0) == std::vector{3, 2, 1} && pixel(plain, 1, 0) == std::vector{6, 5, 4}));
}

TEST_CASE("damaged and foreign files are refused with the reason") {
  const Bytes good = encode_jpeg(smooth_picture(200, 150));
  for (const double part : {0.02, 0.3, 0.6, 0.9}) {
    const Bytes cut(good.begin(), good.begin() + std::ptrdiff_t(part * double(good.size())));
    test::require_words(refusal(cut), {"a/b.jpg", "damaged or cut-off JPEG", "copy it again"});
  }
  const auto rgb = [](int x, int y, uint8_t* p) { p[0] = uint8_t(x * y), p[1] = uint8_t(x), p[2] = uint8_t(y); };
  const Bytes progressive = jpeg(200, 150, 3, JCS_RGB, JCS_YCbCr, Scans::progressive, rgb);
  for (const double part : {0.2, 0.5, 0.95})
    CHECK_FALSE(
        refusal(Bytes(progressive.begin(), progressive.begin() + std::ptrdiff_t(part * double(progressive.size()))))
            .empty());
  // Cut before its second scan begins, only brightness is left.
  const Bytes scans = jpeg(200, 150, 3, JCS_RGB, JCS_YCbCr, Scans::one_per_component, rgb);
  CHECK(refusal(scans).empty());
  const Bytes marker{0xFF, 0xDA};
  const auto first = std::search(scans.begin(), scans.end(), marker.begin(), marker.end());
  const auto second = std::search(first + 2, scans.end(), marker.begin(), marker.end());
  REQUIRE(second != scans.end());
  test::require_words(refusal(Bytes(scans.begin(), second)), {"damaged or cut-off JPEG"});
  const Bytes whole = encode_png(smooth_picture(100, 80));
  Bytes flipped = png(3, 1, 8, 0, {{1, 2, 3}});  // as stored: its first chunks take 33 bytes, a row begins 16 further
  ++flipped[33 + 8 + 8];
  test::require_words(refusal(flipped), {"a/b.jpg", "damaged or cut-off PNG", "checksum", "byte 33"});
  test::require_words(refusal(Bytes(whole.begin(), whole.end() - 12)), {"cut-off PNG", "it ends after"});  // no IEND
  for (const double part : {0.3, 0.9})
    test::require_words(refusal(Bytes(whole.begin(), whole.begin() + std::ptrdiff_t(part * double(whole.size())))),
                        {"PNG"});
  test::require_words(refusal(text_bytes("hello world\n")), {"a/b.jpg", "is text", "hello world"});
  test::require_words(refusal({}), {"empty"});
  test::require_words(refusal(text_bytes("GIF89a......")), {"GIF", "convert"});
  test::require_words(refusal(text_bytes("RIFF....WEBPVP8 ")), {"WebP"});
  test::require_words(refusal(text_bytes("II*.....")), {"is a TIFF", "convert"});
  test::require_words(refusal({'M', 'M', 0, '*', 0, 0}), {"is a TIFF"});
  test::require_words(refusal(text_bytes("....ftypheic")), {"HEIC", "convert"});
  test::require_words(refusal(text_bytes("version https://git-lfs.github.com/spec/v1")), {"git lfs pull"});
  test::require_words(refusal({1, 2, 3, 4, 200, 201}), {"not a JPEG, PNG, BMP or PNM"});
  const Folder folder;
  test::require_words(test::error_of(Code::data, [&] { read_image(folder / "none.jpg"); }),
                      {"none.jpg", "No such file"});
  test::require_words(test::error_of(Code::data, [&] { read_image(folder.path.string()); }), {"is a folder"});
}

TEST_CASE("a PNG's packed data may not be much more than its pixels") {
  const auto dot = [](int times) { return png(1, 1, 8, 0, {}, {}, {}, packed_zeros(times)); };
  CHECK(pixel(decode_image(dot(2), "dot"), 0, 0) == std::vector<int>{0, 0, 0});
  test::require_words(test::error_of(Code::data, [&] { decode_image(dot(20'000), "bomb"); }), {"bomb", "damaged"});
}

TEST_CASE("a huge header is refused before memory is taken") {
  const Bytes header = png(60000, 60000, 8, 2, {});
  test::require_words(refusal(header), {"a/b.jpg", "60000 x 60000", "limit of 200 million", "shrink it"});
  test::require_words(
      test::error_of(Code::data, [&] { decode_image(encode_jpeg(Image(100, 100)), "x", {.max_pixels = 9999}); }),
      {"100 x 100"});
  CHECK(decode_image(encode_jpeg(Image(100, 100)), "x", {.max_pixels = 10000}).width == 100);
}

TEST_CASE("random damage ends in an error or a picture, never worse") {
  const Image image = smooth_picture(40, 30);
  for (const Bytes& good : {encode_jpeg(image), encode_png(image)})
    for (uint64_t trial = 0; trial < 200; ++trial) {
      Dice dice(1, trial);
      Bytes bad = good;
      for (int64_t i = dice.integer(1, 8); i > 0; --i)
        bad[size_t(dice.integer(2, int64_t(bad.size()) - 1))] = uint8_t(dice.integer(0, 255));
      if (trial % 2 == 0 && bad[1] == 'P') mend(bad);
      try {
        const Image out = decode_image(bad, "bad", {.max_pixels = 10'000'000});
        REQUIRE(out.rgb.size() == size_t(out.width) * size_t(out.height) * 3);
      } catch (const Error& error) { REQUIRE(error.code == Code::data); }
    }
}
