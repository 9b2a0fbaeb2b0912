// The meaning of a dense head's four box numbers, for each codec; for host and device.
#pragma once

#include "detcore/box.h"

namespace detcore {

// delta:  cell anchors xyxy moved by (x * stride_x, y * stride_y), R-CNN deltas
// yolo:   centre (sigmoid(t) * s - (s - 1) / 2 + cell) * stride, size exp(t) * anchor (v3, v4)
// yolo5:  centre (2 sigmoid(t) - 0.5 + cell) * stride, size (2 sigmoid(t))^2 * anchor
// grid:   centre (t + cell) * stride, size exp(t) * stride (YOLOX)
// ltrb:   distances relu(t) * stride to the four sides from the cell's centre (FCOS)
// dfl:    the same, where t is the expected bin of softmax(logits), one per side (Li et al.,
//         Generalized Focal Loss, NeurIPS 2020; YOLOv8)
enum class DenseCodec : int8_t { delta, yolo, yolo5, grid, ltrb, dfl };

constexpr bool has_anchors(DenseCodec codec) {
  return codec == DenseCodec::delta || codec == DenseCodec::yolo || codec == DenseCodec::yolo5;
}
constexpr bool has_objectness(DenseCodec codec) {
  return codec == DenseCodec::yolo || codec == DenseCodec::yolo5 || codec == DenseCodec::grid;
}

inline namespace DETCORE_ISA {

template <class T>
struct DenseCell {
  T column, row;            // position of the cell
  T stride_x, stride_y;     // pixels
  T anchor[4];              // delta: xyxy; yolo, yolo5: w, h
  CodecWeights<T> weights;  // delta
  T clip;                   // limit of log sizes
  T scale_xy;               // yolo
};

template <class T>
DETCORE_HD Box<T> placed_anchor(const DenseCell<T>& c) {
  T x = c.column * c.stride_x, y = c.row * c.stride_y;
  return {c.anchor[0] + x, c.anchor[1] + y, c.anchor[2] + x, c.anchor[3] + y};
}

template <class T>
DETCORE_HD T relu(T x) {
  return lane_select(x < T(0), T(0), x);  // NaN stays NaN
}

template <DenseCodec codec, class T>
DETCORE_HD Box<T> decode_cell(const Box<T>& t, const DenseCell<T>& c) {
  if constexpr (codec == DenseCodec::delta) {
    return decode_delta(t, placed_anchor(c), c.weights, c.clip);
  } else if constexpr (codec == DenseCodec::ltrb || codec == DenseCodec::dfl) {
    T x = (c.column + T(0.5)) * c.stride_x, y = (c.row + T(0.5)) * c.stride_y;
    return {x - relu(t.x1) * c.stride_x, y - relu(t.y1) * c.stride_y, x + relu(t.x2) * c.stride_x,
            y + relu(t.y2) * c.stride_y};
  } else {
    T x, y, w, h;
    if constexpr (codec == DenseCodec::yolo) {
      T offset = T(0.5) * (c.scale_xy - T(1));
      x = sigmoid(t.x1) * c.scale_xy - offset, y = sigmoid(t.y1) * c.scale_xy - offset;
      w = lane_exp(clip_from_above(t.x2, c.clip)) * c.anchor[0];
      h = lane_exp(clip_from_above(t.y2, c.clip)) * c.anchor[1];
    } else if constexpr (codec == DenseCodec::yolo5) {
      x = T(2) * sigmoid(t.x1) - T(0.5), y = T(2) * sigmoid(t.y1) - T(0.5);
      T sw = T(2) * sigmoid(t.x2), sh = T(2) * sigmoid(t.y2);
      w = sw * sw * c.anchor[0], h = sh * sh * c.anchor[1];
    } else {
      x = t.x1, y = t.y1;
      w = lane_exp(clip_from_above(t.x2, c.clip)) * c.stride_x;
      h = lane_exp(clip_from_above(t.y2, c.clip)) * c.stride_y;
    }
    x = (x + c.column) * c.stride_x, y = (y + c.row) * c.stride_y;
    return {x - T(0.5) * w, y - T(0.5) * h, x + T(0.5) * w, y + T(0.5) * h};
  }
}

// The gradient of the four numbers, given the gradient of the box.
template <DenseCodec codec, class T>
DETCORE_HD Box<T> decode_cell_backward(const Box<T>& t, const DenseCell<T>& c, const Box<T>& g) {
  Box<T> d;
  if constexpr (codec == DenseCodec::delta) {
    Box<T> ignored{T(0), T(0), T(0), T(0)};
    decode_delta_backward(t, placed_anchor(c), c.weights, c.clip, g, d, ignored);
  } else if constexpr (codec == DenseCodec::ltrb || codec == DenseCodec::dfl) {
    // a NaN gets the gradient, as in torch's relu
    d.x1 = lane_select(T(0) >= t.x1, T(0), T(0) - g.x1 * c.stride_x);
    d.y1 = lane_select(T(0) >= t.y1, T(0), T(0) - g.y1 * c.stride_y);
    d.x2 = lane_select(T(0) >= t.x2, T(0), g.x2 * c.stride_x);
    d.y2 = lane_select(T(0) >= t.y2, T(0), g.y2 * c.stride_y);
  } else {
    T g_x = (g.x1 + g.x2) * c.stride_x, g_y = (g.y1 + g.y2) * c.stride_y;
    T g_w = T(0.5) * (g.x2 - g.x1), g_h = T(0.5) * (g.y2 - g.y1);
    if constexpr (codec == DenseCodec::grid) {
      d.x1 = g_x, d.y1 = g_y;
      d.x2 = lane_select(t.x2 > c.clip, T(0), g_w * lane_exp(t.x2) * c.stride_x);
      d.y2 = lane_select(t.y2 > c.clip, T(0), g_h * lane_exp(t.y2) * c.stride_y);
    } else {
      T sx = sigmoid(t.x1), sy = sigmoid(t.y1);
      T slope = codec == DenseCodec::yolo ? c.scale_xy : T(2);
      d.x1 = g_x * slope * sx * (T(1) - sx), d.y1 = g_y * slope * sy * (T(1) - sy);
      if constexpr (codec == DenseCodec::yolo) {
        d.x2 = lane_select(t.x2 > c.clip, T(0), g_w * lane_exp(t.x2) * c.anchor[0]);
        d.y2 = lane_select(t.y2 > c.clip, T(0), g_h * lane_exp(t.y2) * c.anchor[1]);
      } else {
        T sw = sigmoid(t.x2), sh = sigmoid(t.y2);
        d.x2 = g_w * T(8) * sw * sw * (T(1) - sw) * c.anchor[0];
        d.y2 = g_h * T(8) * sh * sh * (T(1) - sh) * c.anchor[1];
      }
    }
  }
  return d;
}

// A distribution over bins 0, 1, ...: the softmax of the logits value(first + k). It is not stored.
template <class T, class Cell>
struct DenseDistribution {
  const Cell& cell;
  int64_t first, bins;
  T most, sum, mean;

  DETCORE_HD DenseDistribution(const Cell& c, int64_t first, int64_t bins)
      : cell(c), first(first), bins(bins), most(c.value(first)), sum(T(0)), mean(T(0)) {
    for (int64_t k = 1; k < bins; ++k) most = lane_max(most, T(cell.value(first + k)));
    for (int64_t k = 0; k < bins; ++k) {
      const T w = weight(k);
      sum = sum + w, mean = mean + w * T(k);
    }
    mean = mean / sum;
  }
  DETCORE_HD T weight(int64_t k) const { return lane_exp(cell.value(first + k) - most); }
  // the derivative of the mean with respect to logit k
  DETCORE_HD T slope(int64_t k) const { return weight(k) / sum * (T(k) - mean); }
};

// The four numbers of a cell's box. cell.value(k) is its raw number k; dfl has `bins` per side.
template <DenseCodec codec, class T, class Cell>
DETCORE_HD Box<T> dense_numbers(const Cell& cell, int64_t bins) {
  if constexpr (codec == DenseCodec::dfl) {
    using Side = DenseDistribution<T, Cell>;
    return {Side(cell, 0, bins).mean, Side(cell, bins, bins).mean, Side(cell, 2 * bins, bins).mean,
            Side(cell, 3 * bins, bins).mean};
  } else {
    return {cell.value(0), cell.value(1), cell.value(2), cell.value(3)};
  }
}

// Calls put(k, gradient) for each raw number of a cell's box. d is the gradient of the four
// numbers.
template <DenseCodec codec, class T, class Cell, class Put>
DETCORE_HD void dense_numbers_backward(const Cell& cell, int64_t bins, const Box<T>& d,
                                       const Put& put) {
  // one call per side: an array indexed at run time would be in local memory on the device
  const auto side = [&](int64_t first, T gradient) {
    if constexpr (codec == DenseCodec::dfl) {
      const DenseDistribution<T, Cell> p(cell, first * bins, bins);
      for (int64_t k = 0; k < bins; ++k) put(first * bins + k, gradient * p.slope(k));
    } else {
      put(first, gradient);
    }
  };
  side(0, d.x1), side(1, d.y1), side(2, d.x2), side(3, d.y2);
}

// How the raw numbers after a cell's box become scores.
template <class T>
struct DenseScores {
  int64_t first;    // index of the first of them
  bool objectness;  // it comes before the class logits
  bool alone;       // no class logits: objectness is the score
  int64_t classes;
  T threshold;  // < 0: none
};

// Computes a cell's scores one by one. cell.value(k) is the cell's raw number k. T may be Lanes.
template <class T, class Cell>
struct CellScores {
  using Mask = decltype(T() < T());
  DenseScores<T> s;
  const Cell& cell;
  T object;
  Mask any_score, wanted;  // the box is wanted if any score so far is wanted
  bool hopeless;           // the objectness is an upper bound of all scores, and is too low

  DETCORE_HD CellScores(const DenseScores<T>& s, const Cell& cell)
      : s(s),
        cell(cell),
        object(s.objectness ? sigmoid(cell.value(s.first)) : T(1)),
        any_score(s.threshold < T(0)),
        wanted(any_score),
        hopeless(!lane_any(any_score) && !lane_any(object > s.threshold)) {}

  // The score of class c, or 0 if it is not above the threshold.
  DETCORE_HD T operator()(int64_t c) {
    if (hopeless) return T(0);
    const T score = s.alone ? object : object * sigmoid(cell.value(s.first + s.objectness + c));
    wanted = wanted | (score > s.threshold);
    return lane_select(any_score | (score > s.threshold), score, T(0));
  }
};

}  // namespace DETCORE_ISA
}  // namespace detcore
