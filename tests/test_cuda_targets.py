"""TORCH_CUDA_ARCH_LIST in CMake, with a fake nvcc that lists given targets."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CMAKE = shutil.which("cmake") or "cmake"
CUDA_12_4 = ["compute_75", "compute_80", "compute_86", "compute_87", "compute_89", "compute_90"]
CUDA_12_4 += ["compute_90a"]
CUDA_13_0 = [
    *CUDA_12_4,
    "compute_100",
    "compute_100a",
    "compute_100f",
    "compute_103",
    "compute_110",
]
CUDA_13_0 += ["compute_120", "compute_121"]


@pytest.fixture
def read_targets(tmp_path: Path):
    """read_targets(list, known) -> exit code, and CMake's output as one line."""

    def read(asked: str | None, known: list[str]) -> tuple[int, str]:
        nvcc = tmp_path / "nvcc"
        values = ",".join(f"'{name}'" for name in known)
        nvcc.write_text(f'#!/bin/sh\n[ "$1" = --help ] && echo "Allowed values: {values}."\n')
        nvcc.chmod(0o755)
        script = tmp_path / "read.cmake"
        script.write_text(
            "cmake_minimum_required(VERSION 3.24)\n"
            f'include("{ROOT}/cmake/CudaCompiler.cmake")\n'
            f'set(DETCORE_NVCC "{nvcc}")\n'
            "detcore_cuda_targets(flags)\n"
            'message("targets=${DETCORE_CUDA_TARGETS} flags=${flags}")\n'
        )
        environment = {"PATH": "/usr/bin:/bin"} | (
            {} if asked is None else {"TORCH_CUDA_ARCH_LIST": asked}
        )
        done = subprocess.run(
            [CMAKE, "-P", str(script)], env=environment, capture_output=True, text=True
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    return read


def test_a_build_folder_remembers_what_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "nvcc").write_text(
        "#!/bin/sh\necho \"Allowed values: 'compute_75','compute_90'.\"\n"
    )
    (tmp_path / "nvcc").chmod(0o755)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(remembers NONE)\n"
        f'include("{ROOT}/cmake/CudaCompiler.cmake")\n'
        f'set(DETCORE_NVCC "{tmp_path}/nvcc")\n'
        "detcore_cuda_targets(flags)\n"
        'message("targets=${DETCORE_CUDA_TARGETS};")\n'
    )
    told = []
    for asked in ({"TORCH_CUDA_ARCH_LIST": "7.5"}, {}, {"TORCH_CUDA_ARCH_LIST": "default"}, {}):
        done = subprocess.run(
            [CMAKE, "-S", str(tmp_path), "-B", str(tmp_path / "build"), "-G", "Ninja",
             f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja') or 'ninja'}"],
            env={"PATH": "/usr/bin:/bin"} | asked, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told += re.findall("targets=(.*);", done.stdout + done.stderr)
    assert told[:2] == ["7.5", "7.5"]
    assert told[2] == told[3] and "9.0" in told[2]


@pytest.mark.parametrize(
    ("asked", "targets", "flags"),
    [
        ("10.3", "10.3", "compute_103,code=sm_103"),
        ("12.1", "12.1", "compute_121,code=sm_121"),
        ("9.0a", "9.0a", "compute_90a,code=sm_90a"),
        ("10.0f", "10.0f", "compute_100f,code=sm_100f"),
        ("8.7;11.0", "8.7 11.0", "compute_87,code=sm_87;-gencode=arch=compute_110,code=sm_110"),
        ("8.6+PTX", "8.6+PTX", "compute_86,code=sm_86;-gencode=arch=compute_86,code=compute_86"),
        ("Hopper", "9.0+PTX", "compute_90,code=sm_90;-gencode=arch=compute_90,code=compute_90"),
        ("Ampere+Tegra", "8.7", "compute_87,code=sm_87"),
    ],
)
def test_what_is_asked_for(read_targets, asked: str, targets: str, flags: str) -> None:
    code, said = read_targets(asked, CUDA_13_0)
    assert code == 0
    assert said.strip() == f"targets={targets} flags=-gencode=arch={flags}"


def test_defaults_are_what_the_compiler_knows_of_them(read_targets) -> None:
    """The newest default has PTX, so that later GPUs can run it."""
    code, said = read_targets(None, CUDA_13_0)
    assert code == 0
    assert "targets=7.5 8.0 8.6 8.9 9.0 10.0 12.0+PTX " in said
    assert "left out" not in said

    code, said = read_targets(None, CUDA_12_4)
    assert code == 0
    assert "targets=7.5 8.0 8.6 8.9 9.0+PTX " in said
    assert said.count("is left out") == 2
    assert "the default target 10.0 is left out" in said


def test_a_target_that_was_asked_for_is_not_dropped(read_targets) -> None:
    code, said = read_targets("9.0 12.1", CUDA_12_4)
    assert code != 0
    assert "TORCH_CUDA_ARCH_LIST asks for 12.1, which" in said
    assert "does not know; it knows 7.5 8.0 8.6 8.7 8.9 9.0 9.0a" in said


@pytest.mark.parametrize("asked", ["sm_90", "9", "9.0b", "9.0+ptx", "Fermi"])
def test_what_is_no_target(read_targets, asked: str) -> None:
    code, said = read_targets(asked, CUDA_13_0)
    assert code != 0
    assert "must list targets like 7.5, 9.0a or 12.0+PTX, or names like Hopper, got " in said
    assert f"'{asked}'" in said
