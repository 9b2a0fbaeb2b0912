"""cmake/old_libraries.py: programs linked to its stubs need no newer system, and run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# linked normally, each of these needs glibc 2.29 to 2.34, or a libstdc++ newer than GCC 8's
SOURCE = """
#include <cmath>
#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <pthread.h>
#include <sstream>
#include <stdexcept>

static void* work(void* words) {
  std::ostringstream text;
  text << "thread " << std::exp(*static_cast<double*>(words));
  throw std::invalid_argument(text.str());
}

extern "C" int run(double x) {
  auto shared = std::make_shared<double>(x);
  pthread_t thread;
  auto caught = [](void* words) -> void* {
    try {
      work(words);
    } catch (...) {
      auto kept = std::current_exception();
      try { std::rethrow_exception(kept); } catch (const std::exception& e) { std::puts(e.what()); }
    }
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, caught, shared.get())) return 1;
  pthread_join(thread, nullptr);
  return dlsym(RTLD_DEFAULT, "malloc") == nullptr;
}
"""


def run(*command: str | Path) -> str:
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    ).stdout


def versions(library: Path, family: str) -> list[tuple[int, ...]]:
    found = re.findall(rf"@{family}_([0-9.]+)", run("nm", "-D", "--undefined-only", library))
    return [tuple(map(int, version.split("."))) for version in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    run(sys.executable, ROOT / "cmake" / "old_libraries.py", "--out", folder / "libraries")
    (folder / "source.cpp").write_text(SOURCE)
    return folder


def link(folder: Path, name: str, *options: str) -> Path:
    library = folder / name
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wl,--exclude-libs,ALL", "-Wl,--as-needed"]
    run("g++", *flags, *options, folder / "source.cpp", "-ldl", "-lpthread", "-o", library)
    return library


def test_no_newer_versions(folder: Path) -> None:
    old = link(folder, "old.so", f"-L{folder}/libraries")
    assert max(versions(old, "GLIBC")) <= (2, 28)
    assert max(versions(old, "GLIBCXX")) <= (3, 4, 24)
    assert max(versions(old, "CXXABI")) <= (1, 3, 11)
    unversioned = [
        line for line in run("nm", "-D", "--undefined-only", old).splitlines()
        if re.fullmatch(r" +U [^@]+", line)
    ]  # fmt: skip
    assert unversioned == []
    # symbols that must exist once per process are not linked statically
    assert re.search(r"U __cxa_throw@", run("nm", "-D", old))
    assert re.search(r"U _ZTISt16invalid_argument@", run("nm", "-D", old))


def test_runs_as_plainly_linked(folder: Path) -> None:
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).run(ctypes.c_double(0)))"
    said = [
        run(sys.executable, "-c", code, link(folder, name, *options))
        for name, options in (("plain.so", []), ("again.so", [f"-L{folder}/libraries"]))
    ]
    assert said == ["thread 1\n"] * 2
