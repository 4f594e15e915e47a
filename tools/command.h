// A command of the program is one file tools/<name>.cpp with add_<name>(), which declares its flags and what it does.
// Failures are fovea::Error: main() prints the message and exits with its code.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/error.h"
#include "tools/terminal.h"

namespace fovea {

// Thrown to leave the program with a code of its own (1: a comparison failed, 130: Ctrl-C) after all was said.
struct Exit {
  int code;
};

// A subcommand whose --help starts with `examples` (one command a line). Set its work with ->callback([...] {...}).
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& examples);

// Writes one JSON value to stdout, indented. Text that is not UTF-8 is repaired, NaN becomes null.
void print_json(const nlohmann::ordered_json& value);

// A line on stderr: "warning: ..." in yellow.
void warn(const std::string& message);

}  // namespace fovea
