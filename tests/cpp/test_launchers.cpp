// Calls every launcher like a plain C++ program: with raw device pointers, sizes, a stream, and
// without CUDA's headers. On a GPU (or the simulator) the results must equal those of the CPU
// kernel. Without a GPU the launcher must fail with the driver's message, and succeed for empty
// inputs.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "check.h"
#include "detcore/box_codec.h"
#include "detcore/box_iou.h"
#include "detcore/box_iou_rotated.h"
#include "detcore/cuda_device.h"
#include "detcore/decode_dense.h"
#include "detcore/match_boxes.h"
#include "detcore/multiclass_nms.h"
#include "detcore/nms.h"
#include "detcore/nms_rotated.h"
#include "detcore/paired_box_iou.h"
#include "detcore/points_in_boxes.h"
#include "detcore/roi_align.h"
#include "detcore/roi_align_rotated.h"
#include "detcore/roi_pool.h"
#include "detcore/soft_nms.h"
#include "detcore/weighted_boxes_fusion.h"

#if defined(DETCORE_WITH_CUDA) || defined(DETCORE_SIMT)

#include "side.h"

namespace {

// --- the cases: each asks for n of something, and for nothing at all where n is 0 ---------------
// Boxes of a kind that meet.
std::vector<float> rotated_boxes(RotatedKind kind, int64_t n, unsigned seed) {
  const int numbers = numbers_of(kind), centre = kind == RotatedKind::image ? 2 : 3;
  std::vector<float> out = floats(numbers * n, seed);
  for (int64_t i = 0; i < numbers * n; ++i) {
    const int64_t k = i % numbers;
    out[i] = k < 2             ? 20 * out[i]
             : k < centre      ? 5 * out[i]
             : k < numbers - 1 ? 5 + out[i] * 9
                               : (kind == RotatedKind::image ? 90 : 1.6f) * out[i];
  }
  return out;
}
std::vector<float> rotated_boxes(int64_t n, unsigned seed) {
  return rotated_boxes(RotatedKind::image, n, seed);
}

BoxIouParams iou_params(Side& s, int64_t n, IouKind kind) {
  BoxIouParams p{};
  p.boxes1 = s.put(boxes(n, 1)), p.boxes2 = s.put(boxes(n + 4, 2));
  p.batch = 1, p.n = n, p.m = n + 4, p.kind = kind, p.eps = 1e-7;
  return p;
}

void box_iou(Side& s, int64_t n) {
  for (IouKind kind : {IouKind::iou, IouKind::giou, IouKind::diou, IouKind::ciou}) {
    BoxIouParams p = iou_params(s, n, kind);
    float* out = s.room<float>(p.n * p.m);
    p.out = out;
    s.run(box_iou_cpu, box_iou_cuda, p);
    s.take(out, p.n * p.m);
  }
}

void box_iou_backward(Side& s, int64_t n) {
  BoxIouBackwardParams p{iou_params(s, n, IouKind::giou), nullptr, nullptr, nullptr};
  p.forward.m = n;
  p.grad_out = s.put(floats(n * n, 3));
  float *first = s.room<float>(4 * n), *second = s.room<float>(4 * n);
  p.grad_boxes1 = first, p.grad_boxes2 = second;
  s.run(box_iou_backward_cpu, box_iou_backward_cuda, p);
  s.take(first, 4 * n), s.take(second, 4 * n);
}

PairedBoxIouParams pair_params(Side& s, int64_t n, bool rotated) {
  PairedBoxIouParams p{};
  p.boxes1 = s.put(rotated ? rotated_boxes(n, 1) : boxes(n, 1));
  p.boxes2 = s.put(rotated ? rotated_boxes(n, 2) : boxes(n, 2));
  p.n = n, p.rotated = rotated, p.kind = rotated ? IouKind::giou : IouKind::ciou, p.eps = 1e-7;
  return p;
}

void paired_box_iou(Side& s, int64_t n) {
  for (bool rotated : {false, true}) {
    PairedBoxIouParams p = pair_params(s, n, rotated);
    float* out = s.room<float>(n);
    p.out = out;
    s.run(paired_box_iou_cpu, paired_box_iou_cuda, p);
    s.take(out, n);
  }
}

void paired_box_iou_backward(Side& s, int64_t n) {
  for (bool rotated : {false, true}) {
    const int64_t count = (rotated ? 5 : 4) * n;
    float *first = s.room<float>(count), *second = s.room<float>(count);
    const PairedBoxIouBackwardParams p{pair_params(s, n, rotated), s.put(floats(n, 3)), first,
                                       second};
    s.run(paired_box_iou_backward_cpu, paired_box_iou_backward_cuda, p);
    s.take(first, count), s.take(second, count);
  }
}

using Coder = Status (*)(const BoxCodecParams&, const Executor&);
using CoderCuda = Status (*)(const BoxCodecParams&, Stream);
using CoderBackward = Status (*)(const BoxCodecBackwardParams&, const Executor&);
using CoderBackwardCuda = Status (*)(const BoxCodecBackwardParams&, Stream);

BoxCodecParams codec_params(Side& s, int64_t n, int64_t k) {
  BoxCodecParams p{};
  p.input = s.put(k == 1 ? boxes(n, 1) : floats(4 * n * k, 1)), p.anchors = s.put(boxes(n, 2));
  p.n = n, p.k = k, p.clip = 4;
  for (double& w : p.weights) w = 2;
  return p;
}

void code(Side& s, int64_t n, int64_t k, Coder cpu, CoderCuda cuda) {
  BoxCodecParams p = codec_params(s, n, k);
  float* out = s.room<float>(4 * n * k);
  p.out = out;
  s.run(cpu, cuda, p);
  s.take(out, 4 * n * k);
}

void code_backward(Side& s, int64_t n, int64_t k, CoderBackward cpu, CoderBackwardCuda cuda) {
  float *input = s.room<float>(4 * n * k), *anchors = s.room<float>(4 * n);
  s.run(cpu, cuda, {codec_params(s, n, k), s.put(floats(4 * n * k, 3)), input, anchors});
  s.take(input, 4 * n * k), s.take(anchors, 4 * n);
}

void encode_boxes(Side& s, int64_t n) { code(s, n, 1, encode_boxes_cpu, encode_boxes_cuda); }
void decode_boxes(Side& s, int64_t n) { code(s, n, 3, decode_boxes_cpu, decode_boxes_cuda); }
void encode_boxes_backward(Side& s, int64_t n) {
  code_backward(s, n, 1, encode_boxes_backward_cpu, encode_boxes_backward_cuda);
}
void decode_boxes_backward(Side& s, int64_t n) {
  code_backward(s, n, 3, decode_boxes_backward_cpu, decode_boxes_backward_cuda);
}

void match(Side& s, int64_t n, bool rotated) {
  const int64_t m = (n + 2) / 3;
  MatchBoxesParams p{};
  p.gt = s.put(rotated ? rotated_boxes(m, 1) : boxes(m, 1));
  p.anchors = s.put(rotated ? rotated_boxes(n, 2) : boxes(n, 2));
  p.rotated = rotated;
  p.m = m, p.n = n, p.images = n > 0;
  p.gt_of_anchor = s.room<int64_t>(n), p.anchor_of_gt = s.room<int64_t>(m);
  float *of_anchor = s.room<float>(n), *of_gt = s.room<float>(m);
  p.iou_of_anchor = of_anchor, p.iou_of_gt = of_gt;
  p.is_best_for_some_gt = s.room<bool>(n);
  p.workspace = s.room(s.cuda ? match_boxes_workspace_cuda(p) : match_boxes_workspace_cpu(p));
  s.run(match_boxes_cpu, match_boxes_cuda, p);
  s.take(p.gt_of_anchor, n), s.take(of_anchor, n), s.take(p.anchor_of_gt, m), s.take(of_gt, m);
  s.take(reinterpret_cast<const char*>(p.is_best_for_some_gt), n);
}

void match_boxes(Side& s, int64_t n) { match(s, n, false); }
void match_rotated_boxes(Side& s, int64_t n) { match(s, n, true); }

DecodeDenseParams dense_params(Side& s, int64_t n, DenseCodec codec) {
  DecodeDenseParams p{};
  p.batch = n > 0, p.height = 3, p.width = n, p.classes = 2, p.codec = codec;
  p.cells = has_anchors(codec) ? 2 : 1, p.bins = codec == DenseCodec::dfl ? 5 : 1;
  p.per_cell = 4 * p.bins + has_objectness(codec) + p.classes;
  p.maps = s.put(floats(p.batch * p.cells * p.per_cell * 3 * n, 1, -2, 2));
  const std::vector<double> anchors{-8, -4, 8, 4, -3, -5, 3, 5};
  p.anchors = has_anchors(codec) ? s.put(anchors) : nullptr;
  p.stride_x = 8, p.stride_y = 16, p.clip = 4, p.scale_xy = 1.1, p.threshold = 0.4;
  for (double& w : p.weights) w = 1;
  return p;
}

constexpr DenseCodec kCodecs[] = {DenseCodec::delta, DenseCodec::yolo, DenseCodec::yolo5,
                                  DenseCodec::grid,  DenseCodec::ltrb, DenseCodec::dfl};

void decode_dense(Side& s, int64_t n) {
  for (DenseCodec codec : kCodecs) {
    DecodeDenseParams p = dense_params(s, n, codec);
    const int64_t outputs = p.batch * p.cells * 3 * n;
    float *out = s.room<float>(4 * outputs), *scores = s.room<float>(2 * outputs);
    p.boxes = out, p.scores = scores;
    s.run(decode_dense_cpu, decode_dense_cuda, p);
    s.take(out, 4 * outputs), s.take(scores, 2 * outputs);
  }
}

void decode_dense_backward(Side& s, int64_t n) {
  for (DenseCodec codec : kCodecs) {
    const DecodeDenseParams f = dense_params(s, n, codec);
    const int64_t outputs = f.batch * f.cells * 3 * n;
    float* out = s.room<float>(outputs * f.per_cell);
    s.run(decode_dense_backward_cpu, decode_dense_backward_cuda,
          {f, s.put(floats(4 * outputs, 3)), out});
    s.take(out, outputs * f.per_cell);
  }
}

// By score, which the kernel may do itself, and within classes.
template <class P, class Workspace, class Cpu, class Cuda>
void suppress(Side& s, int64_t n, const float* boxes, Workspace workspace, Cpu cpu, Cuda cuda,
              P p = {}) {
  auto scores = floats(n, 4);
  for (float& x : scores) x = std::floor(20 * x);  // ties
  std::vector<int64_t> order(n), ids(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  for (int64_t i = 0; i < n; ++i) ids[i] = i % 3;
  for (bool sorts : {false, true}) {
    const bool classes = sorts;
    p.boxes = boxes, p.scores = s.put(scores);
    p.order = sorts ? nullptr : s.put(order), p.ids = classes ? s.put(ids) : nullptr;
    p.n = n, p.iou_threshold = 0.3;
    p.keep = s.room<int64_t>(n), p.count = s.room<int64_t>(1);
    p.workspace = s.room(workspace(p));
    s.run(cpu, cuda, p);
    s.take(p.keep, s.take_count(p.count, n));
  }
}

void nms(Side& s, int64_t n) {
  const auto workspace = [&](const NmsParams& p) {
    return s.cuda ? nms_workspace_cuda(p) : nms_workspace_cpu(p);
  };
  suppress<NmsParams>(s, n, s.put(boxes(n, 1)), workspace, nms_cpu, nms_cuda);
}

void soft_nms(Side& s, int64_t n) {
  for (SoftNmsMethod method : {SoftNmsMethod::linear, SoftNmsMethod::gaussian}) {
    SoftNmsParams p{};
    p.boxes = s.put(boxes(n, 1)), p.scores = s.put(floats(n, 4));
    p.n = n, p.method = method, p.iou_threshold = 0.3, p.sigma = 0.5, p.min_score = 0.05;
    float* decayed = s.room<float>(n);
    p.decayed = decayed, p.keep = s.room<int64_t>(n), p.count = s.room<int64_t>(1);
    p.workspace = s.room(s.cuda ? soft_nms_workspace_cuda(p) : soft_nms_workspace_cpu(p));
    s.run(soft_nms_cpu, soft_nms_cuda, p);
    const int64_t count = s.take_count(p.count, n);
    s.take(p.keep, count), s.take(decayed, count);
  }
}

void multiclass(Side& s, int64_t n, bool rotated) {
  const int64_t batch = n ? 2 : 0, classes = 3, most = 9, numbers = rotated ? 5 : 4;
  MulticlassNmsParams p{};
  p.rotated = rotated;
  p.boxes = s.put(rotated ? rotated_boxes(batch * n, 1) : boxes(batch * n, 1));
  p.scores = s.put(floats(batch * n * classes, 4));
  p.box_strides[0] = numbers * n, p.box_strides[1] = numbers;
  p.score_strides[0] = n * classes, p.score_strides[1] = classes, p.score_strides[2] = 1;
  p.batch = batch, p.n = n, p.classes = classes, p.score_threshold = 0.2, p.iou_threshold = 0.4;
  p.candidates_per_class = 50, p.max_per_image = most;
  float *out = s.room<float>(numbers * batch * most), *scores = s.room<float>(batch * most);
  p.out_boxes = out, p.out_scores = scores;
  p.out_labels = s.room<int64_t>(batch * most), p.out_counts = s.room<int64_t>(batch);
  p.workspace = s.room(s.cuda ? multiclass_nms_workspace_cuda(p) : multiclass_nms_workspace_cpu(p));
  s.run(multiclass_nms_cpu, multiclass_nms_cuda, p);
  s.take(out, numbers * batch * most), s.take(scores, batch * most);
  s.take(p.out_labels, batch * most), s.take(p.out_counts, batch);
}

void multiclass_nms(Side& s, int64_t n) {
  for (bool rotated : {false, true}) multiclass(s, n, rotated);
}

constexpr int64_t kImages = 2, kChannels = 8, kHeight = 12, kWidth = 15;

RoiAlignParams roi_params(Side& s, int64_t n, bool channels_last, int64_t images) {
  std::vector<float> rois;
  const auto of = boxes(n, 5);
  for (int64_t i = 0; i < n; ++i) {
    rois.push_back(float(i % kImages));
    rois.insert(rois.end(), &of[4 * i], &of[4 * i] + 4);
  }
  RoiAlignParams p{};
  for (int l = 0; l < 2; ++l) {
    const int64_t height = kHeight >> l, width = kWidth >> l;
    const auto map = floats(images * kChannels * height * width, 7 + l);
    p.levels[l] = {s.put(map), height, width, 0.25 / (1 << l), l ? 500.0 : 0.0};
  }
  p.level_count = 2, p.rois = s.put(rois);
  p.images = images, p.channels = kChannels, p.n = n;
  p.out_height = 3, p.out_width = 2, p.sampling_ratio = 2, p.channels_last = channels_last;
  p.workspace = s.cuda ? nullptr : s.room(roi_align_workspace_cpu(p));
  return p;
}

void roi_align(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    RoiAlignParams p = roi_params(s, n, channels_last, kImages);
    float* out = s.room<float>(n * kChannels * 6);
    p.out = out;
    s.run(roi_align_cpu, roi_align_cuda, p);
    s.take(out, n * kChannels * 6);
  }
}

void roi_align_backward(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    const int64_t images = n ? kImages : 0;  // without ROIs, the gradient of the maps is zeros
    RoiAlignBackwardParams p{};
    p.forward = roi_params(s, n, channels_last, images);
    p.grad_out = s.put(floats(n * kChannels * 6, 3));
    int64_t sizes[2];
    for (int l = 0; l < 2; ++l) {
      sizes[l] = images * kChannels * (kHeight >> l) * (kWidth >> l);
      p.grad_inputs[l] = s.room<float>(sizes[l]);
    }
    s.run(roi_align_backward_cpu, roi_align_backward_cuda, p);
    for (int l = 0; l < 2; ++l) s.take(static_cast<float*>(p.grad_inputs[l]), sizes[l]);
  }
}

