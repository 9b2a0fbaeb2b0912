"""A detector and a classifier that read one backbone, which runs once."""

from collections.abc import Sequence

from torch import Tensor, nn

from detcore.parts.input_checks import Target, check_box_targets, check_images

from .classifier import Classifier
from .detector import Detector


class MultiTask(nn.Module):
    """A detector and a classifier that share one pass over one backbone.

    Args:
        detector: any detector.
        classifier: a classifier whose `backbone` is the same instance as the detector's. It reads
            the last map of the detector's batch, at the detector's image size.

    forward(images, targets) works as the detector's. In training the targets also hold what the
    classifier learns from (label, or image_labels with multilabel), and its loss is
    loss_image_class. In evaluation each image's dict also has image_scores [C] and image_labels.
    Raises ValueError for input that does not fit.
    """

    def __init__(self, detector: Detector, classifier: Classifier) -> None:
        super().__init__()
        if detector.backbone is not classifier.backbone:
            raise ValueError("MultiTask: detector and classifier must have one backbone, got two")
        self.detector = detector
        self.classifier = classifier

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses of both members in training, detections with image labels in evaluation."""
        check_images(images, self.detector.preprocess.channels)
        if self.training:
            check_box_targets(
                images, targets, self.detector.num_classes, oriented=self.detector.oriented
            )
        elif len(images) == 0:
            return []
        batch = self.detector.preprocess(images)
        maps = self.detector.backbone(batch.images)
        if self.training:
            assert targets is not None
            kinds = [_of_image(t) for t in targets]
            image_loss = self.classifier.losses(maps, kinds)["loss_class"]
            return self.detector.losses(maps, batch, targets) | {"loss_image_class": image_loss}
        found = self.detector.detections(maps, batch).per_image()
        named = [
            {f"image_{k}": v for k, v in kind.items()} for kind in self.classifier.classify(maps)
        ]
        return [one | kind for one, kind in zip(found, named, strict=True)]


def _of_image(target: Target) -> Target:
    """The classifier's part of a target: a detector's labels are not its own."""
    if "image_labels" in target:
        return {"labels": target["image_labels"]}
    return {k: v for k, v in target.items() if k == "label"}
