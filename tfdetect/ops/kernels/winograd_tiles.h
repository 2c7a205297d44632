// The tiles of Winograd's F(2 x 2, 3 x 3): where they lie, and which of them need which product.
#ifndef TFDETECT_WINOGRAD_TILES_H_
#define TFDETECT_WINOGRAD_TILES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "winograd.h"

namespace tfdetect {

constexpr int kSide = 4;  // of a tile's input; its output is 2 x 2

// Where a tile's output begins, and whether the map goes on after its first row and column.
struct Corner {
  int64_t image, y, x;
  bool below, right;
  Corner(const WinogradShape& shape, int64_t tile) {
    const int64_t row = tile / shape.tile_columns();
    image = row / shape.tile_rows();
    y = row % shape.tile_rows() * 2;
    x = tile % shape.tile_columns() * 2;
    below = y + 1 < shape.height;
    right = x + 1 < shape.width;
  }
};

// Tiles in the order right only, right and below, below only, neither: a product of the last row of
// a tile is for `below` alone and one of the last column for `right`, so that the tiles that need a
// product follow each other. (At the end of a map of odd sides, as of 7 x 7, tiles are 1 wide.)
struct TileOrder {
  std::vector<Corner> corners;
  int64_t first_below = 0, end_right = 0, end_below = 0;

  TileOrder(const WinogradShape& shape, int64_t begin, int64_t end) {
    corners.reserve(end - begin);
    for (int kind = 0; kind < 4; ++kind) {
      const bool right = kind < 2, below = kind == 1 || kind == 2;
      for (int64_t tile = begin; tile < end; ++tile) {
        const Corner corner(shape, tile);
        if (corner.right == right && corner.below == below) corners.push_back(corner);
      }
      const int64_t count = corners.size();
      if (kind == 0) first_below = count;
      if (kind == 1) end_right = count;
      if (kind == 2) end_below = count;
    }
  }

  int64_t Begin(int64_t product) const { return product / kSide == kSide - 1 ? first_below : 0; }
  int64_t End(int64_t product) const {
    const int64_t end = product / kSide == kSide - 1 ? end_below : corners.size();
    return product % kSide == kSide - 1 ? end_right : end;
  }
};

// The 16 pixels of a tile's input in x [B, H, W, Cin]; of what lies beyond the map, or beyond sizes
// [B, 2] unless that is null, `nothing` [Cin].
template <typename T>
void TilePixels(const WinogradShape& shape, const Corner& corner, const T* x, const int32_t* sizes,
                const T* nothing, const T* pixels[kSide * kSide]) {
  const int64_t height =
      sizes ? std::min<int64_t>(sizes[corner.image * 2], shape.height) : shape.height;
  const int64_t width =
      sizes ? std::min<int64_t>(sizes[corner.image * 2 + 1], shape.width) : shape.width;
  const T* image = x + corner.image * shape.height * shape.width * shape.channels;
  for (int i = 0; i < kSide * kSide; ++i) {
    const int64_t py = corner.y - 1 + i / kSide, px = corner.x - 1 + i % kSide;
    const bool inside = py >= 0 && py < height && px >= 0 && px < width;
    pixels[i] = inside ? image + (py * shape.width + px) * shape.channels : nothing;
  }
}

}  // namespace tfdetect

#endif  // TFDETECT_WINOGRAD_TILES_H_
