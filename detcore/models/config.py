"""A model's constructor arguments, kept so that a checkpoint can tell how to build it again."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=type[nn.Module])


def keeps_config(name: str) -> Callable[[M], M]:
    """Class decorator: every instance gets `config`, a dict that JSON can hold.

    It holds "model": name, and each argument of the constructor with its value, defaults included,
    so that a later change of a default does not change what an old checkpoint means. A module
    stands there as its own `config` (None if it has none). `pretrained` is left out: the weights
    are in the checkpoint.
    """

    def decorate(cls: M) -> M:
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def init_and_keep(self: Any, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            init(self, *args, **kwargs)
            _, *arguments = bound.arguments.items()
            kept = {key: _plain(value) for key, value in arguments if key != "pretrained"}
            self.config = {"model": name, **kept}

        cls.__init__ = init_and_keep  # type: ignore[method-assign]
        return cls

    return decorate


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return getattr(value, "config", None)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
