"""Builds detcore in place for one GPU's target, and the C++ program that calls every launcher."""

import os
import shutil
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu import process
from benchmarks.gpu.machine import ROOT

# the target if there is no GPU
DRY_TARGET = "9.0"


def environment(scratch: Path) -> dict[str, str]:
    """The environment of every process of the check: available tools, and writable folders."""
    env = dict(os.environ)
    packages = Path(sysconfig.get_path("purelib"))
    paths = [str(Path(sys.executable).parent), sysconfig.get_path("scripts"), *_of_packages()]
    paths += sorted(map(str, packages.glob("nvidia/cu*/bin")), reverse=True)
    paths += env.get("PATH", "").split(os.pathsep)
    for home in (env.get("CUDA_HOME"), env.get("CUDA_PATH"), "/usr/local/cuda"):
        paths += [f"{home}/bin", f"{home}/compute-sanitizer"] if home else []
    for pattern in ("/usr/local/cuda-*/bin", "/opt/nvidia/nsight-compute/*"):
        paths += sorted(map(str, Path("/").glob(pattern.lstrip("/"))), reverse=True)
    env["PATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if Path(path).is_dir()))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env["TMPDIR"] = str(scratch)  # the profiler's lock file in /tmp may be another user's
    if not os.access(Path.home(), os.W_OK):
        env["PYTHONUSERBASE"] = site.getuserbase()
        env["HOME"] = str(scratch)
    return env


def _of_packages() -> list[str]:
    """The folders of PyPI's cmake and ninja, which may not be on PATH."""
    found = []
    for name, attribute in (("cmake", "CMAKE_BIN_DIR"), ("ninja", "BIN_DIR")):
        try:
            found.append(getattr(__import__(name), attribute))
        except (ImportError, AttributeError):
            continue
    return found


def folder(target: str) -> Path:
    """One folder per Python and target, because their CMake caches differ."""
    return ROOT / "build" / f"gpu-{sys.implementation.cache_tag}-{target}"


def build(
    target: str,
    dry: bool,
    log: Path,
    env: dict[str, str],
    limit: float,
    watch: Callable[[float], None],
) -> process.Ended:
    """Configures and compiles with all cores, and puts the module beside the package's sources.

    target: a compute capability such as 9.0. log: file for the output of the compilers.
    """
    where = folder(target)
    env = env | {"TORCH_CUDA_ARCH_LIST": target}
    # a container may show more cores than it may use
    cores = env.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(min(len(os.sched_getaffinity(0)), 32))
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(where),
        *(["-G", "Ninja"] if shutil.which("ninja", path=env["PATH"]) else []),
        "-DDETCORE_PYTHON=ON",
        "-DDETCORE_TESTS=ON",
        f"-DDETCORE_SIMT={'ON' if dry else 'OFF'}",
        f"-DDETCORE_CUDA={'' if dry else '1'}",
        f"-DDETCORE_PYTHON_SITE={sysconfig.get_path('purelib')}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    compile = ["cmake", "--build", str(where), "--parallel", cores, "--target", "_C", program(dry)]
    seconds = 0.0
    for command in (configure, compile):
        ended = process.run(command, log, limit - seconds, env=env, cwd=ROOT, watch=watch)
        seconds += ended.seconds
        if ended.code != 0:
            return process.Ended(ended.code, seconds, ended.reason)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return _put_in_place(next(where.glob(f"_C{suffix}"), None), ROOT / "detcore", seconds)


def _put_in_place(module: Path | None, package: Path, seconds: float) -> process.Ended:
    if module is None:
        return process.Ended(1, seconds, "the build gave no module for this Python")
    # a new file, because a running process may have loaded the old one
    handle, fresh = tempfile.mkstemp(dir=package, suffix=".so")
    os.close(handle)
    shutil.copy2(module, fresh)
    os.replace(fresh, package / module.name)
    return process.Ended(0, seconds)


def program(dry: bool) -> str:
    """The test of the launchers, with the simulator if there is no GPU."""
    return "test_launchers_simt" if dry else "test_launchers"


def built_program(target: str, dry: bool) -> Path | None:
    """The path of the program: built here, or by `make test`."""
    folders = (folder(target), ROOT / "build" / sysconfig.get_platform())
    return next((p for f in folders if (p := f / "tests" / program(dry)).exists()), None)
