// The embedded font: 95 printable ASCII glyphs of 5 x 9 pixels, in 6 x 10 cells. Internal to data/draw.cpp.
// Latin letters with marks are drawn without them.
#pragma once
#include <cstdint>

namespace fovea::detail {

inline constexpr int kGlyphWidth = 5, kGlyphHeight = 9;

// Bit 5 * row + column of glyph c - 32: set where there is ink. Capitals stand in rows 0-6, descenders reach row 8.
// clang-format off
inline constexpr uint64_t kGlyphs[95] = {
    0x0, 0x100421084, 0x294a, 0x295f57d4a, 0x11f4717c4, 0x672222273, 0x593511526,
    0x1084, 0x208210888, 0x88842082, 0x9575480, 0x84f9080, 0x1118000000, 0xf8000,
    0x18c000000, 0x42222210, 0x3a33ae62e, 0x3884210c4, 0x7c226422e, 0x3a306422e, 0x211f4a988,
    0x3a3083c3f, 0x3a317844c, 0x8442221f, 0x3a317462e, 0x1910f462e, 0x18c0018c0, 0x110c0018c0,
    0x208208888, 0x1f07c00, 0x88882082, 0x10046422e, 0x383daf62e, 0x463f8c544, 0x3e317c62f,
    0x3a210862e, 0x3e318c62f, 0x7c217843f, 0x4217843f, 0x3a31e862e, 0x4631fc631, 0x38842108e,
    0x19284211c, 0x452519531, 0x7c2108421, 0x4631ad771, 0x4739ace71, 0x3a318c62e, 0x4217c62f,
    0x59358c62e, 0x45257c62f, 0x3e107043e, 0x10842109f, 0x3a318c631, 0x114a8c631, 0x4775ac631,
    0x462a22a31, 0x108422a31, 0x7c222221f, 0x38421084e, 0x420820821, 0x39084210e, 0x4544,
    0xf800000000, 0x82, 0x7a3e83800, 0x3e318bc21, 0x78210f800, 0x7a318fa10, 0x383f8b800,
    0x84213c4c, 0xe87a318f800, 0x46318bc21, 0x388421804, 0x64210843008, 0x24a32a421, 0x388421086,
    0x56b5aac00, 0x46318bc00, 0x3a318b800, 0x10be318bc00, 0x1087a318f800, 0x4219b400, 0x3e0e0f800,
    0x324213c42, 0x7a318c400, 0x11518c400, 0x2ab58c400, 0x454454400, 0xe87a318c400, 0x7c4447c00,
    0x608411098, 0x108421084, 0xc8441083, 0x9ac800,
};
// clang-format on
// U+00C0 to U+017F.
inline constexpr char kWithoutMarks[] =
    "AAAAAAACEEEEIIIIDNOOOOOxOUUUUYTsaaaaaaaceeeeiiiidnooooo/ouuuuyty"
    "AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIiIiJjKkkLlLlLlL"
    "lLlNnNnNnnNnOoOoOoOoRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzs";
inline constexpr uint64_t kNoGlyph = 0x7e318c63f;  // a box, for what is not in the table

}  // namespace fovea::detail
