// A command of the program is one file tools/<name>.cpp with add_<name>(), which declares its flags and what it does.
// Failures are fovea::Error: main() prints the message and exits with its code.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/json.h"
#include "tools/terminal.h"

namespace CLI {  // the parser, which only command.cpp knows: its headers cost every file that includes them 10 s
class App;
class Option;
}  // namespace CLI

namespace fovea {

// Thrown to leave the program with a code of its own (1: a comparison failed, 130: Ctrl-C) after all was said.
struct Exit {
  int code;
};

// The first process of a container gets only signals that it asks for: here it asks for those that end others.
void end_by_signals();
// From here on the first Ctrl-C, SIGTERM, hang-up of the terminal or loss of who reads what is printed is only kept,
// for a loop to ask after; a second one ends the program. What the caller ignores (nohup, a job in the background)
// stays so.
void catch_stops();
int stop_caught();  // the number of the signal, or 0

// A flag or an argument, as declared last: command.flag(...).type("DIR").required().
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  Option& required();
  Option& type(const std::string& name);   // of the value, in the help; "": not shown
  Option& range(double low, double high);  // both included
  Option& one_of(const std::vector<std::string>& values);
  Option& show_default();

 private:
  CLI::Option* option_;
};

// A command, or a group of them. Copies are handles to the same.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}
  // A command of this group. Its --help starts with `examples`, one a line.
  Command command(const std::string& name, const std::string& description, const std::string& examples);
  void needs_command();  // the group alone is a mistake

  // "--size", "-n,--number", or "file": an argument without dashes. T: text, an integer, double, three ints, or a list
  // of texts (a flag of a list takes one value each time).
  template <class T> Option option(const std::string& names, T& value, const std::string& help);
  Option option(const std::string& names, std::function<void(const std::string&)> seen, const std::string& help);
  Option flag(const std::string& names, bool& value, const std::string& help);
  void run(std::function<void()> work);

 private:
  CLI::App* app_;
};

// Parses the command line and runs the command that it names, declared by `declare`. Returns the exit code of usage
// errors (message printed), --help and --version; what the command throws passes through.
int run_command_line(int argc, char** argv, const std::function<void(Command& program)>& declare);

// Prints "error: message" on stderr and returns the code.
int complain(const std::string& message, int code);

// Writes one JSON value to stdout, indented. Text that is not UTF-8 is repaired, NaN becomes null.
void print_json(const Json& value);

// Height and width of "512x640", or of "512": a square. Throws Code::usage for anything else.
std::pair<int64_t, int64_t> parse_size(const std::string& size);

// Throws Code::usage where the file that a flag asks for cannot be made, or exists and would be lost: before minutes of
// work, not after them. A device or a pipe may be written to; "" asks for none.
void check_new_file(const std::string& flag, const std::string& path);

// A line on stderr: "warning: ..." in yellow.
void warn(const std::string& message);

}  // namespace fovea
