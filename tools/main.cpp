// The fovea program: lists the commands, runs the one that was asked for, and turns what went wrong into an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <new>

#include "tools/command.h"

namespace fovea {

// A new command is one line here, and its file.
#define FOVEA_COMMANDS(X) \
  X(train) X(eval) X(detect) X(explain) X(parity) X(gradcheck) X(model) X(coco_eval) X(data) X(bench) X(doctor) X(lab)
#define X(name) void add_##name(Command& program);
FOVEA_COMMANDS(X)
#undef X

static void declare(Command& program) {
#define X(name) add_##name(program);
  FOVEA_COMMANDS(X)
#undef X
}

// The number of a closed stream would be given to the next file, and messages would be written into that.
static void hold_streams() {
  for (int stream = 0; stream <= 2; ++stream)
    if (fcntl(stream, F_GETFD) < 0) open("/dev/null", O_RDONLY);  // writing fails, as it does where one is closed
}

// Weights are read where the system shows their file as memory: there is no call that could fail.
extern "C" void on_bus_error(int) {
  static const char message[] =
      "error: a file of weights was cut off or written over while it was read, or its disk failed\n"
      "  hint: put a new file in the place of an old one with mv, which a reader does not notice\n";
  if (write(STDERR_FILENO, message, sizeof message - 1) < 0) {}
  _exit(exit_code(Code::model));
}

}  // namespace fovea

int main(int argc, char** argv) {
  using namespace fovea;
  hold_streams();
  end_by_signals();
  std::signal(SIGBUS, on_bus_error);
  std::signal(SIGXFSZ, SIG_IGN);  // over the limit of ulimit -f, writing fails with a message instead
  try {
    return run_command_line(argc, argv, declare);
  } catch (const Exit& exit) {
    std::cout.flush();
    return exit.code;
  } catch (const Error& error) { return complain(error.what(), exit_code(error.code)); } catch (const std::bad_alloc&) {
    return complain("out of memory\n  hint: a smaller train.batch, data.short_side or data.max_side needs less",
                    exit_code(Code::memory));
  } catch (const std::filesystem::filesystem_error& error) {
    return complain(text("'", error.path1().string(), "': ", error.code().message(),
                         "\n  hint: is the path right, and may this user read and write there?"),
                    exit_code(Code::failure));
  } catch (const std::exception& error) { return complain(error.what(), exit_code(Code::failure)); }
}
