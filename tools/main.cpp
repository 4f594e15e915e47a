// The fovea program: finds the command, runs it, and turns what went wrong into one message and an exit code.
#include <cstdio>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "tools/command.h"

namespace fovea {

// A new command is one line here. `weak`: a command that the build leaves out is not offered.
#define FOVEA_COMMANDS(X) \
  X(train) X(eval) X(detect) X(parity) X(gradcheck) X(model) X(coco_eval) X(data) X(bench) X(doctor)
#define X(name) __attribute__((weak)) void add_##name(CLI::App& program);
FOVEA_COMMANDS(X)
#undef X

namespace {

// Examples first: they answer most questions.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(34); }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    if (mode == CLI::AppFormatMode::Sub) return make_expanded(app);
    std::string s = "Examples:\n";
    std::istringstream lines(app->get_footer());
    for (std::string line; std::getline(lines, line);) s += line.empty() ? "\n" : "  " + line + "\n";
    s += "\n" + make_description(app) + make_usage(app, name) + make_positionals(app) + make_groups(app, mode);
    return s + make_subcommands(app, mode);
  }
};

const CLI::App* deepest(const CLI::App& program) {
  const CLI::App* app = &program;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().back();
  return app;
}

std::string full_name(const CLI::App* app) {
  return (app->get_parent() ? full_name(app->get_parent()) + " " : "") + app->get_name();
}

std::string describe_unknown(const CLI::App* app) {
  const auto rest = app->remaining();
  std::string name = rest.empty() ? "" : rest.front();
  std::vector<std::string> candidates;
  if (name.rfind("-", 0) == 0) {
    name = name.substr(0, name.find('='));
    for (auto* option : app->get_options())
      for (auto& flag : option->get_lnames()) candidates.push_back("--" + flag);
    return "unknown flag '" + name + "'" + suggestion(name, candidates);
  }
  for (auto* command : app->get_subcommands([](const CLI::App*) { return true; }))
    candidates.push_back(command->get_name());
  if (candidates.empty()) return "unexpected argument '" + name + "'";
  return "unknown command '" + name + "'" + suggestion(name, candidates);
}

int complain(const std::string& message, int code) {
  std::fprintf(stderr, "%s %s\n", styled(Style::red, "error:", Stream::err).c_str(), message.c_str());
  return code;
}

int usage_error(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* app = deepest(program);
  std::string message = error.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    // The words that nobody wanted wait in the command that was given them.
    while (app->remaining().empty() && app->get_parent()) app = app->get_parent();
    message = describe_unknown(app);
  }
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return complain(message + "; see " + full_name(app) + " --help", static_cast<int>(Code::usage));
}

int run(int argc, char** argv) {
  CLI::App program{"Fovea trains object detectors, and shows how they work.", "fovea"};
  program.formatter(std::make_shared<HelpFormatter>());
  program.footer(
      "fovea data make shapes shapes                 # draws a data set\n"
      "fovea train --data shapes --preset toy --out runs/toy\n"
      "fovea eval --weights runs/toy --data shapes --split val\n"
      "fovea detect --weights runs/toy photo.jpg --out found\n"
      "fovea train --help                            # examples and flags of a command");
  program.require_subcommand(0, 1);
  program.set_version_flag("--version", "fovea 0.1.0");
#define X(name) \
  if (add_##name) add_##name(program);
  FOVEA_COMMANDS(X)
#undef X
  try {
    program.parse(argc, argv);
    if (program.get_subcommands().empty()) std::cout << program.help();
  } catch (const CLI::CallForHelp&) { std::cout << program.help(); } catch (const CLI::CallForVersion& version) {
    std::cout << version.what() << "\n";
  } catch (const CLI::ParseError& error) { return usage_error(program, error); }
  std::cout.flush();
  return std::cout ? 0 : complain("cannot write to stdout", 1);
}

}  // namespace

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& examples) {
  CLI::App* app = parent.add_subcommand(name, description);
  app->footer(examples);
  app->formatter(std::make_shared<HelpFormatter>());
  return app;
}

void print_json(const nlohmann::ordered_json& value) {
  std::cout << value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
}

void warn(const std::string& message) {
  std::fprintf(stderr, "%s %s\n", styled(Style::yellow, "warning:", Stream::err).c_str(), message.c_str());
}

}  // namespace fovea

int main(int argc, char** argv) {
  using namespace fovea;
  try {
    return run(argc, argv);
  } catch (const Exit& exit) {
    std::cout.flush();
    return exit.code;
  } catch (const Error& error) {
    return complain(error.what(), static_cast<int>(error.code));
  } catch (const std::bad_alloc&) {
    return complain("out of memory\n  hint: a smaller train.batch or data.short_side needs less",
                    static_cast<int>(Code::memory));
  } catch (const std::exception& error) { return complain(error.what(), static_cast<int>(Code::failure)); }
}
