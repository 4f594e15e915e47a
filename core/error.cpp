// The one place that throws, and the module path that its messages end with.
#include "core/error.h"

#include <sstream>
#include <utility>

#include "core/scope.h"

namespace fovea {

static std::string& current_path() {
  thread_local std::string path;
  return path;
}

Scope::Scope(const std::string& name) : outer_(current_path().size()) {
  std::string& path = current_path();
  if (!path.empty() && !name.empty()) path += '.';
  path += name;
}
Scope::~Scope() { current_path().resize(outer_); }
const std::string& Scope::path() { return current_path(); }

ScopeOf::ScopeOf(std::string path) : outer_(std::exchange(current_path(), std::move(path))) {}
ScopeOf::~ScopeOf() { current_path() = std::move(outer_); }

std::string detail::text_of(std::initializer_list<Word> words) {
  std::ostringstream s;
  s.imbue(std::locale::classic());  // files are read by others too, whatever a program's own locale
  for (const Word& word : words)
    if (word.print) word.print(s, word.value);
    else s << static_cast<const char*>(word.value);
  return s.str();
}

void detail::fail_with(Code code, std::initializer_list<Word> words) { fail(code, text_of(words)); }
void fail(Code code, const std::string& message) {
  if (Scope::path().empty()) throw Error(code, message);
  const size_t hint = message.find("\n  hint:");  // the hint stays last
  const std::string at = "\n  at " + Scope::path();
  throw Error(code, hint == std::string::npos ? message + at : message.substr(0, hint) + at + message.substr(hint));
}

}  // namespace fovea
