"""torchvision's functions. Without torchvision, a test that uses one is skipped.

torch is often installed without torchvision (own build, version too new), and the ops must be
tested there too.
"""

import importlib
from typing import Any

import pytest


class Peer:
    """A module that is imported when a test first uses it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = importlib.import_module(self._name)
        except Exception as error:  # RuntimeError if it was built for another torch
            pytest.skip(f"needs torchvision: {error}")
        return getattr(module, attribute)


tv = Peer("torchvision.ops")
detection = Peer("torchvision.models.detection")
