// The rehearsal switch of the loops.
#include "core/loops.h"

namespace fovea {

bool& rehearsal() {
  static bool on = false;
  return on;
}

}  // namespace fovea
