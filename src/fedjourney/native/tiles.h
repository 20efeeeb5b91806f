// What kernels here share: vectors, and tiles of rows whose number the compiler knows.
// Compiled on the machine it runs on, for its own vectors (PyTorch's classes for them).

#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace {

using Vector = at::vec::Vectorized<float>;
constexpr int64_t WIDTH = Vector::size();

struct Matrix {  // that is read only, in any order
  const float* at;
  int64_t row, column;  // strides
};

// Call `tile(size)` with `size` known to the compiler, 1 to MOST.
template <int MOST, typename Tile>
inline void sized(int64_t size, const Tile& tile) {
  if (size == MOST) {
    tile(std::integral_constant<int, MOST>{});
  } else if constexpr (MOST > 1) {
    sized<MOST - 1>(size, tile);
  }
}

// Call `part(first, size)` for the rows in as few tiles of at most MOST as will do, as even as they can be.
template <int MOST, typename Part>
inline void in_tiles(int64_t rows, const Part& part) {
  int64_t tiles = (rows + MOST - 1) / MOST;
  for (int64_t first = 0; tiles > 0; --tiles) {
    int64_t size = (rows - first + tiles - 1) / tiles;
    part(first, size);
    first += size;
  }
}

// Call `body(first, count)` for all of `width` numbers, a vector at a time.
template <typename Body>
inline void along(int64_t width, const Body& body) {
  for (int64_t n = 0; n < width; n += WIDTH) body(n, std::min(WIDTH, width - n));
}

Vector get(const float* from, int64_t count) { return count == WIDTH ? Vector::loadu(from) : Vector::loadu(from, count); }

void put(Vector x, float* to, int64_t count) { count == WIDTH ? x.store(to) : x.store(to, count); }

}  // namespace
