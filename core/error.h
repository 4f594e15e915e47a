// The one exception type. Every throw of the library goes through fail(), and ends in an exit code of the program.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace fovea {

// What went wrong, as the program's exit code.
enum class Code {
  failure = 1,     // anything without a code of its own: a shape that does not fit, an internal error
  usage = 2,       // unknown flag, command or configuration key; an output directory that is in use
  data = 3,        // an image, an annotation or a data set that cannot be used
  model = 4,       // a model file that is damaged or belongs to another network
  not_finite = 5,  // a loss or a gradient became infinite or NaN
  resource = 6,    // out of memory, or a GPU that does not answer
  impossible = 7,  // a guarantee that was asked for cannot be given here
};

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code(code) {}
  const Code code;
};

// Throws Error. Appends "at <module path>" where a module is running (core/scope.h).
[[noreturn]] void fail(Code code, const std::string& message);

template <class... A> std::string text(const A&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  return s.str();
}

// check(ok, "softmax: axis ", axis, " is out of range for ", shape): throws Error{Code::failure}.
template <class... A> void check(bool ok, const A&... message) {
  if (!ok) [[unlikely]]
    fail(Code::failure, text(message...));
}
template <class... A> void check(Code code, bool ok, const A&... message) {
  if (!ok) [[unlikely]]
    fail(code, text(message...));
}

}  // namespace fovea
