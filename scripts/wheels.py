"""Builds a wheel for each given Python, in wheelhouse/, and tests each in a fresh environment.

    python scripts/wheels.py 3.11 3.12     (`make wheel PYTHONS="3.11 3.12"` sets up first)

The kernel library is compiled once for all Pythons, with this environment's torch and CUDA
compiler; the bindings are compiled once per Python. Each wheel is linked for systems as old as
manylinux_2_28 (cmake/old_libraries.py), must get that tag or an older one, and must pass
tests/test_installed.py in an environment with only the wheel, torch, numpy and pytest.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1].resolve()
SCRATCH = ROOT / "build" / "wheels"
WHEELHOUSE = ROOT / "wheelhouse"
NEWEST_GLIBC = (2, 28)
TO_BUILD = ("setuptools>=77", "wheel", "pybind11>=3.0")
TO_TEST = ("numpy", "pytest")
# symbols that a module may use without a version: Python's own, and torch's stable ABI
PLAIN_NAMES = r"_?Py|aoti_|torch_"


def say(words: str) -> None:
    print(f"--- {words}", flush=True)


def run(*command: str | Path, **options: object) -> str:
    """Return the command's output, or show it and exit."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\ndetcore: '{' '.join(words[:4])} ...' failed, see above")
    return done.stdout


def interpreters(version: str) -> Iterator[str]:
    yield f"python{version}"
    if shutil.which("pyenv"):
        root = Path(run("pyenv", "root").strip())
        yield from map(str, sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True))


def find_python(version: str) -> str:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    for candidate in interpreters(version):
        # pyenv puts names on PATH that may not run
        if (
            shutil.which(candidate)
            and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode
        ):
            return candidate
    raise SystemExit(
        f"detcore: no Python {version} found; looked for python{version} on PATH and in pyenv"
    )


def fresh_environment(name: str, python: str, packages: tuple[str, ...]) -> Path:
    """Make a new environment; return its Python."""
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    pip_install(folder / "bin" / "python", *packages)
    return folder / "bin" / "python"


def pip_install(python: Path, *what: str | Path) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what)


def torch_folder() -> Path:
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("detcore: wheels are built in an environment that has torch: make wheel")
    return Path(spec.submodule_search_locations[0])


def build(version: str, python: str) -> Path:
    """Build a plain setuptools wheel in a scratch folder."""
    builder = fresh_environment(f"build-{version}", python, TO_BUILD)
    for stale in ROOT.glob("build/lib*"):  # or setuptools would pack deleted files
        shutil.rmtree(stale)
    out = SCRATCH / f"raw-{version}"
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        "TORCH_CUDA_ARCH_LIST": "default",  # not the targets of the last build in place
        **os.environ,
        "DETCORE_OLD_SYSTEMS": "ON",
        "DETCORE_TORCH": str(torch_folder()),
    }
    # the output is not captured, because this takes minutes and ninja shows the progress
    command = [builder, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", out]
    if subprocess.run(list(map(str, command)), env=environment, cwd=ROOT).returncode:
        raise SystemExit(f"detcore: the build for Python {version} failed, see above")
    return next(out.glob("*.whl"))


def refuse_unversioned(wheel: Path) -> None:
    """Refuse symbols without a version, because old systems may lack them."""
    with zipfile.ZipFile(wheel) as archive:
        (module,) = [name for name in archive.namelist() if re.search(r"/_C\..*\.so$", name)]
        path = Path(archive.extract(module, SCRATCH / "look"))
    listing = run("nm", "-D", "--undefined-only", path)
    names = re.findall(r"^ +U ([^@\s]+)$", listing, flags=re.MULTILINE)
    if odd := [name for name in names if not re.match(PLAIN_NAMES, name)]:
        raise SystemExit(f"detcore: {wheel.name} needs {', '.join(odd)}, which older systems lack")


def repair(raw: Path) -> Path:
    """Tag the wheel with the oldest systems that can load it."""
    out = raw.parent / "tagged"
    shutil.rmtree(out, ignore_errors=True)
    run(
        sys.executable, "-m", "auditwheel", "repair",
        "--exclude", "libtorch*", "--exclude", "libc10*", "--wheel-dir", out, raw,
    )  # fmt: skip
    wheel = next(out.glob("*.whl"))
    tags = [tuple(map(int, tag)) for tag in re.findall(r"manylinux_(\d+)_(\d+)", wheel.name)]
    if not tags or min(tags) > NEWEST_GLIBC:
        audit = run(sys.executable, "-m", "auditwheel", "show", raw)
        raise SystemExit(
            f"{audit}\ndetcore: {wheel.name} must be manylinux_2_28 or older, see above"
        )
    return wheel


def install_torch(python: Path, requirement: str) -> None:
    """Install torch without CUDA's libraries. They have gigabytes and are the same for every
    Python, so this environment's are shared."""
    pip_install(python, "--no-deps", requirement)
    code = "from importlib.metadata import requires; print(*requires('torch'), sep='\\n')"
    needs = run(python, "-c", code).splitlines()
    pip_install(
        python, *(n for n in needs if not re.match("nvidia|cuda|triton", n) and "extra ==" not in n)
    )
    shared = torch_folder().parent / "nvidia"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    if any(n.startswith(("nvidia", "cuda")) for n in needs) and not (site / "nvidia").exists():
        (site / "nvidia").symlink_to(shared)


def try_out(wheel: Path, version: str, python: str, torch: str) -> str:
    """Test a wheel in a fresh environment; return its CUDA targets and pytest's last line."""
    fresh = fresh_environment(f"test-{version}", python, TO_TEST)
    install_torch(fresh, torch)
    pip_install(fresh, "--no-deps", wheel)
    elsewhere = SCRATCH / f"elsewhere-{version}"
    elsewhere.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "test_installed.py", elsewhere)
    (elsewhere / "pytest.ini").write_text("[pytest]\n")  # else pytest finds ROOT's pyproject.toml
    said = run(
        fresh, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_installed.py", cwd=elsewhere
    )
    facts = "import detcore; print(detcore.build_info()['cuda_targets'] or 'none')"
    targets = run(fresh, "-c", facts, cwd=elsewhere).strip()
    shutil.rmtree(fresh.parents[1])  # more than a gigabyte
    return f"CUDA targets: {targets}; {said.strip().splitlines()[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="such as 3.12")
    parser.add_argument(
        "--torch", help="torch version to test with; default: the release of this torch"
    )
    parser.add_argument("--no-test", action="store_true", help="build and tag, without a test")
    options = parser.parse_args()
    torch = options.torch or f"torch=={distribution('torch').version.partition('+')[0]}"
    found = {version: find_python(version) for version in options.pythons}
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    lines = []
    for version, python in found.items():
        say(f"Python {version}: the bindings, and the kernel library where it is not yet compiled")
        raw = build(version, python)
        refuse_unversioned(raw)
        wheel = repair(raw)
        tested = "not tried"
        if not options.no_test:
            say(f"Python {version}: {wheel.name} in a fresh environment with {torch}")
            tested = try_out(wheel, version, python, torch)
        WHEELHOUSE.mkdir(exist_ok=True)
        wheel = Path(shutil.move(wheel, WHEELHOUSE / wheel.name))
        size = wheel.stat().st_size / 2**20
        lines.append(f"{wheel.relative_to(ROOT)}  {size:.1f} MiB  {tested}")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
