"""An image classifier on the detectors' backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from detcore.parts.backbones import DEFAULT_BACKBONE, as_backbone, in_channels
from detcore.parts.heads import ClassifierHead
from detcore.parts.input_checks import Target, check_class_targets, check_images
from detcore.parts.losses import classification_loss
from detcore.parts.preprocess import Preprocess, ShorterTo, StretchTo

from .config import keeps_config


@keeps_config("classifier")
class Classifier(nn.Module):
    """A backbone's coarsest map, pooled and classified.

    Args:
        num_classes: number of classes C, labels 0..C - 1. There is no background class.
        multilabel: any number of classes per image instead of exactly one.
        backbone: a name, a mapping of arguments, or a module to share: see `as_backbone`.
        image_size: images are brought to image_size x image_size pixels inside the model.
        resize: resize the shorter side to this first, antialiased, and cut the square out of the
            middle, as ImageNet's networks are evaluated. None: images are stretched.
        head_width: not None: a hidden layer of this width before the classes, as in MobileNetV3.
        dropout, smoothing: of the pooled features; of the labels (not with multilabel).
        top_k: without multilabel, how many of the best classes are named, 1..C.
        score_threshold: with multilabel, the score in 0..1 above which a class is named: one number
            for all classes, or C of them in class order.
        mean, std: of the images' channels; None: ImageNet's.
        pretrained: load published weights into a backbone given by name or mapping.

    forward(images, targets): images: list of float [C, H, W] in 0..1; targets, in training: list of
    dicts with label (int64 scalar), or with multilabel labels [C] of 0 and 1. Gives in training a
    dict of loss_class; in evaluation a list of dicts with scores [C] in class order (softmax, or
    sigmoids) and labels int64: [top_k], the best classes in descending order, equal scores by
    ascending class; or with multilabel [n], 0 to C of them, the classes above their thresholds in
    class order. Raises ValueError for what does not fit. `top_k` and `score_threshold` are read at
    every call: they may be set on a trained model.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        multilabel: bool = False,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 128,
        resize: int | None = None,
        head_width: int | None = None,
        dropout: float = 0.0,
        smoothing: float = 0.0,
        top_k: int = 1,
        score_threshold: float | Sequence[float] = 0.5,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.multilabel = multilabel
        self.smoothing = smoothing
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.image_size = image_size
        self.backbone = as_backbone(backbone, (32,), pretrained=pretrained)
        self.head = ClassifierHead(
            self.backbone.channels[-1], num_classes, width=head_width, dropout=dropout
        )
        square = (image_size, image_size)
        self.preprocess = Preprocess(
            StretchTo(*square) if resize is None else ShorterTo(resize),
            crop=None if resize is None else square,
            antialias=resize is not None,
            divisor=32 if resize is None else 1,
            channels=in_channels(self.backbone),
            mean=mean,
            std=std,
        )

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, scores and labels in evaluation: see the class."""
        check_images(images, self.preprocess.channels)
        if self.training:
            check_class_targets(images, targets, self.num_classes, multilabel=self.multilabel)
        elif len(images) == 0:
            return []
        maps = self.backbone(self.preprocess(images).images)
        if not self.training:
            return self.classify(maps)
        assert targets is not None
        return self.losses(maps, targets)

    def losses(self, maps: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The loss of the backbone's maps [B, C_i, H_i, W_i] of a batch, of which the last counts.

        Raises ValueError for targets that do not fit.
        """
        rows = list(maps[-1])
        wanted = check_class_targets(rows, targets, self.num_classes, multilabel=self.multilabel)
        logits = self.head(maps[-1])
        return {"loss_class": classification_loss(logits, wanted.to(logits.device), self.smoothing)}

    def classify(self, maps: list[Tensor]) -> list[dict[str, Tensor]]:
        """Scores and labels of the backbone's maps of a batch, of which the last counts."""
        logits = self.head(maps[-1]).float()
        scores = logits.sigmoid() if self.multilabel else logits.softmax(dim=1)
        return [{"scores": row, "labels": self._labels(row)} for row in scores]

    @property
    def top_k(self) -> int:
        """How many of the best classes are named; may be set. 1 for a multi-label model."""
        return self._top_k

    @top_k.setter
    def top_k(self, count: int) -> None:
        if self.multilabel and count != 1:
            raise ValueError(
                f"Classifier: with multilabel score_threshold names classes; top_k must be 1, "
                f"got {count}"
            )
        if not 1 <= count <= self.num_classes:
            raise ValueError(f"Classifier: top_k must be in 1..{self.num_classes}, got {count}")
        self._top_k = count

    @property
    def score_threshold(self) -> float | Sequence[float]:
        """The score above which a multi-label model names a class; may be set."""
        return self._score_threshold

    @score_threshold.setter
    def score_threshold(self, threshold: float | Sequence[float]) -> None:
        each = threshold if isinstance(threshold, Sequence) else [threshold] * self.num_classes
        if len(each) != self.num_classes:
            raise ValueError(
                f"Classifier: score_threshold must be one number or one of each of "
                f"{self.num_classes} classes, got {len(each)}"
            )
        for i, value in enumerate(each):
            if not 0 <= value <= 1:
                which = f"[{i}]" if isinstance(threshold, Sequence) else ""
                raise ValueError(f"Classifier: score_threshold{which} must be in 0..1, got {value}")
        self._score_threshold = threshold

    def _labels(self, scores: Tensor) -> Tensor:
        if self.multilabel:
            return (scores > scores.new_tensor(self.score_threshold)).nonzero()[:, 0]
        # not topk, which leaves the order of equal scores open
        return scores.argsort(descending=True, stable=True)[: self.top_k]
