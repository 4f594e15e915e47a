// JPEG through libjpeg(-turbo): decoding with EXIF orientation and CMYK, encoding. libjpeg reports errors by a jump, so
// nothing with a destructor lives between setjmp() and the calls.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// jpeglib.h takes size_t and FILE from <cstdio>, jerror.h its types from jpeglib.h.
#include <jpeglib.h>

#include <jerror.h>

#include "data/codecs.h"

namespace fovea::detail {
namespace {

struct Errors {
  jpeg_error_mgr base;  // first: libjpeg hands back a pointer to it
  std::jmp_buf jump;
  bool several_scans = false;  // then an early end may fall between two of them, where libjpeg only warns
  char message[JMSG_LENGTH_MAX] = "";
};

[[noreturn]] void give_up(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->jump, 1);
}

// Warnings that mean lost picture data are errors here; those about odd headers are not.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  const bool several_scans = reinterpret_cast<Errors*>(info->err)->several_scans;
  const bool lost = code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC ||
                    code == JWRN_ARITH_BAD_CODE || (code == JWRN_JPEG_EOF && several_scans);
  if (lost) give_up(info);
}

// A small file can have thousands of scans, each of which takes time for the whole picture; encoders write about ten.
void count_scans(j_common_ptr info) {
  constexpr int kMost = 100;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMost) return;
  auto* errors = reinterpret_cast<Errors*>(info->err);
  std::snprintf(errors->message, sizeof errors->message, "it has more than %d scans", kMost);
  std::longjmp(errors->jump, 1);
}

void use(Errors& errors, jpeg_error_mgr*& slot) {
  slot = jpeg_std_error(&errors.base);
  errors.base.error_exit = give_up;
  errors.base.emit_message = on_message;
}

void begin(jpeg_decompress_struct& info, std::span<const uint8_t> bytes, ImageHeader& header) {
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&info, TRUE);
  header.size = {int(info.image_width), int(info.image_height)};
  header.orientation = 1;
  for (auto* m = info.marker_list; m && header.orientation == 1; m = m->next)
    if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && std::memcmp(m->data, "Exif\0\0", 6) == 0)
      header.orientation = exif_orientation({m->data + 6, m->data_length - 6});
}

// Ink to light. Files with Adobe's marker store the inks inverted.
void cmyk_to_rgb(const uint8_t* row, uint8_t* rgb, int width, bool inverted) {
  for (int x = 0; x < width; ++x, row += 4, rgb += 3)
    for (int c = 0; c < 3; ++c) {
      const int ink = inverted ? row[c] : 255 - row[c], black = inverted ? row[3] : 255 - row[3];
      rgb[c] = uint8_t((ink * black + 127) / 255);
    }
}

}  // namespace

int exif_orientation(std::span<const uint8_t> tiff) {
  const size_t size = tiff.size();
  if (size < 14) return 1;
  const bool little = tiff[0] == 'I';
  const auto number = [&](size_t at, int bytes) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; ++i) v |= uint32_t(tiff[at + i]) << 8 * (little ? i : bytes - 1 - i);
    return v;
  };
  if (number(2, 2) != 42) return 1;
  const size_t directory = number(4, 4);
  if (directory + 2 > size) return 1;
  for (size_t i = 0, n = number(directory, 2); i < n; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > size) return 1;
    if (number(entry, 2) != 0x0112) continue;
    const uint32_t value = number(entry + 8, number(entry + 2, 2) == 4 ? 4 : 2);  // a LONG; a SHORT by the standard
    return value >= 1 && value <= 8 ? int(value) : 1;
  }
  return 1;
}

bool read_jpeg_header(std::span<const uint8_t> bytes, ImageHeader& header, std::string& reason) {
  Errors errors;
  jpeg_decompress_struct info;
  use(errors, info.err);
  if (setjmp(errors.jump)) {
    jpeg_destroy_decompress(&info);
    return reason = errors.message, false;
  }
  begin(info, bytes, header);
  jpeg_destroy_decompress(&info);
  return true;
}

Image decode_jpeg(std::span<const uint8_t> bytes, const SizeCheck& check, ImageHeader& header, std::string& reason) {
  if (!read_jpeg_header(bytes, header, reason)) return {};
  check(header.size);
  Image image(header.size.width, header.size.height);
  std::vector<uint8_t> inks(size_t(image.width) * 4);
  Errors errors;
  jpeg_decompress_struct info;
  use(errors, info.err);
  if (setjmp(errors.jump)) {
    jpeg_destroy_decompress(&info);
    return reason = errors.message, Image();
  }
  begin(info, bytes, header);
  errors.several_scans = jpeg_has_multiple_scans(&info);
  jpeg_progress_mgr progress{};
  progress.progress_monitor = count_scans;
  info.progress = &progress;
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    uint8_t* to = image.at(0, int(info.output_scanline));
    uint8_t* row = cmyk ? inks.data() : to;
    jpeg_read_scanlines(&info, &row, 1);
    if (cmyk) cmyk_to_rgb(row, to, image.width, info.saw_Adobe_marker);
  }
  jpeg_destroy_decompress(&info);
  return image;
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality, std::string& reason) {
  struct Buffer {  // libjpeg may move it; freed on every way out
    unsigned char* data = nullptr;
    unsigned long size = 0;
    ~Buffer() { std::free(data); }
  } buffer;
  Errors errors;
  jpeg_compress_struct info;
  use(errors, info.err);
  if (setjmp(errors.jump)) {
    jpeg_destroy_compress(&info);
    return reason = errors.message, std::vector<uint8_t>();
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &buffer.data, &buffer.size);
  info.image_width = JDIMENSION(image.width), info.image_height = JDIMENSION(image.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  if (quality >= 90) info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;  // colour at full size
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<uint8_t*>(image.at(0, int(info.next_scanline)));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  return {buffer.data, buffer.data + buffer.size};
}

}  // namespace fovea::detail
