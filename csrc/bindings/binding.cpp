#include "binding.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cstdio>

#include "threads.h"

namespace detcore {

Registration* Registration::first = nullptr;

namespace {
thread_local std::string last_refusal;
}

void refuse(const std::string& words) {
  last_refusal = words;
  throw std::invalid_argument(words);
}

bool was_refused(const std::string& words) { return words == last_refusal; }

std::string text(double x) {
  char buffer[32];
  snprintf(buffer, sizeof buffer, "%g", x);
  return buffer;
}

std::string shape_of(const Sizes& sizes) {
  std::string s = "[";
  for (size_t d = 0; d < sizes.size(); ++d) s += (d ? ", " : "") + std::to_string(sizes[d]);
  return s + "]";
}

std::string shape_of(const Tensor& t) { return shape_of(sizes_of(t)); }

std::string dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    case ScalarType::ComplexFloat: return "complex64";
    case ScalarType::ComplexDouble: return "complex128";
    default: return torch::headeronly::toString(t.scalar_type());
  }
}

std::string device_of(const Tensor& t) {
  if (t.is_cpu()) return "cpu";
  const std::string index = std::to_string(t.get_device_index());
  return (t.is_cuda() ? "cuda:" : "another device, index ") + index;
}

DType check_float(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    default:
      fail(op, ": ", name, " must be float32, float64, float16 or bfloat16, got ", dtype_of(t));
  }
}

void check_same_dtype(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                      const Tensor& b) {
  if (a.scalar_type() != b.scalar_type())
    fail(op, ": ", a_name, " and ", b_name, " must have one dtype, got ", dtype_of(a), " and ",
         dtype_of(b));
}

void check_same_device(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                       const Tensor& b) {
  if (a.is_cpu() && b.is_cpu()) return;
  if (a.is_cpu() != b.is_cpu() || a.get_device_index() != b.get_device_index())
    fail(op, ": ", a_name, " and ", b_name, " must be on one device, got ", device_of(a), " and ",
         device_of(b));
}

void check_rows(const char* op, const char* name, const Tensor& t, int64_t width) {
  if (t.dim() != 2 || t.size(1) != width)
    fail(op, ": ", name, " must be [N, ", width, "], got ", shape_of(t));
}

void check_last(const char* op, const char* name, const Tensor& t, int64_t width) {
  if (t.dim() < 1 || t.size(t.dim() - 1) != width)
    fail(op, ": ", name, " must be [..., ", width, "], got ", shape_of(t));
}

void check_same_shape(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                      const Tensor& b) {
  if (sizes_of(a) != sizes_of(b))
    fail(op, ": ", a_name, " and ", b_name, " must have one shape, got ", shape_of(a), " and ",
         shape_of(b));
}

void check_grad(const char* op, const Tensor& grad, const Sizes& wanted, const Tensor& like) {
  if (sizes_of(grad) != wanted)
    fail(op, ": grad must be ", shape_of(wanted), ", got ", shape_of(grad));
  check_float(op, "grad", grad);
  check_same_device(op, "grad", grad, "the input", like);
}

void check_number(const char* op, const char* name, double value) {
  if (value != value) fail(op, ": ", name, " must be a number, got nan");
}

int64_t check_choice(const char* op, const char* name, const std::string& value,
                     std::initializer_list<const char*> names) {
  int64_t index = 0;
  std::string all;
  for (const char* choice : names) {
    if (value == choice) return index;
    all += (index++ ? ", " : "") + std::string(choice);
  }
  fail(op, ": ", name, " must be one of ", all, ", got '", value, "'");
}

Sizes sizes_of(const Tensor& t) {
  auto sizes = t.sizes();
  return Sizes(sizes.begin(), sizes.end());
}

Tensor dense(const Tensor& t) {
  if (!t.is_contiguous()) return torch::stable::contiguous(t);
  // a slice may begin anywhere, but 16-byte accesses on a device must be aligned to 16 bytes
  const bool aligned = reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  return aligned || !on_cuda(t) ? t : torch::stable::clone(t);
}

