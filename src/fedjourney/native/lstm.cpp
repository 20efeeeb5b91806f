// A layer of an LSTM over a whole sequence, and its gradient; lane by lane, so that a client's weights stay in the cache.

#include "panels.h"

namespace {

Vector sigmoid(Vector x) { return Vector(1.0f) / (Vector(1.0f) + x.neg().exp()); }

Vector hyperbolic(Vector x) { return Vector(1.0f) - Vector(2.0f) / (Vector(1.0f) + (x + x).exp()); }

void add(Vector x, float* to, int64_t count) { put(get(to, count) + x, to, count); }

}  // namespace

extern "C" {

// Numbers of the scratch memory that the two functions below need.
int64_t fedjourney_scratch(int64_t steps, int64_t count, int64_t inputs, int64_t width) {
  int64_t rows = steps * count, gates = 4 * width;
  int64_t forward = packed_size(inputs, gates) + packed_size(width, gates);
  int64_t backward = packed_size(gates, inputs) + packed_size(gates, width) + packed_size(rows, std::max(inputs, width)) +
                     rows * gates + 4 * (width + WIDTH) * rows + 2 * count * width;
  return std::max(forward, backward);
}

// x [L, T, B, I], inward [L, 4H, I], across [L, 4H, H], bias [L, 4H], peephole [L, 3, H] or null -> h, c [L, T, B, H],
// gates [L, T, B, 4H] as they are after their squashing, all contiguous.
void fedjourney_lstm(const float* x, const float* inward, const float* across, const float* bias, const float* peephole,
                     float* h, float* gates, float* c, float* scratch, int64_t lanes, int64_t steps, int64_t count,
                     int64_t inputs, int64_t width) {
  const int64_t all = 4 * width;
  for (; lanes > 0; --lanes) {
    const float* from_x = pack({inward, 1, inputs}, scratch, inputs, all);
    const float* from_h = pack({across, 1, width}, scratch + packed_size(inputs, all), width, all);
    multiply<false>({x, inputs, 1}, from_x, gates, steps * count, inputs, all, all);
    for (int64_t t = 0; t < steps; ++t) {
      float *now = gates + t * count * all, *h_now = h + t * count * width, *c_now = c + t * count * width;
      const float* c_before = c_now - count * width;
      if (t > 0) multiply<true>({h_now - count * width, width, 1}, from_h, now, count, width, all, all);
      for (int64_t b = 0; b < count; ++b) {
        along(width, [&](int64_t n, int64_t size) {
          float* gate = now + b * all + n;
          const float* of_bias = bias + n;
          auto before = t > 0 ? get(c_before + b * width + n, size) : Vector(0.0f);
          auto i = get(gate, size) + get(of_bias, size);
          auto f = get(gate + width, size) + get(of_bias + width, size);
          auto g = hyperbolic(get(gate + 2 * width, size) + get(of_bias + 2 * width, size));
          auto o = get(gate + 3 * width, size) + get(of_bias + 3 * width, size);
          if (peephole) {
            i = at::vec::fmadd(get(peephole + n, size), before, i);
            f = at::vec::fmadd(get(peephole + width + n, size), before, f);
          }
          i = sigmoid(i), f = sigmoid(f);
          auto after = at::vec::fmadd(f, before, i * g);
          if (peephole) o = at::vec::fmadd(get(peephole + 2 * width + n, size), after, o);
          o = sigmoid(o);
          put(i, gate, size), put(f, gate + width, size), put(g, gate + 2 * width, size), put(o, gate + 3 * width, size);
          put(after, c_now + b * width + n, size);
          put(o * hyperbolic(after), h_now + b * width + n, size);
        });
      }
    }
    const int64_t rows = steps * count;
    x += rows * inputs, inward += all * inputs, across += all * width, bias += all;
    if (peephole) peephole += 3 * width;
    h += rows * width, c += rows * width, gates += rows * all;
  }
}

// The gradients of all that from `grad` [L, T, B, H], that of h.
void fedjourney_lstm_backward(const float* grad, const float* x, const float* inward, const float* across,
                              const float* peephole, const float* h, const float* gates, const float* c, float* of_x,
                              float* of_inward, float* of_across, float* of_bias, float* of_peephole, float* scratch,
                              int64_t lanes, int64_t steps, int64_t count, int64_t inputs, int64_t width) {
  const int64_t all = 4 * width, rows = steps * count;
  float* panels_x = scratch;
  float* panels_h = panels_x + packed_size(all, inputs);
  float* panels = panels_h + packed_size(all, width);
  float* moved = panels + packed_size(rows, std::max(inputs, width));  // gradients of the gates, unsquashed [T, B, 4H]
  float* turned = moved + rows * all;  // the same, gate by gate, in panels of a vector's width [4, ceil(H), T, B, WIDTH]
  const int64_t turn = (width + WIDTH - 1) / WIDTH * rows * WIDTH;
  float* later_h = turned + 4 * turn;
  float* later_c = later_h + count * width;
  for (; lanes > 0; --lanes) {
    const float* to_x = pack({inward, inputs, 1}, panels_x, all, inputs);
    const float* to_h = pack({across, width, 1}, panels_h, all, width);
    std::fill(later_h, later_c + count * width, 0.0f);
    if (peephole) std::fill(of_peephole, of_peephole + 3 * width, 0.0f);
    for (int64_t t = steps - 1; t >= 0; --t) {
      for (int64_t b = 0; b < count; ++b) {
        along(width, [&](int64_t n, int64_t size) {
          const int64_t row = t * count + b;
          const float* gate = gates + row * all + n;
          const float* c_now = c + row * width + n;
          float *move = moved + row * all + n, *h_later = later_h + b * width + n, *c_later = later_c + b * width + n;
          float* turn_to = turned + (n * rows + row * WIDTH);
          const Vector one(1.0f);
          auto i = get(gate, size), f = get(gate + width, size);
          auto g = get(gate + 2 * width, size), o = get(gate + 3 * width, size);
          auto after = get(c_now, size), squashed = hyperbolic(after);
          auto before = t > 0 ? get(c_now - count * width, size) : Vector(0.0f);
          auto of_h = get(grad + row * width + n, size) + get(h_later, size);
          auto of_o = of_h * squashed * o * (one - o);
          auto of_c = at::vec::fmadd(of_h * o, one - squashed * squashed, get(c_later, size));
          if (peephole) of_c = at::vec::fmadd(of_o, get(peephole + 2 * width + n, size), of_c);
          auto of_i = of_c * g * i * (one - i), of_f = of_c * before * f * (one - f), of_g = of_c * i * (one - g * g);
          auto left = of_c * f;
          if (peephole) {
            left = at::vec::fmadd(of_i, get(peephole + n, size), left);
            left = at::vec::fmadd(of_f, get(peephole + width + n, size), left);
            add(of_i * before, of_peephole + n, size);
            add(of_f * before, of_peephole + width + n, size);
            add(of_o * after, of_peephole + 2 * width + n, size);
          }
          put(of_i, move, size), put(of_f, move + width, size);
          put(of_g, move + 2 * width, size), put(of_o, move + 3 * width, size);
          of_i.store(turn_to), of_f.store(turn_to + turn), of_g.store(turn_to + 2 * turn), of_o.store(turn_to + 3 * turn);
          put(left, c_later, size);
        });
      }
      if (t > 0) multiply<false>({moved + t * count * all, all, 1}, to_h, later_h, count, all, width, width);
    }
    multiply<false>({moved, all, 1}, to_x, of_x, rows, all, inputs, inputs);
    pack({x, inputs, 1}, panels, rows, inputs);
    for (int64_t gate = 0; gate < 4; ++gate)
      multiply_turned(turned + gate * turn, rows * WIDTH, panels, of_inward + gate * width * inputs, width, rows, inputs);
    const int64_t later = rows - count;  // the second step is the first that read an h
    pack({h, width, 1}, panels, later, width);
    for (int64_t gate = 0; gate < 4; ++gate)
      multiply_turned(turned + gate * turn + count * WIDTH, rows * WIDTH, panels, of_across + gate * width * width, width, later, width);
    std::fill(of_bias, of_bias + all, 0.0f);
    for (int64_t row = 0; row < rows; ++row)
      along(all, [&](int64_t n, int64_t size) { add(get(moved + row * all + n, size), of_bias + n, size); });
    grad += rows * width, x += rows * inputs, inward += all * inputs, across += all * width;
    h += rows * width, gates += rows * all, c += rows * width;
    of_x += rows * inputs, of_inward += all * inputs, of_across += all * width, of_bias += all;
    if (peephole) peephole += 3 * width, of_peephole += 3 * width;
  }
}

}  // extern "C"
