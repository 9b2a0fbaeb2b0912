"""What torchvision's published models are made of, and how their weights are named there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]
Renaming = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """One published architecture.

    config: what `detcore.models.create` builds it from, the number of classes left out.
    names: pairs of a pattern for the beginning of torchvision's name and what stands for it here;
        the first that matches counts.
    class_layers: the beginnings of the names here of layers that depend on the number of classes.
    classes_in: a weight whose rows are classes, and how many rows a class has.
    """

    config: Mapping[str, Any]
    names: Sequence[Renaming]
    class_layers: tuple[str, ...]
    classes_in: tuple[str, int]

    def num_classes(self, state: State) -> int:
        """How many classes the weights are for. Raises KeyError where the layer is missing."""
        weight, rows = self.classes_in
        return len(state[weight]) // rows

    def config_for(self, state: State) -> dict[str, Any]:
        """`config`, with norms that learn where those of the weights did."""
        config = dict(self.config)
        backbone = dict(config["backbone"])
        learning = any(k.endswith("num_batches_tracked") for k in state)
        if learning and backbone.get("frozen_norm"):
            backbone |= {"frozen_norm": False, "norm_eps": 1e-5, "frozen_maps": 0}
        return config | {"backbone": backbone}

    def renamed(self, state: State) -> dict[str, Tensor]:
        """The weights by their names here; a name that no pattern fits stays as it is."""
        return {self._rename(key): value for key, value in state.items()}

    def _rename(self, key: str) -> str:
        for pattern, name in self.names:
            renamed, count = re.subn("^" + pattern, name, key)
            if count:
                return renamed
        return key


# --- Faster R-CNN -------------------------------------------------------------------------------

_RCNN_NAMES: tuple[Renaming, ...] = (
    # older files have bare convolutions where newer ones have a block around each
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(?=weight|bias)", r"neck.lateral.\1.0."),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(?=weight|bias)", r"neck.out.\1.0."),
    (r"backbone\.fpn\.inner_blocks\.", "neck.lateral."),
    (r"backbone\.fpn\.layer_blocks\.", "neck.out."),
    (r"rpn\.head\.conv\.(?=weight|bias)", "rpn_head.convs.0.0."),
    (r"rpn\.head\.conv\.", "rpn_head.convs."),
    (r"rpn\.head\.cls_logits\.", "rpn_head.logits."),
    (r"rpn\.head\.bbox_pred\.", "rpn_head.deltas."),
    (r"roi_heads\.box_head\.fc6\.", "box_head.hidden.1."),
    (r"roi_heads\.box_head\.fc7\.", "box_head.hidden.3."),
    (r"roi_heads\.box_head\.", "box_head.hidden."),
    (r"roi_heads\.box_predictor\.cls_score\.", "box_head.logits."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "box_head.deltas."),
)
# MobileNetV3's trunk stands there without its name
_MOBILE_RCNN_NAMES: tuple[Renaming, ...] = (
    (r"backbone\.body\.", "backbone.body.features."),
    *_RCNN_NAMES,
)


def _rcnn(names: Sequence[Renaming], **config: Any) -> Layout:
    common = {
        "model": "faster_rcnn",
        "min_size": 800,
        "image_size": 1333,
        "fpn_channels": 256,
        "fpn_norm": False,
        "head_width": 1024,
        "proposals": 1000,
        "box_samples": 512,
        "candidates_per_class": 1000,
    }
    return Layout(
        config=common | config,
        names=names,
        class_layers=("box_head.logits.", "box_head.deltas."),
        classes_in=("roi_heads.box_predictor.cls_score.weight", 1),
    )


_RESNET_LAYERS = ["layer1", "layer2", "layer3", "layer4"]
_OCTAVES = [[32], [64], [128], [256], [512]]
_RESNET50 = {"name": "torchvision:resnet50", "layers": _RESNET_LAYERS}
_MOBILENET = {
    "name": "torchvision:mobilenet_v3_large",
    "layers": ["features.13", "features.16"],
    "frozen_norm": True,
    "norm_eps": 1e-5,
}
_MOBILE_RCNN = {
    "backbone": _MOBILENET,
    "anchor_sizes": [[32, 64, 128, 256, 512]] * 3,
    "rpn_score_threshold": 0.05,
}

# --- SSD ----------------------------------------------------------------------------------------


def _ssd_vgg(match: re.Match[str]) -> str:
    # torchvision cuts VGG behind its fourth block: layer 23 of it is layer 0 of the rest
    return f"backbone.body.features.{int(match[1]) + 23}."


def _ssd_extra(match: re.Match[str]) -> str:
    return f"neck.levels.{int(match[1]) - 1}.{int(match[2]) // 2}.0."


def _after_block_13(match: re.Match[str]) -> str:
    return f"backbone.body.features.{int(match[1]) + 13}."


_HEAD_NAMES: tuple[Renaming, ...] = (
    (r"head\.classification_head\.module_list\.", "head.logits."),
    (r"head\.regression_head\.module_list\.", "head.deltas."),
)
_SSD_NAMES: tuple[Renaming, ...] = (
    (r"backbone\.scale_weight$", "top.first_norm.scale"),
    (r"backbone\.features\.", "backbone.body.features."),
    (r"backbone\.extra\.0\.7\.1\.", "top.fc6.0."),
    (r"backbone\.extra\.0\.7\.3\.", "top.fc7.0."),
    (r"backbone\.extra\.0\.(\d+)\.", _ssd_vgg),
    (r"backbone\.extra\.(\d+)\.(\d+)\.", _ssd_extra),
    *_HEAD_NAMES,
)
_SSDLITE_NAMES: tuple[Renaming, ...] = (
    # cut inside block 13: its expansion belongs to the first part, the rest to the second
    (r"backbone\.features\.0\.13\.", "backbone.body.features.13.block.0."),
    (r"backbone\.features\.0\.", "backbone.body.features."),
    (r"backbone\.features\.1\.0\.", "backbone.body.features.13.block."),
    (r"backbone\.features\.1\.(\d+)\.", _after_block_13),
    (r"backbone\.extra\.", "neck.levels."),
    *_HEAD_NAMES,
)


def _ssd300() -> Layout:
    ratios = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    config = {
        "model": "ssd",
        "backbone": {"name": "torchvision:vgg16", "layers": ["features.22", "features.29"]},
        "image_size": 300,
        "stretch": True,
        "vgg_top": 1024,
        "extra_levels": [[256, 512, 3, 2], [128, 256, 3, 2], [128, 256, 3, 1], [128, 256, 3, 1]],
        "anchor_sizes": [300 * r for r in ratios],
        "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        "strides": [8, 16, 32, 64, 100, 300],
        "head_width": None,
        "norm": False,
        "mean": [0.48235, 0.45882, 0.40784],
        "std": [1 / 255] * 3,
        "score_threshold": 0.01,
        "max_detections": 200,
    }
    return Layout(
        config=config,
        names=_SSD_NAMES,
        class_layers=("head.logits.",),
        classes_in=("head.classification_head.module_list.0.weight", 4),
    )


def _ssdlite320() -> Layout:
    ratios = [0.2 + 0.75 * k / 5 for k in range(6)] + [1.0]
    config = {
        "model": "ssd",
        "backbone": {
            "name": "torchvision:mobilenet_v3_large",
            "layers": ["features.13.block.0", "features.16"],
            "norm_eps": 1e-3,
            "reduced_tail": True,
        },
        "image_size": 320,
        "stretch": True,
        "extra_levels": [512, 256, 256, 128],
        "anchor_sizes": [320 * r for r in ratios],
        "aspect_ratios": [2, 3],
        "lite": True,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "score_threshold": 0.001,
        "iou_threshold": 0.55,
        "candidates_per_class": 300,
        "max_detections": 300,
    }
    return Layout(
        config=config,
        names=_SSDLITE_NAMES,
        class_layers=("head.logits.",),
        classes_in=("head.classification_head.module_list.0.1.weight", 6),
    )


# --- Classifiers --------------------------------------------------------------------------------


def _classifier(trunk: str, last_map: str, final: str, **config: Any) -> Layout:
    names: list[Renaming] = [(re.escape(final) + r"\.", "head.logits.")]
    if "head_width" in config:
        names.append((r"classifier\.0\.", "head.hidden.0."))
    return Layout(
        config={
            "model": "classifier",
            "backbone": {"name": f"torchvision:{trunk}", "layers": [last_map]},
            "image_size": 224,
            "resize": 256,
            **config,
        },
        names=(*names, ("", "backbone.body.")),
        class_layers=("head.logits.",),
        classes_in=(f"{final}.weight", 1),
    )


LAYOUTS: dict[str, Layout] = {
    "fasterrcnn_resnet50_fpn": _rcnn(
        _RCNN_NAMES,
        backbone={**_RESNET50, "frozen_norm": True, "norm_eps": 0.0, "frozen_maps": 1},
        anchor_sizes=_OCTAVES,
    ),
    "fasterrcnn_resnet50_fpn_v2": _rcnn(
        _RCNN_NAMES,
        backbone=_RESNET50,
        anchor_sizes=_OCTAVES,
        fpn_norm=True,
        rpn_depth=2,
        head_convs=4,
        head_layers=1,
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": _rcnn(_MOBILE_RCNN_NAMES, **_MOBILE_RCNN),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _rcnn(
        _MOBILE_RCNN_NAMES,
        **_MOBILE_RCNN,
        min_size=320,
        image_size=640,
        rpn_candidates=150,
        proposals=150,
    ),
    "ssd300_vgg16": _ssd300(),
    "ssdlite320_mobilenet_v3_large": _ssdlite320(),
    "resnet18": _classifier("resnet18", "layer4", "fc"),
    "resnet34": _classifier("resnet34", "layer4", "fc"),
    "resnet50": _classifier("resnet50", "layer4", "fc"),
    "mobilenet_v2": _classifier("mobilenet_v2", "features.18", "classifier.1", dropout=0.2),
    "mobilenet_v3_small": _classifier(
        "mobilenet_v3_small", "features.12", "classifier.3", head_width=1024, dropout=0.2
    ),
    "mobilenet_v3_large": _classifier(
        "mobilenet_v3_large", "features.16", "classifier.3", head_width=1280, dropout=0.2
    ),
}