constexpr RotatedKind kKinds[] = {RotatedKind::image, RotatedKind::from_above,
                                  RotatedKind::in_space};

void nms_rotated(Side& s, int64_t n) {
  const auto workspace = [&](const NmsRotatedParams& p) {
    return s.cuda ? nms_rotated_workspace_cuda(p) : nms_rotated_workspace_cpu(p);
  };
  for (RotatedKind kind : kKinds) {
    NmsRotatedParams p{};
    p.kind = kind;
    suppress(s, n, s.put(rotated_boxes(kind, n, 1)), workspace, nms_rotated_cpu, nms_rotated_cuda,
             p);
  }
}

BoxIouRotatedParams rotated_iou_params(Side& s, int64_t n, RotatedKind kind) {
  BoxIouRotatedParams p{};
  p.kind = kind;
  p.boxes1 = s.put(rotated_boxes(kind, n, 1)), p.boxes2 = s.put(rotated_boxes(kind, n + 4, 2));
  p.batch = 1, p.n = n, p.m = n + 4;
  p.workspace =
      s.room(s.cuda ? box_iou_rotated_workspace_cuda(p) : box_iou_rotated_workspace_cpu(p));
  return p;
}

void box_iou_rotated(Side& s, int64_t n) {
  for (RotatedKind kind : kKinds) {
    BoxIouRotatedParams p = rotated_iou_params(s, n, kind);
    float* out = s.room<float>(p.n * p.m);
    p.out = out;
    s.run(box_iou_rotated_cpu, box_iou_rotated_cuda, p);
    s.take(out, p.n * p.m);
  }
}

