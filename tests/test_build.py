"""The built module: its libraries, its build info, and its code for wide instruction sets."""

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import detcore
from detcore.ops._native import _C

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / sysconfig.get_platform()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_links_libtorch_cpu_alone() -> None:
    """It must load under a torch without CUDA; the CUDA runtime is linked statically."""
    dynamic = run("readelf", "-d", _C.__file__)
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert any(n.startswith("libtorch_cpu") for n in needed)
    forbidden = (
        "libtorch_cuda",
        "libc10_cuda",
        "libcudart",
        "libcuda.",
        "libtorch.so",
        "libtorch_python",
    )
    assert not [n for n in needed if n.startswith(forbidden)]
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic


def test_module_exports_its_init_alone() -> None:
    symbols = run("nm", "-D", "--defined-only", _C.__file__).split("\n")
    ours = [s.split()[-1] for s in symbols if s and "detcore" in s]
    assert ours == []


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_wide_objects_share_no_code(isa: str) -> None:
    """Otherwise a narrow caller could be linked to a weak symbol of a wide object."""
    objects = sorted(BUILD.glob(f"CMakeFiles/detcore_cpu_{isa}.dir/**/*.o"))
    if not objects:
        pytest.skip("no build folder")
    for path in objects:
        shared = [
            line for line in run("nm", "-C", str(path)).split("\n") if re.search(r" [WVu] ", line)
        ]
        assert shared == [], path.name


def test_build_info() -> None:
    info = detcore.build_info()
    assert info["version"] == detcore.__version__
    assert info["isa"] in info["instruction_sets"].split()
    if info["cuda"]:
        assert info["cuda_targets"]
        # without a GPU there is the driver's message
        assert info["cuda_error"] is None or len(info["cuda_error"]) > 10
    else:
        assert info["cuda_error"] == "this build of detcore has no CUDA kernels"


def test_isa_can_be_asked_for() -> None:
    code = "import detcore; print(detcore.build_info()['isa'])"
    out = subprocess.run(
        [sys.executable, "-c", code], env={"DETCORE_ISA": "baseline", "PATH": ""}, cwd=ROOT,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert out.strip() == "baseline"


def test_ops_need_torch_and_numpy_alone() -> None:
    code = "import sys, detcore.ops; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(run(sys.executable, "-c", code).split())
    assert not loaded & {
        "torchvision",
        "timm",
        "accelerate",
        "pycocotools",
        "matplotlib",
        "typer",
        "rich",
    }


@pytest.mark.slow
def test_kernel_library_serves_another_cmake_project(tmp_path: Path) -> None:
    """Install it, find it with find_package, link and run it, without torch and Python."""
    prefix, consumer = tmp_path / "prefix", tmp_path / "consumer"
    run("cmake", "-S", str(ROOT), "-B", str(tmp_path / "lib"), "-G", "Ninja", "-DDETCORE_CUDA=0",
        f"-DCMAKE_INSTALL_PREFIX={prefix}")  # fmt: skip
    run("cmake", "--build", str(tmp_path / "lib"))
    run("cmake", "--install", str(tmp_path / "lib"))
    consumer.mkdir()
    (consumer / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(consumer CXX)\n"
        "find_package(detcore 0.1 REQUIRED)\nadd_executable(main main.cpp)\n"
        "target_link_libraries(main PRIVATE detcore::kernels)\n"
    )
    shutil.copy(ROOT / "docs/howto/nms.cpp", consumer / "main.cpp")  # the documentation's example
    run("cmake", "-S", str(consumer), "-B", str(tmp_path / "run"), "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}")  # fmt: skip
    run("cmake", "--build", str(tmp_path / "run"))
    printed = subprocess.run(
        [tmp_path / "run" / "main"], check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == ["0", "2"]


def _cross_compiler() -> list[str]:
    """The command of a C++ compiler for 64-bit ARM, or empty if there is none."""
    if shutil.which("aarch64-linux-gnu-g++"):
        return ["aarch64-linux-gnu-g++"]
    if importlib.util.find_spec("ziglang"):  # a clang for every target, from PyPI
        return [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]
    return []


@pytest.mark.slow
@pytest.mark.skipif(not _cross_compiler(), reason="no compiler for 64-bit ARM (pip: ziglang)")
@pytest.mark.parametrize("path", sorted((ROOT / "csrc/kernels/cpu").glob("*.cpp")), ids=str)
def test_kernels_compile_for_neon(path: Path, tmp_path: Path) -> None:
    """The baseline is NEON there: four floats per division, and no contraction."""
    assembly = tmp_path / "kernel.s"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-S", f"-I{ROOT}/csrc/kernels/include"]
    isa = ["-DDETCORE_ISA=baseline", "-DDETCORE_ISA_IS_BASELINE"]
    run(*_cross_compiler(), *flags, *isa, str(path), "-o", str(assembly))
    code = assembly.read_text(errors="replace")
    assert not re.search(r"\bfml[as]\b|\bfn?m(add|sub)\b", code)
    if path.stem == "box_iou":
        assert re.search(r"\bfdiv\tv\d+\.4s", code)
