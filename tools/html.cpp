// The style of a page and its parts.
#include "tools/html.h"

#include <algorithm>

#include "core/words.h"

namespace fovea {
namespace {

std::string base64(const std::vector<uint8_t>& bytes) {
  static const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string s;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t v = 0;
    for (size_t j = 0; j < 3; ++j) v = v << 8 | (i + j < bytes.size() ? bytes[i + j] : 0);
    for (size_t j = 0; j < 4; ++j) s += i + j <= bytes.size() ? digits[v >> (18 - 6 * j) & 63] : '=';
  }
  return s;
}

}  // namespace

const char* const kPageStyle = R"(<style>
:root{color-scheme:light dark;--ink:#1c1e22;--soft:#6a707a;--line:#e3e5e9;--page:#fff;--card:#f6f7f9;--mark:#0b7285}
@media(prefers-color-scheme:dark){:root{--ink:#e7e9ec;--soft:#9aa1ab;--line:#33373d;--page:#16181b;--card:#1f2226;
  --mark:#66d9e8}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:62rem;margin:2.5rem auto;
  padding:0 1rem;overflow-wrap:break-word}
h1{font-size:1.7rem;margin:0}h2{font-size:1.15rem;margin:2.4rem 0 .7rem}h3{font-size:1rem;margin:1.4rem 0 .3rem}
p{margin:.3rem 0;color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.8rem;margin-top:1.4rem}
.cards div{background:var(--card);border-radius:.6rem;padding:.8rem 1rem}
.cards b{display:block;font-size:1.6rem;color:var(--mark)}.cards span{color:var(--soft);font-size:.85rem}
img{width:100%;border-radius:.5rem;border:1px solid var(--line);margin:.4rem 0}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
.maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,10.5rem),1fr));gap:.6rem}
figure{margin:0}figcaption{color:var(--soft);font-size:.85rem}
table{border-collapse:collapse;table-layout:fixed;width:100%;font-size:.92rem}
.wide{overflow-x:auto;overflow-wrap:normal}.wide table{table-layout:auto}th[scope=row]{font-weight:400;width:52%}
td,th{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left}
caption{padding:.3rem .6rem;text-align:left;font-weight:600}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}code{font-size:.88rem}
details{margin:1rem 0}summary{cursor:pointer;font-weight:600}
@media print{body{margin:0;max-width:none}.two{grid-template-columns:1fr 1fr}.maps{grid-template-columns:repeat(4,1fr)}
  h1,h2,h3,h2+p,caption{break-after:avoid}figure,img,tr{break-inside:avoid}.wide{overflow:visible}}
</style>)";

std::string html_head(const std::string& title, const char* style) {
  return "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
         "<link rel=icon href=\"data:,\"><title>" +
         escaped(title) + "</title>" + style;
}

std::string html_card(const std::string& value, const std::string& name) {
  return "<div><b>" + escaped(value) + "</b><span>" + escaped(name) + "</span></div>\n";
}

std::string html_picture(const std::vector<uint8_t>& bytes, const char* type, const std::string& alt) {
  return std::string("<img alt=\"") + escaped(alt) + "\" src=\"data:image/" + type + ";base64," + base64(bytes) +
         "\">\n";
}

std::string html_rows(const std::vector<std::pair<std::string, std::string>>& cells, bool numbers,
                      const std::string& caption) {
  std::string s = caption.empty() ? "<table>\n" : "<table><caption>" + escaped(caption) + "</caption>\n";
  for (auto& [name, value] : cells)
    s += "<tr><th scope=row>" + escaped(name) + "</th><td" + (numbers ? " class=n>" : "><code>") + escaped(value) +
         (numbers ? "" : "</code>") + "</td></tr>\n";
  return s + "</table>\n";
}

// Whether a column is numbers alone: they stand to the right.
static bool is_number_column(const Rows& rows, size_t column) {
  return std::all_of(rows.begin(), rows.end(), [column](const std::vector<std::string>& row) {
    return !row[column].empty() && row[column].find_first_not_of("+-.,0123456789") == std::string::npos;
  });
}

std::string html_table(const std::vector<std::string>& heads, const Rows& rows) {
  std::string s = "<div class=wide><table>\n<tr>";
  std::vector<const char*> start;  // of a column's cells
  for (size_t c = 0; c < heads.size(); ++c) {
    start.push_back(is_number_column(rows, c) ? " class=n>" : ">");
    s += std::string("<th scope=col") + start[c] + escaped(heads[c]) + "</th>";
  }
  s += "</tr>\n";
  for (auto& row : rows) {
    s += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) s += std::string("<td") + start[c] + escaped(row[c]) + "</td>";
    s += "</tr>\n";
  }
  return s + "</table></div>\n";
}

std::string html_folded(const std::string& title, const std::string& content) {
  return "<details><summary>" + escaped(title) + "</summary>" + content + "</details>\n";
}

}  // namespace fovea
