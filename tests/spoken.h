// While one lives, the program speaks a language that writes 1.234,5: for what must be written as before.
#pragma once
#include <clocale>
#include <locale>
#include <string>

namespace fovea::test {

class Spoken {
 public:
  Spoken() {
    std::locale::global(std::locale(outer_, new Grouping));
    for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8"})  // of C, too, where the system has one
      if (std::setlocale(LC_NUMERIC, name)) break;
  }
  ~Spoken() {
    std::locale::global(outer_);
    std::setlocale(LC_NUMERIC, outer_of_c_.c_str());
  }
  Spoken(const Spoken&) = delete;
  Spoken& operator=(const Spoken&) = delete;

 private:
  struct Grouping : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const std::locale outer_;
  const std::string outer_of_c_ = std::setlocale(LC_NUMERIC, nullptr);
};

}  // namespace fovea::test