void box_iou_rotated_backward(Side& s, int64_t n) {
  for (RotatedKind kind : kKinds) {
    BoxIouRotatedBackwardParams p{rotated_iou_params(s, n, kind), nullptr, nullptr, nullptr};
    p.forward.m = n;
    p.grad_out = s.put(floats(n * n, 3));
    const int64_t size = numbers_of(kind) * n;
    float *first = s.room<float>(size), *second = s.room<float>(size);
    p.grad_boxes1 = first, p.grad_boxes2 = second;
    s.run(box_iou_rotated_backward_cpu, box_iou_rotated_backward_cuda, p);
    s.take(first, size), s.take(second, size);
  }
}

void weighted_boxes_fusion(Side& s, int64_t n) {
  std::vector<double> corners, scores, weights;
  std::vector<int64_t> labels, models, order;
  for (float corner : boxes(n, 1)) corners.push_back(corner);
  for (int64_t i = 0; i < n; ++i) {
    scores.push_back(1.0 / (1 + i / 3)), weights.push_back(1.0 + i % 2);
    labels.push_back(i / 20), models.push_back(i % 2), order.push_back(i);
  }
  WeightedBoxesFusionParams p{};
  p.boxes = s.put(corners), p.scores = s.put(scores), p.weights = s.put(weights);
  p.labels = s.put(labels), p.models = s.put(models), p.order = s.put(order);
  p.n = n, p.model_count = 2, p.weight_sum = 3, p.most_weight = 2, p.iou_threshold = 0.3;
  double *out = s.room<double>(4 * n), *out_scores = s.room<double>(n);
  p.out_boxes = out, p.out_scores = out_scores, p.out_labels = s.room<int64_t>(n);
  p.count = s.room<int64_t>(1), p.workspace = s.room(weighted_boxes_fusion_workspace(p));
  s.run(weighted_boxes_fusion_cpu, weighted_boxes_fusion_cuda, p);
  const int64_t count = s.take_count(p.count, n);
  s.take(out, 4 * count), s.take(out_scores, count), s.take(p.out_labels, count);
}

