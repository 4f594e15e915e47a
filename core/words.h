// Words and lists of them as text, the nearest of several names to a mistyped one, and a hash that never changes.
#pragma once
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// The candidate fewest edits away, the first of equals; "" where none is near enough to be meant.
std::string nearest(const std::string& name, const std::vector<std::string>& candidates);
// " (did you mean 'x'?)", or "" without a near candidate.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates);

std::string count_text(int64_t n);                         // "12,345"
std::string counted(int64_t n, const std::string& thing);  // "1 box", "2 boxes"

std::string joined(const std::vector<std::string>& words, const std::string& between = ", ");
std::string trimmed(const std::string& text);                      // without white space at both ends
std::string lowered(std::string text);                             // A to Z in small letters
std::vector<std::string> split(const std::string& text, char at);  // "a, b" at ',': {"a", "b"}, trimmed

constexpr bool begins_character(char c) { return (c & 0xC0) != 0x80; }  // of UTF-8: none of its further bytes

// Numbers as text that is the same in every locale of C and of C++.
std::string shortest(double v);           // the shortest text that reads back as the same number
std::string fixed(double v, int digits);  // "0.50": so many digits after the point
template <class N> bool read_number(std::string_view text, N& v) {  // all of the text, or false
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  return error == std::errc() && end == text.data() + text.size();
}

std::string quoted(const std::string& text);      // as a string of JSON or TOML
std::string escaped(const std::string& text);     // for XML and HTML
std::string shell_word(const std::string& text);  // for a shell: in quotes where that takes it apart otherwise

uint64_t hash64(const std::string& text);  // FNV-1a

}  // namespace fovea
