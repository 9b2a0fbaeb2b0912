"""torchvision's functions, where it is installed: elsewhere a test that uses one is skipped.

torch comes without torchvision often enough (a build of its own, a version too new), and the ops
must be tested there too.
"""

import importlib
from typing import Any

import pytest


class Peer:
    """A module that is imported when a test first takes something from it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = importlib.import_module(self._name)
        except Exception as error:  # a RuntimeError, beside a torch that it was not built for
            pytest.skip(f"needs torchvision: {error}")
        return getattr(module, attribute)


tv = Peer("torchvision.ops")
detection = Peer("torchvision.models.detection")
