"""Every public name of torchvision.ops: detcore's where it has one, otherwise torchvision's.

    from detcore.compat import torchvision_ops as ops      # was: from torchvision import ops

torchvision's submodules, such as ``boxes`` and ``poolers``, are there too, with the same names in
them. Needs torchvision.
"""

from types import ModuleType
from typing import Any

import torchvision.ops

from detcore import ops

SUBMODULES = tuple(
    name
    for name, value in vars(torchvision.ops).items()
    if isinstance(value, ModuleType)
    and value.__name__ == f"torchvision.ops.{name}"
    and not name.startswith("_")
)


def _ours_or_theirs(name: str, theirs: Any) -> Any:
    return getattr(ops, name) if name in torchvision.ops.__all__ and name in ops.__all__ else theirs


def _submodule(name: str) -> ModuleType:
    theirs = getattr(torchvision.ops, name)
    module = ModuleType(f"{__name__}.{name}", theirs.__doc__)
    for key, value in vars(theirs).items():
        if not key.startswith("__"):
            setattr(module, key, _ours_or_theirs(key, value))
    return module


_names = {n: _ours_or_theirs(n, getattr(torchvision.ops, n)) for n in torchvision.ops.__all__}
# a submodule and a function share a name in torchvision too: roi_align is the function there
_names |= {name: _submodule(name) for name in SUBMODULES if name not in _names}
__all__ = sorted(_names)
globals().update(_names)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: nor has torchvision.ops")