void points_in_boxes(Side& s, int64_t n) {
  PointsInBoxesParams p{};
  p.batch = 1, p.p = 9 * n, p.n = n;
  p.points = s.put(floats(3 * p.p, 6, 0, 25));
  p.boxes = s.put(rotated_boxes(RotatedKind::in_space, n, 1));
  p.box_of_point = s.room<int64_t>(p.p), p.points_of_box = s.room<int64_t>(n);
  p.workspace =
      s.room(s.cuda ? points_in_boxes_workspace_cuda(p) : points_in_boxes_workspace_cpu(p));
  s.run(points_in_boxes_cpu, points_in_boxes_cuda, p);
  s.take(p.box_of_point, p.p), s.take(p.points_of_box, n);
}

RoiAlignRotatedParams turned_params(Side& s, int64_t n, bool channels_last, int64_t images) {
  std::vector<float> rois;
  const auto of = rotated_boxes(n, 5);
  for (int64_t i = 0; i < n; ++i) {
    rois.push_back(float(i % kImages));
    rois.insert(rois.end(), &of[5 * i], &of[5 * i] + 5);
  }
  RoiAlignRotatedParams p{};
  p.map = s.put(floats(images * kChannels * kHeight * kWidth, 7)), p.rois = s.put(rois);
  p.images = images, p.channels = kChannels, p.height = kHeight, p.width = kWidth, p.n = n;
  p.spatial_scale = 0.25, p.out_height = 3, p.out_width = 2, p.sampling_ratio = 2;
  p.channels_last = channels_last, p.aligned = true;
  p.workspace =
      s.room(s.cuda ? roi_align_rotated_workspace_cuda(p) : roi_align_rotated_workspace_cpu(p));
  return p;
}

