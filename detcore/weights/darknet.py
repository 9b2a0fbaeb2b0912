"""YOLO networks published as Darknet .cfg and .weights files, in PyTorch.

The layers follow Darknet (https://github.com/AlexeyAB/darknet, public domain): the body is the
cfg's; decoding, thresholds and NMS are detcore's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from detcore.parts.input_checks import Target, check_images
from detcore.parts.postprocess import Detections, Postprocess
from detcore.parts.preprocess import Preprocess, Size, StretchTo
from detcore.utils.user_files import check_regular

from .darknet_files import WeightsFile, read_cfg
from .darknet_layers import IMAGE, Builder, YOLOLayer


def load_darknet(
    cfg: str | Path,
    weights: str | Path,
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.45,
    candidates_per_class: int = 400,
    max_detections: int = 100,
) -> Darknet:
    """Read a Darknet network (YOLOv3, v3-tiny, v4, v4-tiny, Yolo-Fastest and the like).

    Args:
        cfg: sections net, convolutional, route, shortcut, maxpool, upsample, dropout, yolo.
        weights: a header and the float32 of its convolutions; every one is used.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`;
            0.45 is Darknet's own IoU.

    Returns:
        The network in evaluation mode, float32, on the CPU; see `Darknet`.

    Raises:
        ValueError: a file that is cut off, too long, of another network, or asks for what is not
            supported. The text names file, section, line, what was wanted and what came.
        OSError: a file that cannot be read.

    Nothing is unpickled or executed. Deterministic.
    """
    cfg, weights = Path(cfg), Path(weights)
    sections = read_cfg(cfg)
    check_regular(weights)
    with weights.open("rb") as stream:
        floats = WeightsFile(stream, weights)
        builder = Builder(sections[0], floats)
        for section in sections[1:]:
            builder.add(section)
        floats.finish(cfg)
    heads = [layer for layer in builder.layers if isinstance(layer, YOLOLayer)]
    if not heads:
        raise ValueError(f"{cfg}: at least one [yolo] section wanted, got none")
    post = Postprocess(score_threshold, iou_threshold, candidates_per_class, max_detections)
    return Darknet(builder.layers, builder.inputs, builder.shapes[IMAGE][1:], post).eval()


class Darknet(nn.Module):
    """A network of Darknet layers, for evaluation only; `load_darknet` makes it.

    Args:
        layers: one module per section of the .cfg.
        inputs: for each layer, the earlier layers that it reads; -1 is the image.
        size: (height, width) to which images are resized, pixels.
        postprocess: turns decoded boxes into detections.

    forward(images) takes a list of float [3, H, W], RGB in 0..1, of any sizes. Each is stretched to
    `size` (bilinear, without a border, as AlexeyAB's Darknet and OpenCV do). It returns a list of
    dicts with boxes [K, 4] (xyxy, pixels of the given image), scores [K], descending (objectness
    times class), and labels int64 [K] from 1: label i is the i-th name of the .names file. Raises
    ValueError for input that does not fit, and in training mode. `num_classes` includes the
    background, as for all detectors here.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        inputs: Sequence[Sequence[int]],
        size: Size,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.inputs = [tuple(i) for i in inputs]
        self.size = size
        self.heads = [i for i, layer in enumerate(layers) if isinstance(layer, YOLOLayer)]
        self.num_classes = 1 + max(h.classes for h in layers if isinstance(h, YOLOLayer))
        # Darknet's networks take plain 0..1: no mean, no deviation
        self.preprocess = Preprocess(
            StretchTo(*size), divisor=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
        )
        self.postprocess = postprocess
        self._released = _released(self.inputs)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> list[dict[str, Tensor]]:
        """Detections of images [C, H, W] in 0..1: a dict of boxes, scores, labels for each."""
        if self.training:
            raise ValueError("Darknet: evaluation mode wanted (call eval()), got training mode")
        check_images(images)
        if len(images) == 0:
            return []
        return self.detect(images).per_image()

    def detect(self, images: Sequence[Tensor]) -> Detections:
        """The detections of images, which may be one tensor [B, 3, H, W], in fixed shapes."""
        batch = self.preprocess(images)
        boxes, scores = self.decode(self.raw_maps(batch.images))
        return self.postprocess(boxes, scores, batch)

    def raw_maps(self, images: Tensor) -> list[Tensor]:
        """What the yolo layers are given, before any decoding, in the order of the cfg.

        images: [B, 3, height, width] of `size`, RGB in 0..1. Each map is [B, A * (5 + C), H, W]:
        x, y, w, h, objectness and C class logits of each of A anchors. Raises ValueError for
        another shape.
        """
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, *self.size):
            raise ValueError(
                f"Darknet: images must be [B, 3, {self.size[0]}, {self.size[1]}], "
                f"got {list(images.shape)}"
            )
        maps, kept = [], {IMAGE: images}
        for i, (layer, inputs) in enumerate(zip(self.layers, self.inputs, strict=True)):
            kept[i] = layer(*(kept[j] for j in inputs))
            if isinstance(layer, YOLOLayer):
                maps.append(kept[i])
            for j in self._released[i]:
                del kept[j]
        return maps

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] (xyxy, pixels of `size`) and scores [B, N, C] of `raw_maps`.

        N runs over maps, then cells by row and column, then anchors.
        """
        boxes, scores = [], []
        for i, m in zip(self.heads, maps, strict=True):
            box, score = self.layers[i].decode(m, self.size)  # type: ignore[operator]
            boxes.append(box)
            scores.append(score)
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)


def _released(inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    """After which layer each map is needed no more; a map that nobody reads, after its own."""
    last = {i: i for i in range(len(inputs))}
    for i, sources in enumerate(inputs):
        last.update(dict.fromkeys(sources, i))
    released = defaultdict(list)
    for source, i in last.items():
        released[i].append(source)
    return [released[i] for i in range(len(inputs))]
