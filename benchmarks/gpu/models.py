"""Whole detectors on the GPU: inference and a training step; two compared with torchvision's."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import detcore
from benchmarks.gpu.rows import Row, Rows, in_a_line
from benchmarks.models.networks import sample_photos, torchvision_detector
from benchmarks.models.stages import photo
from detcore.models import create
from detcore.ops import box_iou
from detcore.weights import load_torchvision

SECONDS = 0.4  # per model and variant
CLASSES = 91
BACKGROUND = 6.0  # added to its logits; random weights then find some tens of objects
FOUND_AGAIN = 0.95  # share of torchvision's boxes; those near a threshold may differ
# ours, and torchvision's with the same weights; the dry run has lighter ones
NETWORKS = {"faster_rcnn": "fasterrcnn_resnet50_fpn", "ssd": "ssd300_vgg16"}
DRY_NETWORKS = {
    "faster_rcnn": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssd": "ssdlite320_mobilenet_v3_large",
}


@dataclass
class Variant:
    """How a model runs: `dtype` by autocast, channels-last maps or not, optimized or not."""

    name: str
    training: bool = False
    dtype: torch.dtype | None = None
    channels_last: bool = False
    optimized: torch.dtype | None = None


BF16 = torch.bfloat16
VARIANTS = (
    Variant("inference fp32"),
    Variant("training fp32", training=True),
    Variant("inference bf16", dtype=BF16),
    Variant("training bf16", training=True, dtype=BF16),
    Variant("inference optimized bf16", optimized=BF16),
    Variant("inference optimized fp32", optimized=torch.float32),
    Variant("inference channels-last", channels_last=True),
    Variant("training channels-last", training=True, channels_last=True),
    Variant("training bf16 channels-last", training=True, dtype=BF16, channels_last=True),
)


@dataclass
class Bench:
    """The models by network and library, and their inputs."""

    device: str
    models: dict[str, dict[str, nn.Module]]
    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    seconds: float


def main(rows: Rows, dry: bool) -> None:
    device = "cpu" if dry else "cuda"
    images = [photo().to(device)] * (2 if dry else 4)
    bench = Bench(device, {}, images, [_target(device) for _ in images], 0.0 if dry else SECONDS)
    rows.fact(images=len(images), pixels=list(images[0].shape[1:]))
    rows.each(items(bench, DRY_NETWORKS if dry else NETWORKS))


def items(bench: Bench, networks: dict[str, str]) -> Iterator[tuple[str, Callable[[], Row]]]:
    """First check that all models find the same objects, then measure variant by variant."""
    for name in (*networks, "yolo"):
        yield f"{name} same results", partial(_built, bench, name, networks.get(name))
    for variant in VARIANTS:
        for name in (*networks, "yolo"):
            yield f"{name} {variant.name}", partial(_measured, bench, networks, name, variant)


def _built(bench: Bench, name: str, theirs: str | None) -> Row:
    """Make a network's models and compare their detections, in float32 without TF32."""
    models = _models(name, theirs)
    bench.models[name] = {who: model.to(bench.device) for who, model in models.items()}
    if theirs is None:
        return {"network": "yolo"}
    with _exact(), torch.inference_mode():
        want = bench.models[name]["torchvision"].eval()(bench.images[:1])[0]
        got = bench.models[name]["detcore"].eval()(bench.images[:1])[0]
    found = {"network": theirs, "torchvision_finds": len(want["boxes"]), "finds": len(got["boxes"])}
    if not len(want["boxes"]) or not len(got["boxes"]):
        return found | {"ok": False, "error": f"nothing is found: {found}"}
    iou = box_iou(want["boxes"], got["boxes"])
    iou = iou.masked_fill(want["labels"][:, None] != got["labels"][None], 0)
    share = float((iou.max(dim=1).values > 0.99).float().mean())
    found["found_again"] = round(share, 4)
    if share < FOUND_AGAIN:
        return found | {"ok": False, "error": f"of torchvision's boxes {share:.1%} are found again"}
    return found


def _models(name: str, theirs: str | None) -> dict[str, nn.Module]:
    if theirs is None:
        torch.manual_seed(0)
        return {"detcore": create(name, CLASSES)}
    model = torchvision_detector(theirs, sample_photos(), background=BACKGROUND)
    return {"detcore": load_torchvision(theirs, model.state_dict()), "torchvision": model}


@contextmanager
def _exact() -> Iterator[None]:
    """Use full float32 for convolutions; cuDNN would use TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _measured(bench: Bench, networks: dict[str, str], name: str, variant: Variant) -> Row:
    if name not in bench.models:  # if an earlier process built and compared them
        bench.models[name] = {
            who: model.to(bench.device) for who, model in _models(name, networks.get(name)).items()
        }
    row: Row = {"images": len(bench.images)}
    for who, model in bench.models[name].items():
        try:
            ms, mib = _timed(bench, model, variant, optimize=who == "detcore")
        except Exception as error:
            if who == "detcore":
                raise
            row["torchvision_error"] = in_a_line(error)
            continue
        row |= {f"{who}_ms": round(ms, 3), f"{who}_mib": mib}
    if "torchvision_ms" in row:
        row["times"] = round(row["torchvision_ms"] / row["detcore_ms"], 3)
    return row


def _timed(bench: Bench, model: nn.Module, variant: Variant, optimize: bool) -> tuple[float, int]:
    """Median milliseconds of a call (in training: of a whole step), and peak memory in MiB."""
    own = copy.deepcopy(model)
    if variant.optimized and optimize:
        own = detcore.optimize(own, dtype=variant.optimized)
    if variant.channels_last:
        own = own.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = _step(bench, own) if variant.training else _inference(bench, own)
    # torchvision's can't be optimized, so it gets bfloat16 by autocast
    dtype = variant.dtype or (None if optimize else variant.optimized)
    if bench.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    with torch.autocast(bench.device, dtype or BF16, enabled=dtype in (BF16, torch.float16)):
        seconds = _medians(run, bench)
    mib = torch.cuda.max_memory_allocated() >> 20 if bench.device != "cpu" else 0
    return 1e3 * seconds, mib


def _inference(bench: Bench, model: nn.Module) -> Callable[[], Any]:
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(bench.images)

    return run


def _step(bench: Bench, model: nn.Module) -> Callable[[], Any]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def run() -> None:
        targets = [dict(target) for target in bench.targets]
        loss = sum(model(bench.images, targets).values())
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def _medians(run: Callable[[], Any], bench: Bench) -> float:
    wait = torch.cuda.synchronize if bench.device != "cpu" else lambda: None
    times: list[float] = []
    if bench.device != "cpu":
        run(), run()  # cuDNN selects algorithms, and the allocator grows
    end = time.perf_counter() + bench.seconds
    least = 1 if bench.device == "cpu" else 3
    while len(times) < least or time.perf_counter() < end:
        wait()
        begin = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _target(device: str) -> dict[str, Tensor]:
    """Twelve boxes of several sizes and classes."""
    g = torch.Generator().manual_seed(0)
    low = torch.rand(12, 2, generator=g) * torch.tensor([400.0, 300.0])
    side = 20 * 8 ** torch.rand(12, 2, generator=g)
    labels = torch.randint(1, CLASSES, (12,), generator=g)
    return {"boxes": torch.cat((low, low + side), 1).to(device), "labels": labels.to(device)}
