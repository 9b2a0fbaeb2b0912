"""Puts detcore's functions in the place of torchvision's, also where they were imported by name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType, TracebackType
from typing import Any, NamedTuple

from detcore import ops
from detcore.utils.optional_imports import require

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """A name of a module, and what stood there before."""

    module: str
    name: str
    theirs: Callable[..., Any]


class Patch:
    """What `patch_torchvision` changed; a context manager that takes it back at its end.

    Attributes:
        changes: the names that are ours now, each with its module.
    """

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes

    def undo(self) -> None:
        """Put torchvision's functions back, except where somebody has put in others meanwhile."""
        for module, name, theirs in self.changes:
            found = sys.modules.get(module)
            if found is not None and getattr(found, name, None) is getattr(ops, theirs.__name__):
                setattr(found, name, theirs)
        self.changes = []

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()

    def __str__(self) -> str:
        return "\n".join(f"{module}.{name}" for module, name, _ in self.changes) or "nothing"


def patch_torchvision() -> Patch:
    """Let torchvision, and every module that imported its ops by name, call detcore's.

    Functions only: classes stay torchvision's, because torch.save stores them by name; their
    methods call our functions. A module that is imported later gets ours from torchvision.ops. What
    keeps a function elsewhere, as in a list or a default argument, keeps torchvision's.

    Returns:
        What was changed, which the log tells too. ``undo()``, or the end of a ``with`` block, takes
        it back. Patching twice changes nothing the second time.

    Raises:
        MissingPackage: torchvision is not installed.

    Example:
        >>> import torch, torchvision
        >>> from detcore.compat import patch_torchvision
        >>> with patch_torchvision() as patch:
        ...     torchvision.ops.nms.__module__
        'detcore.ops.nms'
        >>> torchvision.ops.nms.__module__
        'torchvision.ops.boxes'
    """
    require("torchvision", extra="models")
    replaced = _replacements()
    changes = []
    for module_name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or module_name.split(".")[0] == "detcore":
            continue
        for name, value in list(vars(module).items()):
            if type(value) is FunctionType and (ours := replaced.get(value)) is not None:
                setattr(module, name, ours)
                changes.append(Change(module_name, name, value))
    patch = Patch(changes)
    log.info("detcore's ops stand at: %s", ", ".join(str(patch).split("\n")))
    return patch


def _replacements() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Ours by torchvision's function; what is patched already is not among them."""
    import torchvision.ops

    return {
        theirs: getattr(ops, name)
        for name in torchvision.ops.__all__
        if isinstance(theirs := getattr(torchvision.ops, name), FunctionType)
        and name in ops.__all__
        and theirs is not getattr(ops, name)
    }
