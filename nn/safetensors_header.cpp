// The header of a safetensors file: a strict parser of the small part of JSON that the format allows, and its layout
// rules.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "nn/safetensors.h"

namespace fovea {

namespace {

using Entry = SafetensorsHeader::Entry;

// How many bytes of s, from i on, make one valid UTF-8 character; 0 where they do not (overlong, surrogate, beyond
// U+10FFFF).
size_t utf8_length(std::string_view s, size_t i) {
  const auto byte = [&](size_t k) -> unsigned { return k < s.size() ? static_cast<unsigned char>(s[k]) : 0u; };
  const auto more = [&](size_t n) {
    for (size_t k = 1; k <= n; ++k)
      if ((byte(i + k) & 0xC0) != 0x80) return false;
    return true;
  };
  const unsigned a = byte(i), b = byte(i + 1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return more(1) ? 2 : 0;
  if (a >= 0xE0 && a <= 0xEF) return more(2) && !(a == 0xE0 && b < 0xA0) && !(a == 0xED && b > 0x9F) ? 3 : 0;
  if (a >= 0xF0 && a <= 0xF4) return more(3) && !(a == 0xF0 && b < 0x90) && !(a == 0xF4 && b > 0x8F) ? 4 : 0;
  return 0;
}

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) return put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
  if (code < 0x10000) return put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
}

// A walk over the header's text. Nothing nests deeper than the format does, so nothing recurses.
class Cursor {
 public:
  Cursor(std::string_view s, const std::string& file) : s_(s), file_(file) {}

  template <class... A> [[noreturn]] void reject(const A&... why) const {
    fail(Code::model, text(file_, ": not a usable safetensors file: ", why..., "; copy or download it again"));
  }
  void space() {
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\r' || s_[at_] == '\t')) ++at_;
  }
  bool accept(char c) {
    space();
    if (at_ >= s_.size() || s_[at_] != c) return false;
    return ++at_, true;
  }
  void expect(char c) {
    if (!accept(c)) reject("its header has no '", c, "' at byte ", at_);
  }
  void end() {
    space();
    if (at_ != s_.size()) reject("its header goes on after its end, at byte ", at_);
  }
  std::string string() {
    expect('"');
    std::string out;
    for (;;) {
      if (at_ >= s_.size()) reject("its header ends inside a name");
      const unsigned char c = static_cast<unsigned char>(s_[at_]);
      if (c == '"') return ++at_, out;
      if (c < 0x20) reject("a name in its header holds a control character at byte ", at_);
      if (c == '\\') {
        escape(out);
        continue;
      }
      const size_t n = utf8_length(s_, at_);
      if (n == 0) reject("its header is not UTF-8 at byte ", at_);
      out.append(s_.substr(at_, n));
      at_ += n;
    }
  }
  uint64_t number() {  // a whole number without sign, fraction or leading zero, below 2^63
    space();
    const size_t first = at_;
    uint64_t value = 0;
    while (at_ < s_.size() && s_[at_] >= '0' && s_[at_] <= '9') {
      if (value > (uint64_t{1} << 63) / 10 - 1) reject("a number in its header is too large, at byte ", first);
      value = value * 10 + static_cast<uint64_t>(s_[at_++] - '0');
    }
    if (at_ == first || (s_[first] == '0' && at_ - first > 1)) reject("its header has no whole number at byte ", first);
    return value;
  }
  // members(f): calls f(key) in front of each value of an object. A key that comes twice is refused.
  template <class F> void members(F&& value) {
    std::set<std::string> seen;
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      if (!seen.insert(key).second) reject("its header names \"", key, "\" twice");
      expect(':');
      value(key);
    } while (accept(','));
    expect('}');
  }
  std::vector<uint64_t> numbers() {
    std::vector<uint64_t> out;
    expect('[');
    if (accept(']')) return out;
    do out.push_back(number());
    while (accept(','));
    expect(']');
    return out;
  }

