"""setuptools' build backend, except that only wheels require torch and the build tools.

So `python -m build --sdist` does not download gigabytes of torch just to pack text files, and a
build with DETCORE_TORCH=path/to/torch uses that torch instead of installing its own.
"""

import os
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

TO_COMPILE = ["cmake>=3.24", "ninja", "pybind11>=3.0", "numpy"]
TORCH = "torch>=2.10"


def _with_tools(requirements: list[str]) -> list[str]:
    own = [] if os.environ.get("DETCORE_TORCH") else [TORCH]
    return [*requirements, *TO_COMPILE, *own]


def get_requires_for_build_wheel(settings: Any = None) -> list[str]:
    return _with_tools(build_meta.get_requires_for_build_wheel(settings))


def get_requires_for_build_editable(settings: Any = None) -> list[str]:
    return _with_tools(build_meta.get_requires_for_build_editable(settings))
