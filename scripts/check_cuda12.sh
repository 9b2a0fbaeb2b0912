#!/bin/sh
# Checks that the CUDA sources compile with CUDA 12. Its nvcc is in no package index, so clang
# parses host and device code with PyPI's headers of the oldest CUDA we support and of a common one.
#   scripts/check_cuda12.sh [FILE.cu ...]    all of csrc/kernels/cuda by default
# `make test-cuda12` calls it. Needs clang-19 (installed if this runs as root), python3 and pip.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ $# -gt 0 ] || set -- csrc/kernels/cuda/*.cu
sh scripts/need.sh clang-19 clang-19

# Installs the parts of a toolkit that clang reads, in the layout of NVIDIA's own folder.
lay_toolkit() { # VERSION, its runtime's and its compiler's release
  toolkit=build/cuda-$1
  [ -e "$toolkit/.ready" ] && return
  echo "--- headers of CUDA $1"
  rm -rf "$toolkit" && mkdir -p "$toolkit/bin"
  # nv/target is new in 12.4's CCCL, and is the same for all of CUDA 12
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$toolkit/pypi" \
    "nvidia-cuda-runtime-cu12==$2" "nvidia-cuda-nvcc-cu12==$3" nvidia-cuda-cccl-cu12==12.4.127.post1
  for part in cuda_runtime cuda_nvcc cuda_cccl; do cp -r "$toolkit/pypi/nvidia/$part/." "$toolkit"; done
  rm -r "$toolkit/pypi"
  # clang's wrapper includes this header, but our kernels don't use it, so an empty file is enough
  : >"$toolkit/include/curand_mtgp32_kernel.h"
  : >"$toolkit/.ready"
}
lay_toolkit 12.0 12.0.146 12.0.140
lay_toolkit 12.4 12.4.127 12.4.131

failed=0
for version in 12.0 12.4; do
  for source; do
    printf 'CUDA %s  %s\n' "$version" "$source"
    clang-19 -x cuda -std=c++17 -fsyntax-only --cuda-path="build/cuda-$version" \
      --cuda-gpu-arch=sm_75 --cuda-gpu-arch=sm_90 -Icsrc/kernels/include -Icsrc/kernels/cuda \
      -DDETCORE_CUDA_TARGETS='"none"' -Wall -Wextra -Werror -Wno-unknown-cuda-version "$source" ||
      failed=$((failed + 1))
  done
done
if [ $failed -gt 0 ]; then
  echo "detcore: $failed of $(($# * 2)) checks failed, see above" >&2
  exit 1
fi
echo "all $# sources compile with CUDA 12.0 and 12.4"
