// The one exception type. Every throw of the library goes through fail(), and ends in an exit code of the program.
#pragma once
#include <initializer_list>
#include <ostream>
#include <stdexcept>
#include <string>

namespace fovea {

// What went wrong, as the program's exit code: see exit_code().
enum class Code {
  failure = 1,     // anything without a code of its own: a shape that does not fit, an internal error
  usage = 2,       // unknown flag, command or configuration key; an output directory that is in use
  data = 3,        // an image, an annotation or a data set that cannot be used
  model = 4,       // a model file that is damaged or belongs to another network
  not_finite = 5,  // a loss or a gradient became infinite or NaN
  memory = 6,      // there is not enough
  impossible = 7,  // a guarantee that was asked for cannot be given here
  resource = 8,    // a GPU, OpenBLAS or a thread that does not answer
};
constexpr int exit_code(Code code) { return static_cast<int>(code == Code::resource ? Code::memory : code); }

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code(code) {}
  const Code code;
};

// Throws Error. Appends "at <module path>" where a module is running (core/scope.h).
[[noreturn]] void fail(Code code, const std::string& message);

namespace detail {

// A part of a message: whatever a stream takes, and how. The many calls of text() and check() then hold no code of
// streams, only addresses.
struct Word {
  Word(const char* chars) : value(chars), print(nullptr) {}
  template <class T>
  Word(const T& value) : value(&value), print([](std::ostream& s, const void* v) { s << *static_cast<const T*>(v); }) {}
  const void* value;
  void (*print)(std::ostream&, const void*);  // null: value points at characters
};
std::string text_of(std::initializer_list<Word> words);
[[noreturn]] void fail_with(Code code, std::initializer_list<Word> words);

}  // namespace detail

template <class... A> std::string text(const A&... parts) { return detail::text_of({detail::Word(parts)...}); }

// check(ok, "softmax: axis ", axis, " is out of range for ", shape): throws Error{Code::failure}.
template <class... A> void check(bool ok, const A&... message) {
  if (!ok) [[unlikely]]
    detail::fail_with(Code::failure, {detail::Word(message)...});
}
template <class... A> void check(Code code, bool ok, const A&... message) {
  if (!ok) [[unlikely]]
    detail::fail_with(code, {detail::Word(message)...});
}

}  // namespace fovea