void roi_align_rotated(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    RoiAlignRotatedParams p = turned_params(s, n, channels_last, kImages);
    float* out = s.room<float>(n * kChannels * 6);
    p.out = out;
    s.run(roi_align_rotated_cpu, roi_align_rotated_cuda, p);
    s.take(out, n * kChannels * 6);
  }
}

void roi_align_rotated_backward(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    const int64_t images = n ? kImages : 0;  // without ROIs, the gradient of the map is zeros
    const int64_t size = images * kChannels * kHeight * kWidth;
    float* out = s.room<float>(size);
    const RoiAlignRotatedBackwardParams b{turned_params(s, n, channels_last, images),
                                          s.put(floats(n * kChannels * 6, 3)), out};
    s.run(roi_align_rotated_backward_cpu, roi_align_rotated_backward_cuda, b);
    s.take(out, size);
  }
}

RoiPoolParams pool_params(Side& s, int64_t n, bool channels_last, int64_t images) {
  const RoiAlignParams from = roi_params(s, n, channels_last, images);
  RoiPoolParams p{};
  p.map = from.levels[0].map, p.rois = from.rois, p.spatial_scale = from.levels[0].spatial_scale;
  p.images = images, p.channels = kChannels, p.height = kHeight, p.width = kWidth, p.n = n;
  p.out_height = 3, p.out_width = 2, p.channels_last = channels_last;
  return p;
}

