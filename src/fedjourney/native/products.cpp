// Products of matrices, lane by lane. Of a thin one nothing is packed: a batch is a few rows, where that pays least.

#include "panels.h"

namespace {

constexpr int ROWS = 6;                        // of a tile, at most
constexpr int COLUMNS = WIDTH >= 16 ? 4 : 2;  // of a tile: so many sums fit into the registers

// out[m, n] = sum_k a[m, k] b[n, k]: both are read along their rows, sums lie across a vector until the end.
template <int M, int N>
__attribute__((noinline)) void dot_tile(const float* a, const float* b, float* out, int64_t depth, int64_t columns) {
  Vector sums[M][N], right[N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sums[m][n] = Vector(0.0f);
  auto add = [&](int64_t k, auto load) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) right[n] = load(b + n * depth + k);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      Vector left = load(a + m * depth + k);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[m][n] = at::vec::fmadd(left, right[n], sums[m][n]);
    }
  };
  int64_t k = 0;
  for (; k + WIDTH <= depth; k += WIDTH) add(k, [](const float* from) { return Vector::loadu(from); });
  if (k < depth) add(k, [&](const float* from) { return Vector::loadu(from, depth - k); });  // the rest is zeros
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) out[m * columns + n] = sums[m][n].reduce_add();
}

template <int N>
inline void dot_columns(const float* a, const float* b, float* out, int64_t rows, int64_t depth, int64_t columns) {
  in_tiles<ROWS>(rows, [&](int64_t first, int64_t size) {
    sized<ROWS>(size, [&](auto m) { dot_tile<m.value, N>(a + first * depth, b, out + first * columns, depth, columns); });
  });
}

// out[m, n] = sum_k a[m, k] b[k, n], or factor times it added to out; n in N vectors, or in `count` < WIDTH columns.
// A function of its own: inlined, the compiler fears that what it writes changes what it was called with.
template <int M, int N, bool ADDS, bool PART>
__attribute__((noinline)) void axpy_tile(Matrix a, const float* b, float* out, int64_t depth, int64_t columns, float factor, int64_t count) {
  Vector sums[M][N], right[N];
  auto load = [count](const float* from) {
    if constexpr (PART) {
      return Vector::loadu(from, count);
    } else {
      return Vector::loadu(from);
    }
  };
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sums[m][n] = Vector(0.0f);
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) right[n] = load(b + k * columns + n * WIDTH);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      Vector left(a.at[m * a.row + k * a.column]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[m][n] = at::vec::fmadd(left, right[n], sums[m][n]);
    }
  }
  const Vector scale(factor);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      float* place = out + m * columns + n * WIDTH;
      Vector made = sums[m][n];
      if constexpr (ADDS) made = at::vec::fmadd(scale, made, load(place));
      if constexpr (PART) {
        made.store(place, count);
      } else {
        made.store(place);
      }
    }
}

template <bool ADDS>
void axpy(Matrix a, const float* b, float* out, int64_t rows, int64_t depth, int64_t columns, float factor) {
  auto block = [&](int64_t first, int64_t size, int64_t from, int64_t until) {
    sized<ROWS>(size, [&](auto tile) {
      constexpr int M = decltype(tile)::value;
      Matrix left{a.at + first * a.row, a.row, a.column};
      float* to = out + first * columns;
      int64_t n = from;
      for (; n + COLUMNS * WIDTH <= until; n += COLUMNS * WIDTH)
        axpy_tile<M, COLUMNS, ADDS, false>(left, b + n, to + n, depth, columns, factor, 0);
      for (; n + WIDTH <= until; n += WIDTH) axpy_tile<M, 1, ADDS, false>(left, b + n, to + n, depth, columns, factor, 0);
      if (n < until) axpy_tile<M, 1, ADDS, true>(left, b + n, to + n, depth, columns, factor, until - n);
    });
  };
  if (depth < rows) {  // few rows of b, which stay in the cache: walk along `out`
    in_tiles<ROWS>(rows, [&](int64_t first, int64_t size) { block(first, size, 0, columns); });
  } else {  // b is the large one: read it once
    for (int64_t n = 0; n < columns; n += COLUMNS * WIDTH) {
      int64_t until = n + COLUMNS * WIDTH < columns ? n + COLUMNS * WIDTH : columns;
      in_tiles<ROWS>(rows, [&](int64_t first, int64_t size) { block(first, size, n, until); });
    }
  }
}

}  // namespace

extern "C" {

// out [L, M, N] = a [L, M, K] b [L, N, K]^T, all contiguous.
void fedjourney_dot(const float* a, const float* b, float* out, int64_t lanes, int64_t rows, int64_t depth,
                    int64_t columns) {
  for (; lanes > 0; --lanes, a += rows * depth, b += columns * depth, out += rows * columns) {
    int64_t n = 0;
    for (; n + COLUMNS <= columns; n += COLUMNS) dot_columns<COLUMNS>(a, b + n * depth, out + n, rows, depth, columns);
    for (; n < columns; ++n) dot_columns<1>(a, b + n * depth, out + n, rows, depth, columns);
  }
}

// out [L, M, N] = a [L, M, K] b [L, K, N]; b and out are contiguous, a has strides.
void fedjourney_axpy(const float* a, const float* b, float* out, int64_t lanes, int64_t rows, int64_t depth,
                     int64_t columns, int64_t a_lane, int64_t a_row, int64_t a_column) {
  for (; lanes > 0; --lanes, a += a_lane, b += depth * columns, out += rows * columns)
    axpy<false>({a, a_row, a_column}, b, out, rows, depth, columns, 1.0f);
}

// The same with `factor` times the product added to out.
void fedjourney_add_axpy(const float* a, const float* b, float* out, int64_t lanes, int64_t rows, int64_t depth,
                         int64_t columns, int64_t a_lane, int64_t a_row, int64_t a_column, float factor) {
  for (; lanes > 0; --lanes, a += a_lane, b += depth * columns, out += rows * columns)
    axpy<true>({a, a_row, a_column}, b, out, rows, depth, columns, factor);
}

// Numbers of the scratch memory that `fedjourney_thick` needs.
int64_t fedjourney_thick_scratch(int64_t depth, int64_t columns) { return packed_size(depth, columns); }

// out [L, M, N] = a [L, M, K] b [L, K, N], or `factor` times that added to out, which is contiguous; a, b have strides.
void fedjourney_thick(const float* a, const float* b, float* out, float* scratch, int64_t lanes, int64_t rows,
                      int64_t depth, int64_t columns, int64_t a_lane, int64_t a_row, int64_t a_column, int64_t b_lane,
                      int64_t b_row, int64_t b_column, bool adds, float factor) {
  for (; lanes > 0; --lanes, a += a_lane, b += b_lane, out += rows * columns) {
    pack({b, b_row, b_column}, scratch, depth, columns);
    if (adds) {
      multiply<true>({a, a_row, a_column}, scratch, out, rows, depth, columns, columns, factor);
    } else {
      multiply<false>({a, a_row, a_column}, scratch, out, rows, depth, columns, columns);
    }
  }
}

}  // extern "C"
