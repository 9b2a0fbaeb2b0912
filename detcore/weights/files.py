"""Reading a state dict from a file, without running anything that the file says."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from detcore.utils.errors import UserError


class WeightsError(UserError):
    """Weights can't be found, read or fitted to their model; the text names the file."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or a torch.save file by name, on the CPU.

    Of a mapping that holds the state dict under "model" or "state_dict", that is taken. Nothing but
    tensors and plain containers is unpickled. Raises WeightsError for a file that is missing, cut
    off, of another kind, or asks for more.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        loaded: Any = (
            load_file(str(path))
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        # torch's own words advise to unpickle all the same
        raise WeightsError(
            f"{path}: cut off, or asks for more than tensors to be unpickled, which was not done"
        ) from error
    except Exception as error:  # of a file that is none, torch and pickle let out anything
        raise WeightsError(
            f"{path}: cut off, or no file of weights ({_first_line(error)})"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: must hold a state dict, got {type(loaded).__name__}")
    strange = [k for k, v in loaded.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if strange:
        raise WeightsError(f"{path}: must hold tensors by name, got {strange[0]!r}")
    return dict(loaded)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
