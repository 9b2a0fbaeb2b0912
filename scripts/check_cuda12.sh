#!/bin/sh
# Reads the CUDA sources as CUDA 12 does, without its nvcc, which no package index has: clang parses
# host and device code against PyPI's headers of the oldest CUDA served and of one that many have.
#   scripts/check_cuda12.sh [FILE.cu ...]    all of csrc/kernels/cuda by default
# `make test-cuda12` calls it. Needs clang-19 (installed if this runs as root), python3 and pip.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ $# -gt 0 ] || set -- csrc/kernels/cuda/*.cu
sh scripts/need.sh clang-19 clang-19

# The parts of a toolkit that a parser reads, laid together as in NVIDIA's own folder.
lay_toolkit() { # VERSION, its runtime's and its compiler's release
  toolkit=build/cuda-$1
  [ -e "$toolkit/.ready" ] && return
  echo "--- headers of CUDA $1"
  rm -rf "$toolkit" && mkdir -p "$toolkit/bin"
  # nv/target first stood in 12.4's CCCL, and is the same for all of CUDA 12
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$toolkit/pypi" \
    "nvidia-cuda-runtime-cu12==$2" "nvidia-cuda-nvcc-cu12==$3" nvidia-cuda-cccl-cu12==12.4.127.post1
  for part in cuda_runtime cuda_nvcc cuda_cccl; do cp -r "$toolkit/pypi/nvidia/$part/." "$toolkit"; done
  rm -r "$toolkit/pypi"
  # clang's own wrapper includes it; no kernel here draws random numbers
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
  echo "detcore: $failed of $(($# * 2)) readings failed, see above" >&2
  exit 1
fi
echo "CUDA 12.0 and 12.4 take all $# sources"
