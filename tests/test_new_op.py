"""scripts/new_op.py: its files are formatted, compile, are listed everywhere, and can't pass.

Runs in a copy of the sources. The bindings are not compiled: torch's headers alone would take
longer than all of these tests.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CXX = shutil.which(os.environ.get("CXX", "c++"))
NAME = "pairwise_sums_of_two_sides"  # long, to test the limit of line lengths
READ = ("scripts/op_template", "detcore/ops", "detcore/reference", "csrc/kernels", "tests/cpp",
        "tests/simt")  # fmt: skip


def new_op(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/new_op.py", name]
    return subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for folder in READ:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("benchmarks/ops", "csrc/bindings", "detcore/bench/ops", "tests/ops"):
        (root / folder).mkdir(parents=True)
    for file in ("scripts/new_op.py", "pyproject.toml", ".clang-format"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, root / file)
    done = new_op(root, NAME)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return root


def written(tree: Path) -> list[Path]:
    return sorted(p for p in tree.rglob(f"*{NAME}.*") if "__pycache__" not in p.parts)


def test_writes_a_file_in_every_layer(tree: Path) -> None:
    assert {str(p.relative_to(tree)) for p in written(tree)} == {
        *(f"csrc/kernels/include/detcore/{NAME}.h", f"csrc/kernels/cpu/{NAME}.cpp"),
        *(f"csrc/kernels/cuda/{NAME}.cu", f"csrc/bindings/{NAME}.cpp"),
        *(f"detcore/ops/{NAME}.py", f"detcore/reference/{NAME}.py", f"tests/ops/test_{NAME}.py"),
        *(f"detcore/bench/ops/{NAME}.py", f"benchmarks/ops/bench_{NAME}.py"),
    }
    for path in written(tree):
        assert "new_op" not in path.read_text() and "NewOp" not in path.read_text(), path


def test_lists_it(tree: Path) -> None:
    for package in ("ops", "reference"):
        text = (tree / f"detcore/{package}/__init__.py").read_text()
        assert f"from .{NAME} import {NAME}\n" in text
        names = next(
            ast.literal_eval(node.value) for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )  # fmt: skip
        assert names.count(NAME) == 1
    tables = {
        ast.unparse(node.target): [ast.literal_eval(key) for key in node.value.keys]
        for node in ast.parse((tree / "detcore/ops/registry.py").read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    }
    assert tables["OPERATORS"][-1] == tables["CALLS"][-1] == NAME
    assert f"CASE({NAME}, " in (tree / "tests/cpp/test_launchers.cpp").read_text()


def test_refuses_what_is_there_or_no_name(tree: Path) -> None:
    before = {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    there, no_name = "is there already", "must be a name such as"
    for name, words in ((NAME, there), ("nms", there), ("BoxArea", no_name), ("class", no_name)):
        refused = new_op(tree, name)
        assert refused.returncode == 1 and words in refused.stderr, refused.stderr
    assert before == {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def test_every_kernel_and_the_reference_fail_until_they_are_written(tree: Path) -> None:
    """Otherwise both kernels would return zeros, and the test of launchers would pass."""
    unwritten = {
        f"csrc/kernels/cpu/{NAME}.cpp": 'Status{"its CPU kernel is still the skeleton\'s"}',
        f"csrc/kernels/cuda/{NAME}.cu": 'Status{"its CUDA kernel is still the skeleton\'s"}',
        f"detcore/reference/{NAME}.py": "raise NotImplementedError(",
        f"tests/ops/test_{NAME}.py": "pytest.fail(",
    }
    for file, words in unwritten.items():
        assert words in (tree / file).read_text() and "TODO" in (tree / file).read_text(), file


@pytest.mark.skipif(find_spec("ruff") is None, reason="no ruff")
def test_python_is_as_ruff_wants_it(tree: Path) -> None:
    lists = ("detcore/ops/registry.py", "detcore/ops/__init__.py", "detcore/reference/__init__.py")
    paths = [*lists, *(p for p in written(tree) if p.suffix == ".py")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *paths],
            cwd=tree, capture_output=True, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_native_code_is_as_clang_format_wants_it(tree: Path) -> None:
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("clang-format", path=places)
    if program is None or not (tree / ".clang-format").exists():
        pytest.skip("no clang-format, or no rules for it")
    native = [p for p in written(tree) if p.suffix != ".py"]
    done = subprocess.run(
        [program, "--dry-run", "--Werror", *native, "tests/cpp/test_launchers.cpp"],
        cwd=tree, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def cuda_headers() -> list[str]:
    """The include folders of the environment's CUDA; the simulator uses its half types."""
    site = find_spec("nvidia")
    places = [Path(p) for p in (site.submodule_search_locations or [])] if site else []
    found = [h.parent for p in places for h in p.glob("cu*/include/cuda_fp16.h")]
    home = os.environ.get("CUDA_HOME")
    found += [Path(home, "include")] if home and Path(home, "include/cuda_fp16.h").exists() else []
    return [f"-isystem{found[0]}"] if found else []


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("layer", ["cpu kernel", "cuda kernel", "launchers"])
def test_compiles(tree: Path, layer: str) -> None:
    kernels = tree / "csrc/kernels"
    flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unknown-pragmas",
             "-Wno-attributes", "-Wno-unused-function", f"-I{kernels}/include"]  # fmt: skip
    simt = ["-DDETCORE_SIMT", f"-I{tree}/tests/simt/include", f"-I{tree}/tests/simt",
            f"-I{kernels}/cuda", *cuda_headers()]  # fmt: skip
    if layer == "cuda kernel" and not cuda_headers():
        pytest.skip("no CUDA headers")
    flags += {
        "cpu kernel": ["-DDETCORE_ISA=baseline", "-DDETCORE_ISA_IS_BASELINE",
                       str(kernels / f"cpu/{NAME}.cpp")],
        "cuda kernel": [*simt, "-x", "c++", str(kernels / f"cuda/{NAME}.cu")],
        "launchers": ["-DDETCORE_WITH_CUDA", str(tree / "tests/cpp/test_launchers.cpp")],
    }[layer]  # fmt: skip
    done = subprocess.run([str(CXX), *flags], capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and not re.search(rf"{NAME}.*warning", done.stderr), done.stderr
