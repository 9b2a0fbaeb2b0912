"""Optional packages, asked for in one sentence where they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingPackage(ImportError):
    """A package that an optional part needs is not installed; the text says how to get it."""


def require(module: str, package: str | None = None, *, extra: str | None = "models") -> ModuleType:
    """Import `module`, or say in one sentence what to install.

    Args:
        module: dotted module name, for example ``"sklearn.datasets"``.
        package: its name on PyPI where that differs from the module's first part.
        extra: of detcore's extras the one that brings it; None where none does.

    Raises:
        MissingPackage: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = package or module.split(".")[0]
        install = f"'detcore[{extra}]' (or {name} alone)" if extra else name
        raise MissingPackage(f"this part of detcore needs {name}: pip install {install}") from error
