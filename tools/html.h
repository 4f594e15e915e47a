// What pages are made of: one HTML file each, with style and pictures inside, simple enough to read on a phone.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tools/terminal.h"

namespace fovea {

extern const char* const kPageStyle;
// The beginning of a page; "</html>" ends it. All texts are escaped here.
std::string html_head(const std::string& title, const char* style = kPageStyle);
// A figure large, its name small; put some into <div class=cards>.
std::string html_card(const std::string& value, const std::string& name);
constexpr int kLetters = 2;  // of drawn text, so many times the size: a page shows its pictures smaller
// An encoded picture; type: png, jpeg.
std::string html_picture(const std::vector<uint8_t>& bytes, const char* type, const std::string& alt);
// Names and values, a pair a line, below what they are; numbers stand to the right.
std::string html_rows(const std::vector<std::pair<std::string, std::string>>& cells, bool numbers,
                      const std::string& caption = "");
// Heads and rows, as of a Table; columns of numbers stand to the right.
std::string html_table(const std::vector<std::string>& heads, const Rows& rows);
// `content`, which is HTML, behind a title to click on.
std::string html_folded(const std::string& title, const std::string& content);

}  // namespace fovea
