"""Calls CMake with Ninja for the native code; everything else is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Builds detcore._C: incremental, because CMake's folder is kept between calls."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / sysconfig.get_platform()
        build.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        torch = os.environ.get("DETCORE_TORCH", "")
        # PyPI's CUDA compiler is in the same folder as the torch of this build
        site = Path(torch).parent if torch else sysconfig.get_path("purelib")
        configure = [
            "cmake",
            "-S", str(ROOT),
            "-B", str(build),
            "-G", "Ninja",
            "-U", "_Python_*",  # from an earlier call with another Python
            "-DDETCORE_PYTHON=ON",
            f"-DDETCORE_CUDA={os.environ.get('DETCORE_CUDA', '')}",
            f"-DDETCORE_OLD_SYSTEMS={os.environ.get('DETCORE_OLD_SYSTEMS', 'OFF')}",
            f"-DDETCORE_TORCH={torch}",
            f"-DDETCORE_PYTHON_SITE={site}",
            f"-DPython_EXECUTABLE={sys.executable}",
        ]  # fmt: skip
        if ninja := shutil.which("ninja"):
            # the build folder is kept, but pip makes a new environment with its own ninja per build
            configure.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
        for command in (configure, ["cmake", "--build", str(build), "--target", "_C"]):
            self.run_or_stop(command)
        # use the full name, because the folder may contain modules of several Pythons
        self.copy_file(str(build / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"), str(target))

    @staticmethod
    def run_or_stop(command: list[str]) -> None:
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise SystemExit("detcore: cmake is needed to build: pip install cmake ninja") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"detcore: '{' '.join(command[:2])} ...' failed, see above") from error


setup(
    ext_modules=[Extension("detcore._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
