"""Facts about the machine: python -m benchmarks.gpu.machine prints them as JSON.

It runs in its own process, because a broken driver may hang in the first call.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import in_a_line

OLDEST_TORCH = (2, 10)
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torchvision",
    "pybind11",
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
    "timm",
    "accelerate",
    "safetensors",
    "rich",
    "numpy",
)
_SMI = "driver_version,utilization.gpu,memory.used,clocks.sm,clocks.max.sm,power.limit"


def facts() -> dict[str, Any]:
    """Versions, the processor and the GPU; unknown facts are None."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
        "nvcc": _nvcc(),
        "commit": _said("git", "-c", "safe.directory=*", "-C", str(ROOT), "rev-parse", "HEAD"),
        "nvidia_smi": _nvidia_smi(),
    }
    return found | _torch() | {"capability": None, "gpu": None} | _gpu()


def _torch() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # for example a missing library
        return {"torch": None, "torch_error": in_a_line(error), "torch_cuda": None}
    return {"torch": torch.__version__, "torch_error": None, "torch_cuda": torch.version.cuda}


def _gpu() -> dict[str, Any]:
    """The first GPU as torch sees it, or the driver's message if it can't be used."""
    try:
        import torch

        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            torch.cuda.init()
        about = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
    except Exception as error:
        return {"gpu_error": in_a_line(error)}
    return {
        "gpu_error": None,
        "gpu": about.name,
        "capability": f"{about.major}.{about.minor}",
        "multiprocessors": about.multi_processor_count,
        "gpu_gib": round(total / 2**30, 1),
        "gpu_free_gib": round(free / 2**30, 1),
        "l2_mib": round(getattr(about, "L2_cache_size", 0) / 2**20, 1),
    }


def _nvidia_smi() -> dict[str, str] | None:
    said = _said("nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader", "--id=0")
    if not said:
        return None
    return dict(zip(_SMI.split(","), (value.strip() for value in said.split(",")), strict=False))


def _nvcc() -> str | None:
    said = _said("nvcc", "--version")
    found = re.search(r"release ([\d.]+)", said or "")
    return f"{found[1]} ({shutil.which('nvcc')})" if found else None


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def lacking(found: dict[str, Any], dry: bool) -> list[str]:
    """What the check needs and this machine lacks, one sentence each."""
    lacks = []
    if found["torch"] is None:
        lacks.append(f"{found['executable']} has no torch ({found['torch_error']})")
    elif tuple(int(n) for n in found["torch"].split(".")[:2]) < OLDEST_TORCH:
        lacks.append(f"torch must be 2.10 or newer, got {found['torch']}")
    elif not dry and not found["torch_cuda"]:
        lacks.append(f"torch must be a build with CUDA, got {found['torch']}")
    elif not dry and found["gpu"] is None:
        driver = (found["nvidia_smi"] or {}).get("driver_version", "not to be asked")
        lacks.append(
            f"torch {found['torch']} (CUDA {found['torch_cuda']}) can't use a GPU here: "
            f"{found['gpu_error']} (driver: {driver})"
        )
    return lacks


def lacking_to_build(found: dict[str, Any], dry: bool) -> list[str]:
    """What the build needs and this machine lacks."""
    lacks = []
    if found["packages"]["pybind11"] is None:
        lacks.append(f"{found['executable']} has no pybind11")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        lacks.append(f"{found['executable']} has no headers (Python.h; Debian's python3-dev)")
    if not dry and found["nvcc"] is None:
        lacks.append("there is no CUDA compiler (nvcc) on PATH, in CUDA_HOME or in /usr/local/cuda")
    if shutil.which("cmake") is None:
        lacks.append("there is no cmake on PATH or beside Python")
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("c++") is None:
        lacks.append("there is no C++ compiler (g++) on PATH")
    return lacks


if __name__ == "__main__":
    print(json.dumps(facts()))
