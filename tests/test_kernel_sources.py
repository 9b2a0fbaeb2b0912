"""The kernel sources: self-contained headers, nothing newer than sm_75, no warnings."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "csrc/kernels"
BINDINGS = ROOT / "csrc/bindings"
HEADERS = sorted((KERNELS / "include/detcore").glob("*.h"))
CUDA = sorted((KERNELS / "cuda").glob("*.cu"))
DEVICE_CODE = sorted((*CUDA, *(KERNELS / "cuda").glob("*.cuh"), *HEADERS))
CXX = shutil.which(os.environ.get("CXX", "c++"))


def code(text: str) -> str:
    """Remove comments and strings, keep line numbers."""
    blank = lambda found: re.sub(r"[^\n]", " ", found[0])  # noqa: E731
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def matches(text: str, pattern: str) -> list[str]:
    """All matches, each with its line number."""
    return [
        f"{text.count(chr(10), 0, found.start()) + 1}: {found[0].strip()}"
        for found in re.finditer(pattern, text)
    ]


# --- rules ---------------------------------------------------------------------------------------
# The instructions of PTX ISA 9, except those that are keywords in C++ (and, or, not, xor).
OPCODES = """
abs activemask add addc alloca applypriority atom bar barrier bfe bfi bfind bmsk bra brev brkpt brx
call clusterlaunchcontrol clz cnot copysign cos cp createpolicy cvt cvta discard div dp2a dp4a elect
ex2 exit fence fma fns getctarank griddepcontrol isspacep istypep ld ldmatrix ldu lg2 lop3 mad mad24
madc mapa match max mbarrier membar min mma mov movmatrix mul mul24 multimem nanosleep neg pmevent
popc prefetch prefetchu prmt rcp red redux rem ret rsqrt sad selp set setmaxnreg setp shf shfl shl
shr sin slct sqrt st stackrestore stacksave stmatrix sub subc suld suq sured sust szext tanh tcgen05
tensormap testp tex tld4 trap txq vabsdiff vadd vmad vmax vmin vote vset vshl vshr vsub wgmma wmma
"""


def names_like_instructions(text: str) -> list[str]:
    """Uses of such a name as a variable. Functions and members may have it."""
    names = "|".join(OPCODES.split())
    return matches(code(text), rf"(?<![\w.:>#])(?:{names})\b(?!\s*\(|\s*::|\s*<\w)")


@pytest.mark.parametrize("path", DEVICE_CODE, ids=lambda p: p.name)
def test_no_variable_is_named_like_a_ptx_instruction(path: Path) -> None:
    assert names_like_instructions(path.read_text()) == []


def test_such_names_are_found() -> None:
    source = """int set = 0;  // min = 1
        float low, min;
        void f(const float* max, int n);
        auto [rem, q] = g();
        for (auto& st : states) {}
        T mad{}, sub[4];
        float a = max(b, std::min(c, d)), x = p.min, admin = 0; const char* s = "set = 1";"""
    found = ["1: set", "2: min", "3: max", "4: rem", "5: st", "6: mad", "6: sub"]
    assert names_like_instructions(source) == found


@pytest.mark.parametrize("path", DEVICE_CODE, ids=lambda p: p.name)
def test_launch_cuh_alone_launches_and_knows_the_target(path: Path) -> None:
    """Otherwise a source might not run in the simulator, or behave differently there."""
    if path.name != "launch.cuh":
        assert (
            matches(
                code(path.read_text()),
                r"__CUDA_ARCH__|\basm\b|<<<|\bextern\s+__shared__|__CUDACC_VER",
            )
            == []
        )


ALL = sorted(p for p in KERNELS.rglob("*.*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_intrinsics_are_in_simd_h_alone(path: Path) -> None:
    found = matches(code(path.read_text()), r"\b_mm\d*_\w+|\b__m\d+\w*|\b_cvts\w+|immintrin")
    assert bool(found) == (path.name == "simd.h"), found


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_intersections_and_unions_are_box_h_s(path: Path) -> None:
    """box.h explains the handling of NaN and infinity, which depends on combining the two."""
    formulas = r"\blane_min\(\w+\.[xy]2, \w+\.[xy]2\) *-|(\barea\w*(\(\))?|\bsize) \+ [\w.()]+ - \w"
    found = matches(code(path.read_text()), formulas)
    assert bool(found) == (path.name == "box.h"), found


def stem_files(stem: str) -> list[Path]:
    names = (f"include/detcore/{stem}.h", *(f"{d}/{stem}{b}" for d, b in (
        ("cpu", ".cpp"), ("cpu", "_backward.cpp"), ("cuda", ".cu"), ("cuda", "_backward.cu"),
    )))  # fmt: skip
    return [KERNELS / name for name in names if (KERNELS / name).exists()]


def ops_of_stems() -> dict[str, set[str]]:
    """The operators that bindings register, without gradients, by the stem of their kernels."""
    stems = {path.stem for path in CUDA if "__global__" in path.read_text()}
    ops: dict[str, set[str]] = {}
    for binding in sorted(BINDINGS.glob("*.cpp")):
        text = binding.read_text()
        registered = re.findall(r"^DETCORE_OP\(\s*(\w+)", text, re.M)
        stem = stems & set(re.findall(r'#include "(?:detcore/)?(\w+)\.h"', text))
        if registered:
            assert len(stem) == 1, f"{binding.name} includes the headers of {stem or 'no kernel'}"
            ops.setdefault(stem.pop(), set()).update(
                op for op in registered if not op.endswith(("_backward", "_out"))
            )
    return ops


def test_a_file_of_several_ops_names_them_in_its_first_line() -> None:
    """Otherwise nobody finds the code of an op by its name."""
    shared = {stem: ops for stem, ops in ops_of_stems().items() if ops != {stem}}
    assert "nms" in shared and "roi_align" in shared and "box_codec" in shared
    for stem, ops in shared.items():
        for path in (*stem_files(stem), BINDINGS / f"{stem}.cpp"):
            first = path.read_text().partition("\n")[0]
            missing = {op for op in ops if not re.search(rf"\b{op}\b", first)}
            assert not missing, f"{path.relative_to(ROOT)}: its first line names no {missing}"


# --- headers -------------------------------------------------------------------------------------
def entries(header: Path, device: str) -> list[str]:
    return re.findall(rf"^Status (\w+_{device})\(", header.read_text(), re.M)


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("header", HEADERS, ids=lambda p: p.name)
def test_a_header_stands_alone(header: Path) -> None:
    """A plain C++ program includes it first, and calls its functions with pointers and sizes."""
    calls = "".join(
        f"bool call_{name}(const Params<{name}>& p) {{ return bool({name}(p, {last})); }}\n"
        for device, last in (("cpu", "Executor{}"), ("cuda", "Stream(nullptr)"))
        for name in entries(header, device)
    )
    program = f"""
        #include "detcore/{header.name}"
        template <class R, class P, class X> P first_of(R (*)(const P&, X));
        template <auto entry> using Params = decltype(first_of(entry));
        namespace detcore {{ {calls} }}
    """
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{KERNELS}/include"]
    done = subprocess.run(
        [CXX, *flags, "-x", "c++", "-"], input=program, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_launcher_is_called_from_plain_cpp() -> None:
    called = set(re.findall(r"\b\w+_cuda\b", (ROOT / "tests/cpp/test_launchers.cpp").read_text()))
    declared = {name for header in HEADERS for name in entries(header, "cuda")}
    assert declared and declared - called == set()


# --- compilers -----------------------------------------------------------------------------------
# The flags of CMakeLists.txt, with warnings as errors, and only the oldest target: code for newer
# ones must be inside a guard, or the compiler fails.
FLAGS = [
    *("-std=c++17", "-O3", "--fmad=false", "--expt-relaxed-constexpr", f"-I{KERNELS}/include"),
    *("-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra", '-DDETCORE_CUDA_TARGETS="7.5"'),
    *("-gencode=arch=compute_75,code=[sm_75,compute_75]", "--keep", "-c"),
]
NEWER = (
    r"\b(cp\.async|cp\.reduce|redux|mma|wgmma|ldmatrix|griddepcontrol|mbarrier|multimem|"
    r"setmaxnreg|elect\.sync|fence\.proxy|tensormap|tcgen05|\w+\.cluster|cvt\.\w+\.bf16)\b"
)


def environments_nvcc() -> str | None:
    beside_python = Path(sysconfig.get_path("purelib")).glob("nvidia/cu13*/bin/nvcc")
    return next((str(p) for p in beside_python), None) or shutil.which("nvcc")


@cache
def newest_nvcc() -> str:
    """The newest nvcc of CUDA 13, installed from PyPI into build/ once per version."""
    pip, wanted = [sys.executable, "-m", "pip", "--quiet", "install"], "cuda-toolkit>=13,<14"
    report = subprocess.run(
        [*pip, "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", wanted],
        capture_output=True, text=True,
    )  # fmt: skip
    if report.returncode:
        pytest.skip(f"PyPI is out of reach: {report.stderr.strip().splitlines()[-1:]}")
    version = json.loads(report.stdout)["install"][0]["metadata"]["version"]
    folder = ROOT / "build" / f"cuda-{version}"
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        fetched = subprocess.run(
            [*pip, "--target", str(fresh), f"cuda-toolkit[nvcc,cccl,nvvm,crt]=={version}"],
            capture_output=True, text=True,
        )  # fmt: skip
        if fetched.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            pytest.skip(f"PyPI gives no CUDA {version}: {fetched.stderr.strip().splitlines()[-1:]}")
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return str(next(folder.glob("nvidia/cu13*/bin/nvcc")))


@pytest.mark.slow
@pytest.mark.parametrize("source", CUDA, ids=lambda p: p.name)
@pytest.mark.parametrize("compiler", ["the environment's", "newest"])
def test_compiles_for_sm_75_without_a_warning(compiler: str, source: Path, tmp_path: Path) -> None:
    nvcc = newest_nvcc() if compiler == "newest" else environments_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc")
    done = subprocess.run(
        [nvcc, *FLAGS, str(source), "-o", "kernel.o"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{Path(nvcc).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
    ptx = next(tmp_path.glob("*.ptx")).read_text()
    assert ".target sm_75" in ptx
    assert matches(ptx, NEWER) == []
