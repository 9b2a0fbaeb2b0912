"""torchvision's published detectors and classifiers as detcore's models.

The architectures are torchvision's (https://github.com/pytorch/vision, BSD); its weights load by
renaming, and the same images then give the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detcore.models import Detector, create
from detcore.parts.backbones.torchvision import TorchvisionBackbone

from .files import WeightsError, read_state
from .torchvision_layouts import LAYOUTS

PUBLISHED = tuple(LAYOUTS)


def load_torchvision(
    name: str,
    weights: str | Path | Mapping[str, Tensor] = "torchvision",
    *,
    num_classes: int | None = None,
    **options: Any,
) -> nn.Module:
    """Load one of torchvision's published models with its weights.

    Args:
        name: torchvision's name of the architecture, one of `PUBLISHED`.
        weights: "torchvision" downloads the official file once (torch.hub keeps it); or the path
            of a .pth or .safetensors file; or a state dict with torchvision's names. A mapping
            with the state dict under "model", as training scripts write it, works too.
        num_classes: number of classes, counted as in `detcore.models`. None: as in the file. With
            another number than the file's, the layers that name classes start with fresh weights,
            for fine-tuning.
        options: arguments of the model's class, which override those of the published model.

    Returns:
        The model, in evaluation mode, float32, on the CPU. A detector is evaluated with the
        thresholds that it was published with, or with those of `options`; once it is trained, or
        has fresh layers, as detcore's own (`detcore.evaluation.thresholds.Thresholds`).

    Batch norms are frozen ones where the file's are (no `num_batches_tracked`), with epsilon as in
    the official file: 0 for fasterrcnn_resnet50_fpn, 1e-5 for its MobileNetV3 relatives; otherwise
    give `backbone` another norm_eps.

    Raises:
        WeightsError: a ValueError for an unknown name; a file that is missing, truncated, no state
            dict, or asks for more than tensors to be unpickled; names or shapes of another model,
            of which the first are named; no network for the official file.
    """
    if name not in LAYOUTS:
        raise WeightsError(
            f"load_torchvision: name must be one of {', '.join(LAYOUTS)}, got {name}"
        )
    layout = LAYOUTS[name]
    source, state = _state(name, weights)
    try:
        classes = layout.num_classes(state)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{source}: no weights of {name}: {error.args[0]} is missing") from error
    config = layout.config_for(state) | options
    model = create(**config, num_classes=num_classes or classes)
    renamed = layout.renamed(state)
    if num_classes not in (None, classes):
        renamed = {k: v for k, v in renamed.items() if not k.startswith(layout.class_layers)}
        renamed |= {
            k: v for k, v in model.state_dict().items() if k.startswith(layout.class_layers)
        }
    _fill(model, renamed, source, name)
    if isinstance(model, Detector):
        model.postprocess.published = num_classes in (None, classes)
    return model.eval()


def load_trunk(backbone: nn.Module, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Fill a backbone with the weights of the classification network that it is part of.

    Args:
        backbone: a `TorchvisionBackbone`, filled in place.
        weights: the path of a .pth or .safetensors file, or a state dict with torchvision's names.
            Layers that the backbone does not have are ignored.

    Raises:
        WeightsError: as `load_torchvision`, and for another kind of backbone.
    """
    if not isinstance(backbone, TorchvisionBackbone):
        raise WeightsError(
            "load_trunk: the backbone must be one of torchvision's (torchvision:NAME), "
            f"got {type(backbone).__name__}"
        )
    name = str(backbone.config["name"])
    source, state = _state(name, weights)
    wanted = backbone.body.state_dict()
    _fill(backbone.body, {k: v for k, v in state.items() if k in wanted}, source, name)


def class_names(name: str) -> list[str]:
    """The classes of a published model by label; a detector's without the background.

    COCO's labels have gaps, which are named N/A. Needs torchvision's own list of its weights.
    """
    names: list[str] = list(_official(name).meta["categories"])
    return names[1:] if names[0] == "__background__" else names


def kind_of(name: str) -> str:
    """Which of detcore's models a published one is: "faster_rcnn", "ssd" or "classifier"."""
    return str(LAYOUTS[name].config["model"])


def _official(name: str) -> Any:
    import torchvision

    return torchvision.models.get_model_weights(name).DEFAULT


def _state(
    name: str, weights: str | Path | Mapping[str, Tensor]
) -> tuple[str, Mapping[str, Tensor]]:
    """Where the weights come from, in words, and the weights."""
    if isinstance(weights, Mapping):
        return "the given state dict", weights
    if str(weights) != "torchvision":
        return str(weights), read_state(Path(weights))
    url = _official(name).url
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        raise WeightsError(
            f"{url} could not be fetched ({error}). Fetch it on a machine with a network and give "
            f"its path as the weights, or put it at {kept}"
        ) from error
    return url, state


def _fill(model: nn.Module, state: Mapping[str, Tensor], source: str, name: str) -> None:
    wanted = model.state_dict()
    # norms that learn count their batches, frozen ones don't; the count is no weight of either
    counts = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}
    state = counts | {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in state]
    unknown = [k for k in state if k not in wanted]
    if missing or unknown:
        lacks = f"it lacks {len(missing)} ({missing[0]}, ...)" if missing else "it lacks none"
        has = (
            f"{len(unknown)} are not the model's ({unknown[0]}, ...)" if unknown else "has no more"
        )
        raise WeightsError(f"{source}: not the weights of {name}: {lacks}, {has}")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise WeightsError(
                f"{source}: {key} must be {list(wanted[key].shape)} in {name}, "
                f"got {list(value.shape)}"
            )
    model.load_state_dict(state)
