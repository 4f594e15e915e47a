// Whether a text is one JSON value: a recogniser by recursive descent, for tests of code that writes JSON by hand.
#pragma once
#include <cctype>
#include <string>

namespace fovea {

class JsonCheck {
 public:
  explicit JsonCheck(const std::string& text) : p_(text.data()), end_(p_ + text.size()) {}
  bool whole() { return value() && (space(), p_ == end_); }

 private:
  void space() {
    while (p_ < end_ && std::isspace(static_cast<unsigned char>(*p_))) ++p_;
  }
  bool eat(char c) { return space(), p_ < end_ && *p_ == c && ++p_; }
  bool string() {
    if (!eat('"')) return false;
    for (; p_ < end_ && *p_ != '"'; ++p_) {
      if (static_cast<unsigned char>(*p_) < 32) return false;
      if (*p_ == '\\' && ++p_ == end_) return false;
    }
    return eat('"');
  }
  bool number() {
    const char* start = p_;
    while (p_ < end_ && (std::isdigit(static_cast<unsigned char>(*p_)) || std::string("+-.eE").find(*p_) < 5)) ++p_;
    return p_ > start;
  }
  bool word(const std::string& w) {
    return size_t(end_ - p_) >= w.size() && std::string(p_, w.size()) == w && (p_ += w.size());
  }
  bool list(char close, bool keys) {
    if (eat(close)) return true;
    do {
      if (keys && !(string() && eat(':'))) return false;
      if (!value()) return false;
    } while (eat(','));
    return eat(close);
  }
  bool value() {
    space();
    if (eat('{')) return list('}', true);
    if (eat('[')) return list(']', false);
    if (p_ < end_ && *p_ == '"') return string();
    return word("true") || word("false") || word("null") || number();
  }
  const char *p_, *end_;
};

inline bool is_json(const std::string& text) { return JsonCheck(text).whole(); }

}  // namespace fovea