 private:
  unsigned hex4() {
    unsigned code = 0;
    for (int k = 0; k < 4; ++k, ++at_) {
      const char c = at_ < s_.size() ? s_[at_] : ' ';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) reject("its header has a bad \\u escape at byte ", at_);
      code = code * 16 + static_cast<unsigned>(digit);
    }
    return code;
  }
  void escape(std::string& out) {
    const char c = at_ + 1 < s_.size() ? s_[at_ + 1] : ' ';
    at_ += 2;
    constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (const size_t k = from.find(c); k != from.npos) return void(out += to[k]);
    if (c != 'u') reject("its header has a bad escape at byte ", at_ - 2);
    unsigned code = hex4();
    if (code >= 0xD800 && code <= 0xDBFF && s_.substr(std::min(at_, s_.size()), 2) == "\\u") {  // a surrogate pair
      at_ += 2;
      const unsigned low = hex4();
      if (low < 0xDC00 || low > 0xDFFF) reject("its header has half a surrogate pair at byte ", at_ - 6);
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xD800 && code <= 0xDFFF) {
      reject("its header has half a surrogate pair at byte ", at_ - 6);
    }
    append_utf8(out, code);
  }

  std::string_view s_;
  const std::string& file_;
  size_t at_ = 0;
};

uint64_t element_bytes(const std::string& dtype) {
  constexpr std::pair<const char*, int> sizes[] = {{"F32", 4}, {"F64", 8}, {"BF16", 2}, {"F16", 2},
                                                   {"I64", 8}, {"I32", 4}, {"U8", 1},   {"BOOL", 1}};
  for (auto& [name, bytes] : sizes)
    if (dtype == name) return static_cast<uint64_t>(bytes);
  return 0;
}

Entry read_entry(Cursor& in, const std::string& name) {
  Entry e{name, "", {}, 0, 0};
  std::vector<uint64_t> shape, offsets;
  int found = 0;
  in.members([&](const std::string& key) {
    ++found;
    if (key == "dtype") e.dtype = in.string();
    else if (key == "shape") shape = in.numbers();
    else if (key == "data_offsets") offsets = in.numbers();
    else in.reject("tensor \"", name, "\" has an unknown field \"", key, "\"");
  });
  if (found != 3) in.reject("tensor \"", name, "\" lacks one of dtype, shape, data_offsets");
  const uint64_t width = element_bytes(e.dtype);
  if (width == 0)
    in.reject("tensor \"", name, "\" has element type \"", e.dtype, "\", not one of F32 F64 BF16 F16 I64 I32 U8 BOOL");
  if (shape.size() > Shape::kMaxRank) in.reject("tensor \"", name, "\" has ", shape.size(), " dimensions, more than 8");
  uint64_t bound = 1, count = 1;  // bound: the product without zeros, which must not overflow either
  for (const uint64_t d : shape) {
    if (d > (uint64_t{1} << 59) / bound) in.reject("tensor \"", name, "\" has more elements than can be");
    bound *= d > 0 ? d : 1, count *= d;
  }
  if (offsets.size() != 2 || offsets[0] > offsets[1]) in.reject("tensor \"", name, "\" has bad data_offsets");
  e.shape = Shape(std::vector<int64_t>(shape.begin(), shape.end()));
  e.begin = offsets[0], e.end = offsets[1];
  if (e.end - e.begin != count * width)
    in.reject("tensor \"", name, "\" of shape ", e.shape, " and type ", e.dtype, " needs ", count * width,
              " bytes, its data_offsets give ", e.end - e.begin);
  return e;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes, const std::string& file) {
  SafetensorsHeader header;
  Cursor in(json, file);
  if (json.empty() || json[0] != '{') in.reject("its header does not begin with '{'");
  in.members([&](const std::string& key) {
    if (key == "__metadata__") in.members([&](const std::string& name) { header.metadata[name] = in.string(); });
    else header.entries.push_back(read_entry(in, key));
  });
  in.end();
  const auto order = [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  };
  std::stable_sort(header.entries.begin(), header.entries.end(), order);
  uint64_t at = 0;
  for (const Entry& e : header.entries) {
    if (e.begin < at) in.reject("tensor \"", e.name, "\" overlaps the one before it");
    if (e.begin > at) in.reject("there is a hole of ", e.begin - at, " bytes before tensor \"", e.name, "\"");
    at = e.end;
  }
  if (at > data_bytes)
    in.reject("its tensors need ", at, " bytes, only ", data_bytes, " are there: the file was cut off");
  if (at < data_bytes) in.reject(data_bytes - at, " bytes follow its last tensor");
  return header;
}

}  // namespace fovea
