// COCO's category names by id: what weights trained on COCO under its own ids (torchvision's) mean by their labels.
#pragma once
#include "core/words.h"

namespace fovea {

// 91 entries; "" where the id is not used (0, the background, and 10 others).
inline const std::vector<std::string>& coco_names() {
  static const std::vector<std::string> names = split(
      "|person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant||stop sign|"
      "parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe||backpack|umbrella|||handbag|"
      "tie|suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|"
      "tennis racket|bottle||wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|"
      "hot dog|pizza|donut|cake|chair|couch|potted plant|bed||dining table|||toilet||tv|laptop|mouse|remote|"
      "keyboard|cell phone|microwave|oven|toaster|sink|refrigerator||book|clock|vase|scissors|teddy bear|"
      "hair drier|toothbrush",
      '|');
  return names;
}

}  // namespace fovea
