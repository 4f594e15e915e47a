// Drawing on pictures: boxes with labels, anti-aliased lines, text in an embedded font, and pages of pictures.
#pragma once
#include <string>
#include <vector>

#include "core/box.h"
#include "data/image.h"

namespace fovea {

struct Colour {
  uint8_t r = 0, g = 0, b = 0;
};

Colour class_colour(int label);  // clearly different for the first dozen, then by the golden angle

// Coordinates are pixels, (0, 0) the corner of the first one; whatever lies outside the picture is cut off.
void fill_box(Image& image, const Box<float>& box, Colour colour, double opacity = 1);
void draw_line(Image& image, double x1, double y1, double x2, double y2, Colour colour, double width = 1);
void draw_disc(Image& image, double x, double y, double radius, Colour colour);
void draw_box(Image& image, const Box<float>& box, Colour colour, double width = 2);
// With a fine dark edge, so that a light one is seen on light ground, too.
void draw_edged_box(Image& image, const Box<float>& box, Colour colour, double width);
// The box with its text on a coloured tab above it (below its upper edge where there is no room above).
void draw_label(Image& image, const Box<float>& box, const std::string& label, Colour colour, int scale = 1);
// By which a label can be read where the whole picture is shown on a screen: 1 up to some 1000 pixels, 5 at 4000.
int label_scale(const Image& image);
// A dashed outline, for regions that are neither object nor background.
void draw_ignore(Image& image, const Box<float>& box);

// Text of glyphs in 6 x 10 cells (ASCII, and Latin letters without their marks; anything else is shown as a box), (x,
// y) the upper left corner.
void draw_text(Image& image, int x, int y, const std::string& text, Colour colour, int scale = 1);
void draw_text_up(Image& image, int x, int y, const std::string& text, Colour colour, int scale = 1);  // turned left
int text_width(const std::string& text, int scale = 1);
int text_height(int scale = 1);

// Puts `part` on `image` with its corner at (x, y).
void paste(Image& image, const Image& part, int x, int y);

struct TileOptions {
  int columns = 0;  // 0: as square a page as possible
  int cell = 320;   // pictures are shrunk (or enlarged) to fit a square of this many pixels
  int gap = 8;
};
// A page of pictures with a line of text below each (captions may be empty or shorter than pictures).
Image tile(const std::vector<Image>& pictures, const std::vector<std::string>& captions = {},
           const TileOptions& options = {});

}  // namespace fovea