void roi_pool(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    RoiPoolParams p = pool_params(s, n, channels_last, kImages);
    float* out = s.room<float>(n * kChannels * 6);
    p.out = out, p.argmax = s.room<int32_t>(n * kChannels * 6);
    s.run(roi_pool_cpu, roi_pool_cuda, p);
    s.take(out, n * kChannels * 6);
    s.take(p.argmax, n * kChannels * 6);
  }
}

void roi_pool_backward(Side& s, int64_t n) {
  for (bool channels_last : {false, true}) {
    const int64_t images = n ? kImages : 0;  // without ROIs, the gradient of the map is zeros
    RoiPoolParams p = pool_params(s, n, channels_last, images);
    p.out = s.room<float>(n * kChannels * 6), p.argmax = s.room<int32_t>(n * kChannels * 6);
    s.run(roi_pool_cpu, roi_pool_cuda, p);
    const Status forward = s.status;
    const int64_t size = images * kChannels * kHeight * kWidth;
    float* out = s.room<float>(size);
    const RoiPoolBackwardParams b{p, s.put(floats(n * kChannels * 6, 3)), out};
    s.run(roi_pool_backward_cpu, roi_pool_backward_cuda, b);
    if (!forward) s.status = forward;
    s.take(out, size);
  }
}

struct Case {
  const char* name;
  void (*run)(Side&, int64_t n);
  double tolerance;    // relative and absolute, to the CPU's result; 0: the same bits
  bool writes_always;  // writes a count even if n is 0
};

