// Products that read one factor in panels, packed once and used many times, and hold what they add up in registers.

#include "tiles.h"

namespace {

constexpr int TALL = WIDTH >= 16 ? 12 : 6;  // of a tile, at most: two vectors of each are sums in registers
constexpr int64_t PANEL = 2 * WIDTH;        // columns

int64_t packed_size(int64_t depth, int64_t columns) { return (columns + PANEL - 1) / PANEL * PANEL * depth; }

// Write WIDTH rows of WIDTH numbers as columns: riffled log2(WIDTH) times, halves of rows stand in the other order.
inline void turn(const float* from, int64_t row, float* to, int64_t to_row) {
  Vector held[WIDTH], next[WIDTH];
#pragma GCC unroll 16
  for (int i = 0; i < WIDTH; ++i) held[i] = Vector::loadu(from + i * row);
#pragma GCC unroll 4
  for (int done = 1; done < WIDTH; done *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH / 2; ++i) {
      auto pair = at::vec::interleave2(held[i], held[i + WIDTH / 2]);
      next[2 * i] = pair.first, next[2 * i + 1] = pair.second;
    }
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i) held[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < WIDTH; ++i) held[i].store(to + i * to_row);
}

// Write b [depth, columns] as panels [ceil(columns / PANEL), depth, PANEL], the last one filled up with zeros.
const float* pack(Matrix b, float* panels, int64_t depth, int64_t columns) {
  float* to = panels;
  for (int64_t n = 0; n < columns; n += PANEL, to += depth * PANEL) {
    const int64_t count = std::min(PANEL, columns - n);
    const float* from = b.at + n * b.column;
    int64_t k = 0;
    if (count == PANEL && b.column == 1) {
      for (; k < depth; ++k)
        for (int64_t i = 0; i < PANEL; i += WIDTH) Vector::loadu(from + k * b.row + i).store(to + k * PANEL + i);
    } else if (count == PANEL && b.row == 1) {
      for (; k + WIDTH <= depth; k += WIDTH)
        for (int64_t i = 0; i < PANEL; i += WIDTH)
          turn(from + k + i * b.column, b.column, to + k * PANEL + i, PANEL);
    }
    for (; k < depth; ++k)
      for (int64_t i = 0; i < PANEL; ++i) to[k * PANEL + i] = i < count ? from[k * b.row + i * b.column] : 0.0f;
  }
  return panels;
}

// out[m, n] = sum_k a[m, k] panel[k, n], or `factor` times that added to out; n below `count` where that is less than N vectors.
// A function of its own: inlined, the compiler fears that what it writes changes what it was called with.
template <int M, int N, bool ADDS, bool PART>
__attribute__((noinline)) void tile(Matrix a, const float* panel, float* out, int64_t depth, int64_t row, int64_t count, float factor) {
  Vector sums[M][N], right[N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) sums[m][n] = Vector(0.0f);
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) right[n] = Vector::loadu(panel + k * PANEL + n * WIDTH);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      Vector left(a.at[m * a.row + k * a.column]);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) sums[m][n] = at::vec::fmadd(left, right[n], sums[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      float* place = out + m * row + n * WIDTH;
      int64_t width = PART ? std::min(WIDTH, count - n * WIDTH) : WIDTH;
      if (width <= 0) continue;
      if constexpr (ADDS) sums[m][n] = at::vec::fmadd(Vector(factor), sums[m][n], Vector::loadu(place, width));
      sums[m][n].store(place, width);
    }
}

// The same for all columns, with M rows of a.
template <int M, bool ADDS>
void tiles(Matrix a, const float* b, float* out, int64_t depth, int64_t columns, int64_t row, float factor) {
  int64_t n = 0;
  for (; n + PANEL <= columns; n += PANEL, b += depth * PANEL) tile<M, 2, ADDS, false>(a, b, out + n, depth, row, PANEL, factor);
  if (columns - n > WIDTH) {
    tile<M, 2, ADDS, true>(a, b, out + n, depth, row, columns - n, factor);
  } else if (n < columns) {
    tile<M, 1, ADDS, true>(a, b, out + n, depth, row, columns - n, factor);
  }
}

// out [rows, columns] = a [rows, depth] b, or `factor` times that added to out; b packed, out's rows are `row` apart.
template <bool ADDS>
void multiply(Matrix a, const float* b, float* out, int64_t rows, int64_t depth, int64_t columns, int64_t row,
              float factor = 1.0f) {
  in_tiles<TALL>(rows, [&](int64_t first, int64_t size) {
    sized<TALL>(size, [&](auto m) {
      tiles<m.value, ADDS>({a.at + first * a.row, a.row, a.column}, b, out + first * row, depth, columns, row, factor);
    });
  });
}

// out [rows, columns] = a^T b, a [depth, rows] as panels of one vector [ceil(rows / WIDTH), depth, WIDTH]; b packed.
void multiply_turned(const float* a, int64_t panel, const float* b, float* out, int64_t rows, int64_t depth, int64_t columns) {
  constexpr int64_t HALF = WIDTH / 2;
  for (int64_t first = 0; first < rows; first += HALF)
    sized<HALF>(std::min(HALF, rows - first), [&](auto m) {
      const Matrix left{a + first / WIDTH * panel + first % WIDTH, 1, WIDTH};
      tiles<m.value, false>(left, b, out + first * columns, depth, columns, columns, 1.0f);
    });
}

}  // namespace
