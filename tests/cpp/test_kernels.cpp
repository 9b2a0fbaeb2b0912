// The kernel library alone: no torch, no Python, and threads of the host program.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "detcore/box_iou.h"
#include "detcore/cuda_device.h"
#include "detcore/multiclass_nms.h"
#include "detcore/nms.h"
#include "detcore/roi_align.h"

using namespace detcore;

namespace {

std::vector<float> random_boxes(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> at(0, 100), side(1, 30);
  std::vector<float> boxes;
  for (int64_t i = 0; i < n; ++i) {
    const float x = at(random), y = at(random);
    for (float v : {x, y, x + side(random), y + side(random)}) boxes.push_back(v);
  }
  return boxes;
}

// An executor with three threads of the host program.
Executor three_threads() {
  return {[](int64_t count, int64_t grain, Executor::Body body, void* context) {
    const int64_t share = std::max(grain, (count + 2) / 3);
    std::vector<std::thread> threads;
    for (int64_t begin = 0; begin < count; begin += share)
      threads.emplace_back(body, context, begin, std::min(count, begin + share));
    for (auto& t : threads) t.join();
  }};
}

float plain_iou(const float* a, const float* b) {
  const float w = std::max(0.f, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const float h = std::max(0.f, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const float areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
  return w * h / (areas - w * h);
}

void box_iou_on_any_threads() {
  const int64_t n = 67, m = 1031;
  const auto a = random_boxes(n, 1), b = random_boxes(m, 2);
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    set_active_isa(isa);
    for (const Executor& executor : {Executor{}, three_threads()}) {
      std::vector<float> out(n * m, -1);
      BoxIouParams p{};
      p.boxes1 = a.data(), p.boxes2 = b.data(), p.out = out.data();
      p.batch = 1, p.n = n, p.m = m;
      CHECK(bool(box_iou_cpu(p, executor)));
      bool equal = true;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < m; ++j)
          equal &= std::fabs(out[i * m + j] - plain_iou(&a[4 * i], &b[4 * j])) < 1e-6f;
      CHECK(equal);
    }
  }
  set_active_isa(best_isa());
}

void nms_in_a_workspace_of_the_caller() {
  const int64_t n = 500;
  const auto boxes = random_boxes(n, 3);
  std::vector<float> scores(n);
  for (int64_t i = 0; i < n; ++i) scores[i] = float((i * 7919) % 101);
  std::vector<int64_t> keep(n);
  int64_t count = -1;
  NmsParams p{};
  p.boxes = boxes.data(), p.scores = scores.data(), p.n = n, p.iou_threshold = 0.4;
  p.keep = keep.data(), p.count = &count;
  // the workspace has exactly the requested size, and the guard after it must not change
  const size_t bytes = nms_workspace_cpu(p);
  std::vector<char> workspace(bytes + 128, 0x5a);
  p.workspace = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  CHECK(bool(nms_cpu(p, Executor{})));
  CHECK(workspace.back() == 0x5a);
  CHECK(count > 0 && count < n);
  for (int64_t i = 1; i < count; ++i) {
    CHECK(scores[keep[i - 1]] >= scores[keep[i]]);
    for (int64_t j = 0; j < i; ++j)
      CHECK(double(plain_iou(&boxes[4 * keep[j]], &boxes[4 * keep[i]])) <= 0.4);
  }
}

// Two images share a workspace of exactly the requested size. Results don't depend on the threads.
void multiclass_nms_in_a_workspace_of_the_caller() {
  const int64_t batch = 2, n = 400, classes = 7, most = 20;
  const auto boxes = random_boxes(batch * n, 4);
  std::vector<float> scores(batch * n * classes), out_boxes[2], out_scores[2];
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = float((i * 7919) % 1009) / 1009;
  std::vector<int64_t> labels(batch * most), counts(batch);
  // with a threshold of 0 few boxes survive, so the image's best candidates are not enough
  for (double threshold : {0.0, 0.5}) {
    for (int run = 0; run < 2; ++run) {
      out_boxes[run].assign(batch * most * 4, -1), out_scores[run].assign(batch * most, -1);
      MulticlassNmsParams p{};
      p.boxes = boxes.data(), p.scores = scores.data();
      p.box_strides[0] = 4 * n, p.box_strides[1] = 4;
      p.score_strides[0] = n * classes, p.score_strides[1] = classes, p.score_strides[2] = 1;
      p.batch = batch, p.n = n, p.classes = classes;
      p.score_threshold = 0.1, p.iou_threshold = threshold;
      p.candidates_per_class = 100, p.max_per_image = most;
      p.out_boxes = out_boxes[run].data(), p.out_scores = out_scores[run].data();
      p.out_labels = labels.data(), p.out_counts = counts.data();
      const size_t bytes = multiclass_nms_workspace_cpu(p);
      std::vector<char> memory(bytes + 192, 0x5a);
      char* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
      p.workspace = aligned;
      CHECK(bool(multiclass_nms_cpu(p, run ? three_threads() : Executor{})));
      for (int k = 0; k < 64; ++k) CHECK(aligned[bytes + k] == 0x5a);
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t k = 1; k < counts[b]; ++k)
          CHECK(out_scores[run][b * most + k - 1] >= out_scores[run][b * most + k]);
    }
    CHECK(out_boxes[0] == out_boxes[1] && out_scores[0] == out_scores[1]);
  }
}

void roi_align_of_a_constant_is_the_constant() {
  const std::vector<float> map(2 * 3 * 16 * 16, 2.5f);
  const std::vector<float> rois = {0, 2, 2, 9, 11, 1, 0, 0, 15, 15};
  std::vector<float> out(2 * 3 * 4 * 4, -1);
  RoiAlignParams p{};
  p.levels[0] = {map.data(), 16, 16, 1.0, 0.0}, p.level_count = 1;
  p.rois = rois.data(), p.out = out.data();
  p.images = 2, p.channels = 3, p.n = 2;
  p.out_height = p.out_width = 4, p.sampling_ratio = 2;
  std::vector<char> workspace(roi_align_workspace_cpu(p));
  p.workspace = workspace.data();
  CHECK(bool(roi_align_cpu(p, three_threads())));
  for (float v : out) CHECK(std::fabs(v - 2.5f) < 1e-5f);
}

#if defined(DETCORE_WITH_CUDA)
// A launch on a machine without a GPU fails with the driver's message.
void cuda_says_why_it_cannot() {
  const Status status = cuda_status();
  if (status) return;
  CHECK(std::strlen(status.error) > 10);
  float boxes[4] = {0, 0, 1, 1}, out = -1;
  BoxIouParams p{};
  p.boxes1 = p.boxes2 = boxes, p.out = &out, p.batch = p.n = p.m = 1;
  const Status launched = box_iou_cuda(p, nullptr);
  CHECK(!launched);
  CHECK(launched.error && std::strcmp(launched.error, status.error) == 0);
  std::printf("without a GPU: %s\n", launched.error);
}
#endif

}  // namespace

int main() {
  box_iou_on_any_threads();
  nms_in_a_workspace_of_the_caller();
  multiclass_nms_in_a_workspace_of_the_caller();
  roi_align_of_a_constant_is_the_constant();
#if defined(DETCORE_WITH_CUDA)
  cuda_says_why_it_cannot();
#endif
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
