#include "detcore/decode_dense.h"

#include "binding.h"

namespace detcore {
namespace {

// The codec's settings are passed as one list: stride_y, stride_x, 4 weights, clip, scale_xy,
// threshold, bins.
constexpr size_t kSettings = 10;

DecodeDenseParams check(const char* op, const Tensor& maps, const std::optional<Tensor>& anchors,
                        const std::string& codec, const std::vector<double>& settings) {
  if (maps.dim() != 4) fail(op, ": maps must be [B, A * (4 + E), H, W], got ", shape_of(maps));
  if (settings.size() != kSettings)
    fail(op, ": settings must be ", int64_t(kSettings), " numbers, got ", int64_t(settings.size()));
  DecodeDenseParams p{};
  p.dtype = check_float(op, "maps", maps);
  p.codec = DenseCodec(
      check_choice(op, "codec", codec, {"delta", "yolo", "yolo5", "grid", "ltrb", "dfl"}));
  p.cells = 1;
  const bool wants_anchors = has_anchors(p.codec);
  if (wants_anchors != anchors.has_value())
    fail(op, ": anchors must ", wants_anchors ? "be given" : "be None", " for codec '", codec, "'");
  if (anchors) {
    check_rows(op, "anchors", *anchors, p.codec == DenseCodec::delta ? 4 : 2);
    check_same_device(op, "maps", maps, "anchors", *anchors);
    p.cells = anchors->size(0);
    if (p.cells == 0) fail(op, ": anchors must hold at least one, got ", shape_of(*anchors));
  }
  p.bins = 1;
  if (p.codec == DenseCodec::dfl) {
    if (!(settings[9] >= 1 && settings[9] <= 1 << 20))
      fail(op, ": bins must be 1 to ", int64_t(1 << 20), ", got ", settings[9]);
    p.bins = int64_t(settings[9]);
  }
  const int64_t least = 4 * p.bins + has_objectness(p.codec);
  if (maps.size(1) % p.cells != 0 || maps.size(1) / p.cells < least)
    fail(op, ": maps must have ", p.cells, " * (", least, " + classes) channels, got ",
         maps.size(1));
  p.batch = maps.size(0), p.height = maps.size(2), p.width = maps.size(3);
  p.per_cell = maps.size(1) / p.cells;
  // without classes, objectness is the score
  p.classes = has_objectness(p.codec) && p.per_cell == 5 ? 1 : p.per_cell - least;
  p.stride_y = settings[0], p.stride_x = settings[1];
  if (!(p.stride_y > 0 && p.stride_x > 0))
    fail(op, ": stride must be positive, got ", p.stride_y, " and ", p.stride_x);
  for (int i = 0; i < 4; ++i) {
    p.weights[i] = settings[2 + i];
    if (!(p.weights[i] > 0)) fail(op, ": weights must be positive, got ", p.weights[i]);
  }
  check_number(op, "clip", settings[6]);
  check_number(op, "scale_xy", settings[7]);
  p.clip = settings[6], p.scale_xy = settings[7], p.threshold = settings[8];
  return p;
}

std::optional<Tensor> doubles(const std::optional<Tensor>& anchors) {
  if (!anchors) return {};
  return dense(as_dtype(*anchors, ScalarType::Double));
}

// Returns boxes [B, H * W * A, 4] and scores [B, H * W * A, C]. C = 0 means no scores.
std::tuple<Tensor, Tensor> decode_dense(const Tensor& maps, const std::optional<Tensor>& anchors,
                                        const std::string& codec,
                                        const std::vector<double>& settings) {
  DecodeDenseParams p = check("decode_dense", maps, anchors, codec, settings);
  const Tensor m = dense(maps);
  const std::optional<Tensor> a = doubles(anchors);
  const int64_t cells = p.height * p.width * p.cells;
  Tensor boxes = allocate({p.batch, cells, 4}, maps.scalar_type(), maps);
  Tensor scores = allocate({p.batch, cells, p.classes}, maps.scalar_type(), maps);
  p.maps = data(m), p.anchors = a ? data(*a) : nullptr, p.boxes = data(boxes);
  p.scores = p.classes ? data(scores) : nullptr;
  DETCORE_RUN(decode_dense, p, maps);
  return {boxes, scores};
}

Tensor decode_dense_backward(const Tensor& grad, const Tensor& maps,
                             const std::optional<Tensor>& anchors, const std::string& codec,
                             const std::vector<double>& settings) {
  DecodeDenseBackwardParams p{
      check("decode_dense_backward", maps, anchors, codec, settings), {}, {}};
  const DecodeDenseParams& f = p.forward;
  check_grad("decode_dense", grad, {f.batch, f.height * f.width * f.cells, 4}, maps);
  const Tensor m = dense(maps), g = dense(as_dtype(grad, maps.scalar_type()));
  const std::optional<Tensor> a = doubles(anchors);
  Tensor out = allocate(sizes_of(maps), maps.scalar_type(), maps);
  p.forward.maps = data(m), p.forward.anchors = a ? data(*a) : nullptr;
  p.grad_boxes = data(g), p.grad_maps = data(out);
  DETCORE_RUN(decode_dense_backward, p, maps);
  return out;
}

DETCORE_OP(decode_dense,
           "(Tensor maps, Tensor? anchors, str codec, float[] settings) -> (Tensor, Tensor)");
DETCORE_OP(decode_dense_backward,
           "(Tensor grad, Tensor maps, Tensor? anchors, str codec, float[] settings) -> Tensor");

}  // namespace
}  // namespace detcore
