// What people and scripts see of the program: its progress on a terminal, its tables, words and streams.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <iterator>
#include <sstream>

#include "core/words.h"
#include "data/json.h"
#include "tests/program.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// The outer end of a new one, or -1 where there are none, as in a root without /dev/pts.
int open_terminal() {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || (grantpt(terminal) == 0 && unlockpt(terminal) == 0)) return terminal;
  return close(terminal), -1;
}

// What the program writes to stderr (or to stdout) where that is a terminal of so many columns.
std::string on_terminal(const std::string& arguments, int columns, const std::string& environment,
                        int stream = STDERR_FILENO) {
  const int terminal = open_terminal();
  REQUIRE(terminal >= 0);
  const int inner = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  winsize size{};
  size.ws_row = 24, size.ws_col = static_cast<unsigned short>(columns);
  REQUIRE(ioctl(inner, TIOCSWINSZ, &size) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(inner, stream);
    const std::string line = "cd '" + shared().path.string() + "' && exec env " + environment + " " + kProgram + " " +
                             arguments + (stream == STDERR_FILENO ? " >.out" : "");
    execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  close(inner);
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;) all.append(buffer, size_t(n));
  close(terminal);
  CHECK(wait_for(child) == 0);
  return all;
}

// The lines that were drawn over, without colours.
std::vector<std::string> redrawn(const std::string& text) {
  std::vector<std::string> all;
  const std::string erase = "\r\033[2K";
  for (size_t at = text.find(erase), next; at != text.npos; at = next) {
    next = text.find(erase, at += erase.size());
    std::string line;
    for (size_t i = at; i < std::min(next, text.size()); ++i)
      if (text[i] == '\033') i = text.find('m', i);
      else line += text[i];
    if (!line.empty() && line.find('\n') == line.npos) all.push_back(line);
  }
  return all;
}

int characters(const std::string& s) {
  return int(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// In any order.
std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> all(std::istream_iterator<std::string>(in), {});
  std::sort(all.begin(), all.end());
  return all;
}

bool has_terminals() {
  const int terminal = open_terminal();
  if (terminal < 0) WARN("skipped: this system has no pseudo-terminals");
  return terminal >= 0 && close(terminal) == 0;
}

}  // namespace

TEST_CASE("the progress line is narrower than the terminal, and absent where TERM is dumb") {
  if (!has_terminals()) return;
  make_data();
  for (const int columns : {150, 80, 40, 20}) {
    const std::string text =
        on_terminal("train --data tiny --steps 6 --out wide" + std::to_string(columns) + kSmall, columns, "TERM=xterm");
    const auto lines = redrawn(text);
    REQUIRE(!lines.empty());
    int bars = 0;
    for (auto& line : lines) {
      INFO(columns << ": " << line);
      CHECK(characters(line) < columns);
      CHECK(line.rfind("epoch ", 0) == 0);
      if (const size_t rate = line.find("  lr "); rate != line.npos)  // whole: half of a number is another one
        CHECK((line.size() >= rate + 12 && line[rate + 8] == 'e'));
      bars += line.find("█") != line.npos;
    }
    if (columns != 40) CHECK((bars > 0) == (columns >= 80));  // there a step's time decides whether one fits
  }
  const std::string dumb = on_terminal("train --data tiny --steps 6 --out dumb" + kSmall, 80, "TERM=dumb");
  CHECK(dumb.find('\033') == dumb.npos);
}

TEST_CASE("messages to a closed stream go nowhere, not into a file of the run") {
  make_data();
  CHECK(run("train --data tiny --steps 1 --out deaf" + kSmall, "sh -c 'exec \"$@\" 2>&-' sh").code == 0);
  CHECK(slurp(shared() / "deaf/.lock").empty());
  CHECK(run("train --data tiny --steps 1 --out mute" + kSmall, "sh -c 'exec \"$@\" >&-' sh").code == 1);
}

TEST_CASE("of one thing, messages say one") {
  make_data();
  CHECK(counted(1, "box") + ", " + counted(0, "class") + ", " + counted(12345, "picture") ==
        "1 box, 0 classes, 12,345 pictures");
  const Result made = run("data make shapes lone --train 1 --val 1 --size 64 --classes 1");
  CHECK(made.out == "lone: 1 picture to train on, 1 to validate on, 1 class\n");
  const std::string one = " --set model.anchors.scales=1 --set model.anchors.ratios=1 --threads 1";
  const Result trained = run("train --data lone --steps 1 --out lone-run" + kSmall + one);
  require_words(trained.err, {": 1 picture to train on, 1 to score on, 1 class\n", ", 1 anchor a cell\n",
                              ": 1 step of 4 pictures, 1 an epoch, 1 thread, "});
  fails("lab classify --quick --data lone --format folders --out lone-lab", 3, {": holds 1 folder of classes"});
  require_words(run("eval --weights lone-run --data lone --split val").err, {": 1 picture in "});
  require_words(run("data stats lone --split val").out, {"\n1 picture ("});
  require_words(run("data show lone --split val --out lone.png").out, {": 1 of 1 picture\n"});
}

TEST_CASE("the columns of a table stand below one another, whatever the letters") {
  shared().write("wide.json", R"({"images":[{"id":1,"width":9,"height":9}],"annotations":[],"categories":[
    {"id":1,"name":"物体 é"},{"id":2,"name":"plain"},{"id":3,"name":"e\u0301"}]})");
  shared().write("none.json", "[]");
  const Result r = run("coco-eval wide.json none.json --per-class");
  CHECK(r.code == 0);
  CHECK(r.out.find("\nclass   id  AP\n物体 é   1  n/a\nplain    2  n/a\ne\u0301        3  n/a\n") != r.out.npos);
}

TEST_CASE("a table is as wide as the terminal at most, and a row a line elsewhere") {
  if (!has_terminals()) return;
  for (const std::string command : {"train --keys --preset toy", "lab list"}) {
    const std::string plain = run(command).out;
    const std::vector<std::string> rows = split(plain, '\n');
    CHECK(std::any_of(rows.begin(), rows.end(), [](auto& row) { return characters(row) > 150; }));
    for (const int columns : {80, 100, 160}) {
      const std::string folded = on_terminal(command, columns, "NO_COLOR=1", STDOUT_FILENO);
      for (auto& line : split(folded, '\n')) {
        INFO(columns << ": " << line);
        CHECK(characters(line) <= columns);
      }
      CHECK(words(folded) == words(plain));
    }
    CHECK(on_terminal(command, 400, "NO_COLOR=1 TERM=dumb", STDOUT_FILENO).size() == plain.size() + rows.size());
  }
}

TEST_CASE("the keys are JSON where that is asked for") {
  const Json keys = parse_json(run("train --keys --json --preset toy --lr 0.25").out);
  std::string rate;
  for (const Json& key : keys.items)
    if (key["key"] == "train.lr") rate = key["value"].string;
  CHECK(rate == "0.25");
}
