"""The source distribution contains everything for a build, and no build results."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# includes paths from .pth files, which PYTHONPATH would not
SITES = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))


def run(*command: str | Path, **options: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    # the list of files is written elsewhere, so that an older one in the sources is not used
    run(
        sys.executable,
        "setup.py",
        "--quiet",
        "egg_info",
        "--egg-base",
        out,
        "sdist",
        "-d",
        out,
        cwd=ROOT,
    )
    return next(out.glob("detcore-*.tar.gz"))


def test_holds_what_a_build_reads(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"CMakeLists.txt", "pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"}
    for pattern in (
        "csrc/**/*",
        "cmake/*.*",
        "detcore/**/*.py",
        "detcore/**/*.pyi",
        "scripts/op_template/**/*.*",
        "examples/**/*.*",
        "tests/**/*.*",
    ):
        wanted |= {
            str(path.relative_to(ROOT))
            for path in ROOT.glob(pattern)
            if path.is_file() and path.suffix not in (".pyc", ".so")
        }
    assert len(wanted) > 200
    assert wanted - held == set()
    assert "detcore/py.typed" in held
    built = {name for name in held if name.endswith((".so", ".o", ".pyc"))}
    assert built | {name for name in held if name.startswith(("build/", ".venv/"))} == set()


@pytest.mark.slow
def test_builds_and_works(sdist: Path, tmp_path: Path) -> None:
    """pip install it in a new environment that has this one's torch and build tools."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    environment = os.environ | {"PYTHONPATH": SITES, "DETCORE_CUDA": "0"}
    pip = [python, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    run(*pip, sdist, cwd=tmp_path, env=environment)
    shutil.copy(ROOT / "tests" / "test_installed.py", tmp_path)
    where = run(
        python, "-c", "import detcore; print(detcore.__file__)", cwd=tmp_path, env=environment
    )
    assert where.startswith(str(tmp_path / "env"))
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_installed.py"]
    assert " passed" in run(*tests, cwd=tmp_path, env=environment)
