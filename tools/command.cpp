// Commands and flags on top of CLI11: help that starts with examples, mistakes that name the nearest right word.
#include "tools/command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "core/version.h"

namespace fovea {

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

int usage_error(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* app = deepest(program);
  std::string message = error.what();
  const bool no_command = dynamic_cast<const CLI::RequiredError*>(&error) && !app->remaining().empty();
  if (no_command || dynamic_cast<const CLI::ExtrasError*>(&error)) {
    // The words that nobody wanted wait in the command that was given them.
    while (app->remaining().empty() && app->get_parent()) app = app->get_parent();
    message = describe_unknown(app);
  } else if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    const std::string name = message.substr(0, message.find(':'));
    const CLI::Option* option = app->get_option_no_throw(name);
    const bool repeated = option && int(option->results().size()) > option->get_items_expected_max();
    const bool three = option && option->get_type_size() == 3;
    message = name + (repeated ? " was given more than once" : three ? " needs three values" : " needs a value");
  } else if (const auto commands = app->get_subcommands([](const CLI::App*) { return true; }); !commands.empty()) {
    message.clear();
    for (auto* command : commands) message += (message.empty() ? "name a command: " : ", ") + command->get_name();
  }
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return complain(message + "; see " + full_name(app) + " --help", static_cast<int>(Code::usage));
}

void add_examples(CLI::App* app, const std::string& examples) {
  app->footer(examples);
  app->formatter(std::make_shared<HelpFormatter>());
}

}  // namespace

Option& Option::required() { return option_->required(), *this; }
Option& Option::type(const std::string& name) { return option_->type_name(name), *this; }
Option& Option::range(double low, double high) {  // CLI::Range speaks of "FLOAT in [1.000000 - 9.000000]"
  const std::string range = shortest(low) + " to " + shortest(high);
  const auto inside = [low, high, range](const std::string& value) {
    char* end = nullptr;
    const double v = std::strtod(value.c_str(), &end);
    return *end || (v >= low && v <= high) ? std::string() : value + " is not in " + range;
  };
  return option_->check(inside, range), *this;
}
Option& Option::one_of(const std::vector<std::string>& values) { return option_->check(CLI::IsMember(values)), *this; }
Option& Option::show_default() { return option_->capture_default_str(), *this; }

Command Command::command(const std::string& name, const std::string& description, const std::string& examples) {
  CLI::App* app = app_->add_subcommand(name, description);
  add_examples(app, examples);
  return Command(app);
}
void Command::needs_command() { app_->require_subcommand(1); }

// What is wrong with the text of a number, "" for nothing.
template <class T> static std::string number_fault(const std::string& value) {
  char* end = nullptr;
  const double v = std::strtod(value.c_str(), &end);
  if (value.empty()) return "needs a number";
  if (*end) return "'" + value + "' is not a number";
  if (!std::is_same_v<T, double> && value.find_first_of(".eE") != value.npos)
    return "'" + value + "' is not a whole number";
  return std::is_same_v<T, uint64_t> && v < 0 ? value + " is below 0" : "";
}
template <class T> Option Command::option(const std::string& names, T& value, const std::string& help) {
  CLI::Option* option = app_->add_option(names, value, help);
  constexpr bool one_text = std::is_same_v<T, std::string>, texts = std::is_same_v<T, std::vector<std::string>>;
  if (!one_text && !texts)  // CLI11 takes "" for 0
    option->check(number_fault<T>);
  if (texts && names.starts_with("-")) option->allow_extra_args(false);
  return Option(option);
}
template Option Command::option(const std::string&, std::string&, const std::string&);
template Option Command::option(const std::string&, int&, const std::string&);
template Option Command::option(const std::string&, int64_t&, const std::string&);
template Option Command::option(const std::string&, uint64_t&, const std::string&);
template Option Command::option(const std::string&, double&, const std::string&);
template Option Command::option(const std::string&, std::array<int, 3>&, const std::string&);
template Option Command::option(const std::string&, std::vector<std::string>&, const std::string&);
Option Command::option(const std::string& names, std::function<void(const std::string&)> seen,
                       const std::string& help) {
  return Option(app_->add_option_function<std::string>(names, std::move(seen), help));
}
Option Command::flag(const std::string& names, bool& value, const std::string& help) {
  return Option(app_->add_flag(names, value, help));
}
void Command::run(std::function<void()> work) { app_->callback(std::move(work)); }

int run_command_line(int argc, char** argv, const std::function<void(Command& program)>& declare) {
  CLI::App program{"Fovea trains object detectors, and shows how they work.", "fovea"};
  add_examples(&program,
               "fovea data make shapes shapes                 # draws a data set\n"
               "fovea train --data shapes --preset toy --out runs/toy\n"
               "fovea eval --weights runs/toy --data shapes --split val\n"
               "fovea detect --weights runs/toy photo.jpg --out found\n"
               "fovea train --help                            # examples and flags of a command");
  program.require_subcommand(0, 1);
  program.set_version_flag("--version", std::string("fovea ") + kVersion);
  Command root(&program);
  declare(root);
  try {
    program.parse(argc, argv);
    if (program.get_subcommands().empty()) std::cout << program.help();
  } catch (const CLI::CallForHelp&) { std::cout << program.help(); } catch (const CLI::CallForVersion& version) {
    std::cout << version.what() << "\n";
  } catch (const CLI::ParseError& error) { return usage_error(program, error); }
  std::cout.flush();
  return std::cout ? 0 : complain("cannot write to stdout", 1);
}

namespace {
volatile std::sig_atomic_t caught = 0;
extern "C" void end_now(int signal) { _exit(128 + signal); }
extern "C" void on_stop(int signal) {
  caught = signal;
  // What is said to a pipe from then on is lost, the checkpoint not.
  std::signal(signal, signal == SIGPIPE ? SIG_IGN : getpid() == 1 ? end_now : SIG_DFL);
}
}  // namespace
void end_by_signals() {
  if (getpid() != 1) return;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, end_now);
}
void catch_stops() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE})
    if (std::signal(signal, on_stop) == SIG_IGN) std::signal(signal, SIG_IGN);  // of nohup, or in the background
}
int stop_caught() { return caught; }

int complain(const std::string& message, int code) {
  std::fprintf(stderr, "%s %s\n", styled(Style::red, "error:", Stream::err).c_str(), message.c_str());
  return code;
}

void print_json(const Json& value) { std::cout << json_text(value, 2) << "\n"; }

std::pair<int64_t, int64_t> parse_size(const std::string& size) {
  long long h = 0, w = 0;
  char end = 0;
  const int n = std::sscanf(size.c_str(), "%lldx%lld%c", &h, &w, &end);
  if (n == 1 && size.find('x') == std::string::npos) w = h;
  check(Code::usage, h >= 1 && w >= 1 && h <= 1 << 16 && w <= 1 << 16 && n >= 1 && n <= 2, "--size ", size,
        ": expected HEIGHTxWIDTH, each 1 to 65536, for example 512x640");
  return {h, w};
}

void check_new_file(const std::string& flag, const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(path).parent_path();
  check(Code::usage, path.empty() || !fs::exists(path) || fs::is_other(path), "'", path, "' exists: choose another ",
        flag);
  check(Code::usage, folder.empty() || fs::is_directory(folder), flag, " ", path, ": there is no folder '",
        folder.string(), "'\n  hint: make it first, or choose another ", flag);
}

void warn(const std::string& message) {
  std::fprintf(stderr, "%s %s\n", styled(Style::yellow, "warning:", Stream::err).c_str(), message.c_str());
}

}  // namespace fovea
