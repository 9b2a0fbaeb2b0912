#!/usr/bin/env bash
# Checks detcore on a machine with a GPU; needs no network. Builds in place, tests and measures.
#   bash scripts/gpu_check.sh [PART...]      parts: smoke figures tests memory models profile
# OUT=folder                 where results are written, by default benchmarks/results/
# PYTHON=path                the Python to use, by default the first on PATH that has torch
# DETCORE_GPU_CHECK_DRY=1    a dry run of all parts on the CPU The parts are in benchmarks/gpu/;
# CONTRIBUTING.md explains their results.
set -u
case ${OUT:-/} in /*) ;; *) export OUT="$PWD/$OUT" ;; esac
cd "$(dirname "$0")/.." || exit 1

candidates=${PYTHON:-"python3 python python3.14 python3.13 python3.12 python3.11"}
reasons=
for python in $candidates; do
  if reason=$("$python" -c 'import sys, torch; assert sys.version_info >= (3, 11), "Python 3.11 is needed"' 2>&1); then
    exec env PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" "$python" -m benchmarks.gpu "$@"
  fi
  reasons="$reasons
  $python: ${reason##*$'\n'}"
done
echo "gpu_check: found no Python 3.11 or newer that can import torch; set PYTHON=path:$reasons" >&2
exit 1