Tensor as_dtype(const Tensor& t, ScalarType dtype) {
  return t.scalar_type() == dtype ? t : torch::stable::to(t, dtype);
}

ScalarType scalar_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return ScalarType::Float;
    case DType::f64: return ScalarType::Double;
    case DType::f16: return ScalarType::Half;
    case DType::bf16: return ScalarType::BFloat16;
  }
  throw std::logic_error("unknown dtype");
}

DType result_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

bool is_channels_last(const Tensor& t) { return !t.is_contiguous() && could_be_channels_last(t); }

bool could_be_channels_last(const Tensor& t) {
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  // the stride of a dimension of size 1 is never used and may have any value
  const auto lies = [&](int64_t d, int64_t stride) {
    return t.size(d) == 1 || t.stride(d) == stride;
  };
  return lies(1, 1) && lies(3, c) && lies(2, w * c) && lies(0, h * w * c);
}

namespace {

// Page faults take most of the time of writing a large new result. Huge pages of 2 MiB, which some
// systems grant only on request, reduce their number.
void ask_for_huge_pages([[maybe_unused]] const Tensor& t) {
#if defined(__linux__)
  constexpr uintptr_t worthwhile = 8 << 20;
  const uintptr_t bytes = uintptr_t(t.numel()) * t.element_size();
  if (bytes < worthwhile) return;
  const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + page - 1) / page * page;
  // if the kernel refuses huge pages we only lose speed
  (void)madvise(reinterpret_cast<void*>(begin), (bytes - page) / page * page, MADV_HUGEPAGE);
#endif
}

}  // namespace

void check_addressable(const char* op, const Sizes& sizes) {
  int64_t bytes = 8;  // size of the largest element type
  bool fits = true;
  for (int64_t size : sizes)  // strides are multiplied even if another dimension is empty
    fits = fits && !__builtin_mul_overflow(bytes, size > 1 ? size : 1, &bytes);
  if (!fits) fail(op, ": a tensor of ", shape_of(sizes), " is more than can be addressed");
}

Tensor allocate(const Sizes& sizes, ScalarType dtype, const Tensor& like, bool channels_last) {
  check_addressable("detcore", sizes);
  Sizes strides(sizes.size());
  int64_t stride = 1;
  if (channels_last) {
    for (int d : {1, 3, 2, 0}) strides[d] = stride, stride *= sizes[d];
  } else {
    for (int d = int(sizes.size()) - 1; d >= 0; --d) strides[d] = stride, stride *= sizes[d];
  }
  int32_t device_type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle = nullptr;
  // We don't use torch's macro, because it prints a C++ backtrace if there is not enough memory.
  if (aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(), strides.data(), int32_t(dtype),
                               device_type, like.get_device_index(), &handle) != TORCH_SUCCESS) {
    const std::string words = words_of_torch();
    throw std::runtime_error((words.empty() ? "out of memory" : words) + " (for a result of " +
                             shape_of(sizes) + " on " + device_of(like) + ")");
  }
  Tensor out(handle);
  if (out.is_cpu()) ask_for_huge_pages(out);
  let_kernels_touch(out, false);
  return out;
}

#if defined(DETCORE_SIMT)
void let_kernels_touch(const Tensor& t, bool written) {
  if (t.numel() == 0) return;
  int64_t last = 0;  // offset of the last element
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  simt::know(t.data_ptr(), size_t(last + 1) * t.element_size(), written);
}
#endif

Executor torch_threads() {
  return {[](int64_t count, int64_t grain, Executor::Body body, void* context) {
    const int threads = count > grain ? int(torch::stable::get_num_threads()) : 1;
    run_on_threads(threads, count, grain, body, context);
  }};
}

bool on_cuda([[maybe_unused]] const Tensor& t) {
#if defined(DETCORE_SIMT)
  return true;
#else
  return !t.is_cpu();
#endif
}

void check_status(const char* op, Status status) {
  if (!status) throw std::runtime_error(std::string(op) + ": " + status.error);
}

}  // namespace detcore
