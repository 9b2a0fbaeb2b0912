"""Records a trained YOLO's input to NMS: decoded boxes and scores of held-out digit pictures.

The recording is in the repository, so that benchmarks need no training. To make it again:

    detcore train --model yolo --data digits --minutes 2 --out runs/digits
    python -m benchmarks.record_digits runs/digits
"""

import sys
from pathlib import Path

import numpy as np
import torch

from detcore.bench.inputs import DIGITS
from detcore.checkpoints.checkpoint import load
from detcore.data.readers.digits import Digits
from detcore.inference.predictor import as_float
from detcore.models.yolo import YOLO

IMAGES = 32
SCORE = 0.001  # the threshold used for mAP


@torch.no_grad()
def record(checkpoint: Path, out: Path) -> None:
    """Write box float32 [n, 4] (xyxy, pixels), score float32 [n], label and image uint8 [n]."""
    model, _ = load(checkpoint)
    assert isinstance(model, YOLO)
    model.eval()
    data = Digits("val", length=IMAGES)
    batch = model.preprocess(as_float((data.image(i) for i in range(IMAGES)), "cpu"))
    maps = model.head(model.neck(model.backbone(batch.images)))
    boxes, scores = model._decode(list(maps))
    image, row, label = torch.where(scores > SCORE)
    np.savez_compressed(
        out,
        box=boxes[image, row].numpy(),
        score=scores[image, row, label].numpy(),
        label=label.to(torch.uint8).numpy(),
        image=image.to(torch.uint8).numpy(),
    )
    print(f"{len(label):,} candidates of {IMAGES} pictures in {out}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    record(Path(sys.argv[1]), DIGITS)