#define CASE(name, ...) {#name, name, __VA_ARGS__}
const Case kCases[] = {
    CASE(box_iou, 1e-5, false),
    CASE(box_iou_backward, 1e-5, false),
    CASE(paired_box_iou, 1e-5, false),
    CASE(paired_box_iou_backward, 1e-5, false),
    CASE(encode_boxes, 1e-5, false),
    CASE(decode_boxes, 1e-5, false),
    CASE(encode_boxes_backward, 1e-5, false),
    CASE(decode_boxes_backward, 1e-5, false),
    CASE(match_boxes, 0, false),
    CASE(match_rotated_boxes, 1e-5, false),
    CASE(decode_dense, 1e-5, false),
    CASE(decode_dense_backward, 1e-5, false),
    CASE(nms, 0, true),
    CASE(nms_rotated, 0, true),
    CASE(soft_nms, 1e-5, true),
    CASE(multiclass_nms, 0, false),
    CASE(roi_align, 1e-5, false),
    CASE(roi_align_backward, 1e-5, false),
    CASE(box_iou_rotated, 1e-5, false),
    CASE(box_iou_rotated_backward, 1e-4, false),
    CASE(points_in_boxes, 0, false),
    CASE(weighted_boxes_fusion, 1e-5, true),
    CASE(roi_align_rotated, 1e-4, false),
    CASE(roi_align_rotated_backward, 1e-4, false),
    CASE(roi_pool, 0, false),
    CASE(roi_pool_backward, 1e-5, false),
};

void says(const Case& c, int64_t n, const char* what) {
  ++failures;
  std::printf("%s of %lld: %s\n", c.name, static_cast<long long>(n), what);
}

void launchers_equal_the_cpu(Stream stream) {
  for (const Case& c : kCases)
    for (int64_t n : {0, 1, 7, 70}) {
      Side cpu(false, false, nullptr), cuda(true, true, stream);
      c.run(cpu, n), c.run(cuda, n);
      if (!cpu.status) says(c, n, cpu.status.error);
      if (!cuda.status) says(c, n, cuda.status.error);
      if (cpu.results.size() != cuda.results.size()) {
        says(c, n, "not as many results as the CPU's");
        continue;
      }
      double worst = 0;
      for (size_t i = 0; i < cpu.results.size(); ++i) {
        const double want = cpu.results[i], off = std::fabs(cuda.results[i] - want);
        if (off != 0 || std::isnan(off))
          worst = std::max(worst, std::isnan(off) ? HUGE_VAL : off / (1 + std::fabs(want)));
      }
      if (worst > c.tolerance) says(c, n, ("off by " + std::to_string(worst)).c_str());
    }
}

void launchers_say_why_they_cannot(const char* drivers_words) {
  CHECK(std::strlen(drivers_words) > 10);
  for (const Case& c : kCases) {
    for (Stream stream : {Stream(nullptr), Stream(uintptr_t(0xdead0))}) {
      Side some(true, false, stream), none(true, false, stream);
      c.run(some, 7);
      if (some.status || std::strcmp(some.status.error, drivers_words) != 0)
        says(c, 7, some.status ? "succeeded without a GPU" : some.status.error);
      c.run(none, 0);
      if (!none.status && !c.writes_always) says(c, 0, none.status.error);
    }
  }
  char to = 0;
  CHECK(!copy_to_host(&to, reinterpret_cast<void*>(uintptr_t(0xdead0)), 1, nullptr));
}

}  // namespace

// bare: uses one stream, and does not initialize output memory on the device.
int main(int count, char** arguments) {
  bare = count > 1 && std::strcmp(arguments[1], "bare") == 0;
  CHECK(std::strlen(cuda_targets()) > 2);
  CHECK(cuda_compiler_version() >= 0);
  const Status device = cuda_status();
  if (device) {
    Stream stream = nullptr;
    CHECK(cudaStreamCreate(&stream) == 0);
    launchers_equal_the_cpu(stream);
    if (!bare) launchers_equal_the_cpu(nullptr);
  } else {
    std::printf("without a GPU: %s\n", device.error);
    launchers_say_why_they_cannot(device.error);
  }
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}

#else
int main() { std::printf("this build has no CUDA kernels\n"); }
#endif
