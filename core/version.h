// The version of the project, once: CMakeLists.txt reads this line, files and --version show it.
#pragma once

namespace fovea {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace fovea
