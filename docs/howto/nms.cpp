#include <cstdint>
#include <cstdio>
#include <vector>

#include "detcore/nms.h"

int main() {
  const std::vector<float> boxes = {0, 0, 10, 10, 1, 1, 11, 11, 20, 20, 30, 30};  // [n, 4] xyxy
  const std::vector<float> scores = {0.9f, 0.8f, 0.7f};
  std::vector<int64_t> keep(scores.size());
  int64_t count = 0;

  detcore::NmsParams params{};
  params.boxes = boxes.data();
  params.scores = scores.data();
  params.n = int64_t(scores.size());
  params.iou_threshold = 0.5;
  params.keep = keep.data();
  params.count = &count;

  // The scratch memory begins at a multiple of 64 bytes.
  std::vector<char> scratch(detcore::nms_workspace_cpu(params) + 64);
  const auto at = reinterpret_cast<uintptr_t>(scratch.data());
  params.workspace = reinterpret_cast<void*>((at + 63) / 64 * 64);

  const detcore::Status status = detcore::nms_cpu(params, {});
  if (!status) {
    std::printf("%s\n", status.error);
    return 1;
  }
  for (int64_t i = 0; i < count; ++i) std::printf("%lld\n", static_cast<long long>(keep[i]));
}
