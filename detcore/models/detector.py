"""What all detectors do alike: check, preprocess, run the backbone; losses or detections."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detcore.parts.input_checks import Target, check_box_targets, check_classes, check_images
from detcore.parts.postprocess import Detections, Postprocess
from detcore.parts.preprocess import ImageBatch, Preprocess


class Detector(nn.Module, ABC):
    """The base of all detectors: torchvision's contract, and the order of work behind it.

    A subclass sets `backbone`, `preprocess` and `postprocess`, and computes losses and detections
    from the backbone's maps. So two models that share a backbone can share one pass over it. One
    that is `oriented` has boxes of five numbers: centre, width and height in pixels, degrees.
    """

    backbone: Any
    preprocess: Preprocess
    postprocess: Postprocess
    oriented = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        check_classes(num_classes)
        self.num_classes = num_classes

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation.

        Args:
            images: a list of float [C, H, W] in 0..1, RGB, of any sizes.
            targets: in training, a list of dicts with boxes float [n, 4] (xyxy, pixels), of an
                oriented detector [n, 5] (cxcywhr), and labels int64 [n], from 1.

        Returns:
            A dict of losses in training. In evaluation a list of dicts with boxes [K, 4] or [K, 5]
            in the given image's pixels, scores [K], descending, and labels int64 [K].

        Raises:
            ValueError: for images or targets that do not fit.
        """
        check_images(images, self.preprocess.channels)
        if not self.training:
            return self.detect(images).per_image() if len(images) else []
        check_box_targets(images, targets, self.num_classes, oriented=self.oriented)
        assert targets is not None
        batch = self.preprocess(images)
        return self.losses(self.backbone(batch.images), batch, targets)

    def detect(self, images: Sequence[Tensor]) -> Detections:
        """Detections in fixed shapes, of a list of images or one tensor [B, C, H, W] in 0..1.

        For evaluation. Under torch.compile and torch.export the whole of it is one graph: no
        shape depends on what is found.
        """
        batch = self.preprocess(images)
        return self.detections(self.backbone(batch.images), batch)

    @abstractmethod
    def losses(
        self, maps: list[Tensor], batch: ImageBatch, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Losses of the backbone's maps [B, C_i, H_i, W_i] of a batch."""

    @abstractmethod
    def detections(self, maps: list[Tensor], batch: ImageBatch) -> Detections:
        """Detections of the backbone's maps [B, C_i, H_i, W_i] of a batch."""


class FixedShape(nn.Module):
    """A detector in evaluation as a function of one tensor: for torch.compile and torch.export.

    forward(images): float [B, C, H, W] in 0..1 gives boxes [B, K, 4] (xyxy, pixels of the images)
    or [B, K, 5] of an oriented detector,
    scores [B, K], labels int64 [B, K] and counts int64 [B]: what `Detections` is made of.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector: Any = detector.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes [B, K, 4 or 5], scores [B, K], labels [B, K], counts [B] of images [B, C, H, W]."""
        # a plain tuple: a saved graph knows no classes of ours
        boxes, scores, labels, counts = self.detector.detect(images)
        return boxes, scores, labels, counts
