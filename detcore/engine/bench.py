"""Every op against torchvision on this machine: the same tensors, interleaved, checked first.

The benchmarks of the repository run these cases too; the peers of a case are all its `rivals`, and
the first of them is the one that ratios are taken to: torchvision, where it has the op.
"""

import json as json_module
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import detcore
from detcore import ops, reference

Check = Callable[[Any, Any], bool]


@dataclass
class Case:
    """One op on one input: ours, its rivals by name, and what makes their results equal."""

    op: str
    work: str
    ours: Callable[[], Any]
    rivals: dict[str, Callable[[], Any]]
    check: Check
    limit: Callable[[], Any] | None = None  # the same bytes written by torch, and nothing else
    quick: bool = True

    def __str__(self) -> str:
        return self.work

    def verify(self) -> None:
        """Raises AssertionError if a rival's result differs from ours."""
        ours = self.ours()
        for name, rival in self.rivals.items():
            if not self.check(ours, rival()):
                raise AssertionError(f"{self}: result differs from {name}'s")


@dataclass
class Measurement:
    """Medians and spreads (interquartile range over median) of interleaved runs."""

    seconds: dict[str, float]
    spread: dict[str, float] = field(default_factory=dict)

    def ratio(self, rival: str) -> float:
        """How many times faster ours is."""
        return self.seconds[rival] / self.seconds["detcore"]


def interleave(
    functions: dict[str, Callable[[], Any]], budget: float = 1.0, rounds: int = 5
) -> Measurement:
    """Times functions in turn, round by round, so that noise falls on all alike.

    budget: seconds in all, beyond which no round begins once `rounds` are done. Calls under 50 us
    are timed many at a time.
    """
    repeats = {}
    for name, function in functions.items():
        function()  # warm-up
        start = time.perf_counter()
        function()
        repeats[name] = max(1, min(200, int(50e-6 / max(time.perf_counter() - start, 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    while True:
        for name, function in functions.items():
            n = repeats[name]
            begin = time.perf_counter()
            for _ in range(n):
                function()
            times[name].append((time.perf_counter() - begin) / n)
        done = len(next(iter(times.values())))
        if (done >= rounds and time.perf_counter() - start > budget) or done >= 1000:
            break
    medians = {name: statistics.median(t) for name, t in times.items()}
    spread = {}
    for name, t in times.items():
        low, _, high = statistics.quantiles(t, n=4)
        spread[name] = (high - low) / medians[name]
    return Measurement(medians, spread)


def cases(op: str | None = None) -> Iterator[Case]:
    """All cases, or those of one op; inputs are made when a case is reached."""
    for name, make in _CASES:
        if op in (None, name):
            yield from make()


def boxes_like(n: int, extent: float = 1000, side: float = 100, seed: int = 0) -> Tensor:
    """[n, 4] xyxy: corners uniform in extent^2, sides uniform in 1 to side + 1 pixels."""
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=g) * extent
    return torch.cat((low, low + torch.rand(n, 2, generator=g) * side + 1), dim=1)


def _scores(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(1))


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours, theirs)


def _close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def _nms() -> Iterator[Case]:
    tv = torchvision.ops
    inputs: list[tuple[str, Tensor]] = [
        (f"nms {n:,} boxes", boxes_like(n, side=40 if n == 20_000 else 100))
        for n in (10, 100, 1000, 10_000, 20_000)
    ]
    g = torch.Generator().manual_seed(2)
    centres = boxes_like(100)[torch.randint(0, 100, (10_000,), generator=g)]
    inputs.append(("nms 10,000 in 100 clusters", centres + torch.randn(10_000, 4, generator=g)))
    inputs.append(
        ("nms 10,000 all overlapping", boxes_like(10_000, 10, 10) + torch.tensor([0, 0, 500, 500]))
    )
    for work, boxes in inputs:
        scores = _scores(len(boxes))
        yield Case(
            "nms",
            work,
            partial(ops.nms, boxes, scores, 0.5),
            {"torchvision": partial(tv.nms, boxes, scores, 0.5)},
            _same,
            quick="20,000" not in work,
        )


def _batched_nms() -> Iterator[Case]:
    boxes, scores = boxes_like(10_000), _scores(10_000)
    ids = torch.randint(0, 80, (10_000,), generator=torch.Generator().manual_seed(3))

    def same(ours: Tensor, theirs: Tensor) -> bool:
        # torchvision's last sort is not stable: equal scores may come in either order
        return set(ours.tolist()) == set(theirs.tolist()) and _same(scores[ours], scores[theirs])

    yield Case(
        "batched_nms",
        "batched_nms 10,000 boxes, 80 classes",
        partial(ops.batched_nms, boxes, scores, ids, 0.5),
        {"torchvision": partial(torchvision.ops.batched_nms, boxes, scores, ids, 0.5)},
        same,
    )


def _soft_nms() -> Iterator[Case]:
    def same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> bool:
        return _same(ours[0], theirs[0]) and _close(ours[1], theirs[1])

    for n in (100, 1000, 5000):
        boxes, scores = boxes_like(n), _scores(n)
        for method in ("linear", "gaussian"):
            yield Case(
                "soft_nms",
                f"soft_nms {n:,} boxes, {method}",
                partial(ops.soft_nms, boxes, scores, method=method),
                # torchvision has none
                {"plain PyTorch": partial(reference.soft_nms, boxes, scores, method=method)},
                same,
                quick=n <= 1000,
            )


def _box_iou() -> Iterator[Case]:
    tv = torchvision.ops
    a, b = boxes_like(2048), boxes_like(2048, seed=4)
    fill = partial(torch.full, (2048, 2048), 1.0)
    for name, theirs in (
        ("box_iou", tv.box_iou),
        ("generalized_box_iou", tv.generalized_box_iou),
        ("distance_box_iou", tv.distance_box_iou),
        ("complete_box_iou", tv.complete_box_iou),
    ):
        ours = getattr(ops, name)
        yield Case(
            "box_iou",
            f"{name} 2,048 x 2,048",
            partial(ours, a, b),
            {"torchvision": partial(theirs, a, b)},
            _close,
            fill,
        )
    out = torch.empty(2048, 2048)
    yield Case(
        "box_iou",
        "box_iou 2,048 x 2,048, out=",
        partial(ops.box_iou, a, b, out=out),
        {"torchvision": partial(tv.box_iou, a, b)},
        _close,
        partial(out.fill_, 1.0),
    )
    few, many = boxes_like(100), boxes_like(100_000)
    yield Case(
        "box_iou",
        "box_iou 100 x 100,000",
        partial(ops.box_iou, few, many),
        {"torchvision": partial(tv.box_iou, few, many)},
        _close,
        partial(torch.full, (100, 100_000), 1.0),
        quick=False,
    )


def _match() -> Iterator[Case]:
    def theirs(gt: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
        iou = torchvision.ops.box_iou(gt, anchors)
        of_anchor, of_gt = iou.max(dim=0), iou.max(dim=1)
        return of_anchor.indices, of_anchor.values, of_gt.indices, of_gt.values

    def same(ours: ops.BoxMatches, theirs: tuple[Tensor, ...]) -> bool:
        return all(_same(a, b) for a, b in zip(ours[:4], theirs, strict=True))

    # an RPN's on 800 x 1,088 pixels: three shapes a cell, five levels
    levels = []
    for stride in (4, 8, 16, 32, 64):
        y, x = torch.meshgrid(
            torch.arange(0.0, 800, stride), torch.arange(0.0, 1088, stride), indexing="ij"
        )
        sides = 8 * stride * torch.tensor([[0.7, 1.4], [1.0, 1.0], [1.4, 0.7]])
        half = torch.cat((-sides, sides), dim=1) / 2
        levels.append((torch.stack((x, y, x, y), dim=-1)[:, :, None] + half).reshape(-1, 4))
    for work, gt, anchors, quick in (
        ("match_boxes 100 x 200,000", boxes_like(100), boxes_like(200_000, seed=9), False),
        ("match_boxes 100 x an RPN's grid", boxes_like(100, 800, 200), torch.cat(levels), False),
        ("match_boxes 10 x 8,732", boxes_like(10), boxes_like(8_732, seed=9), True),
    ):
        yield Case(
            "match_boxes",
            work,
            partial(ops.match_boxes, gt, anchors),
            {"torchvision": partial(theirs, gt, anchors)},
            same,
            quick=quick,
        )


def _paired() -> Iterator[Case]:
    tv = torchvision.ops
    a, b = boxes_like(50_000).requires_grad_(), boxes_like(50_000, seed=5)

    def step(loss: Callable[..., Tensor]) -> Tensor:
        return torch.autograd.grad(loss(a, b, reduction="sum"), a)[0]

    for name, ours, theirs in (
        ("giou", ops.generalized_box_iou_loss, tv.generalized_box_iou_loss),
        ("ciou", ops.complete_box_iou_loss, tv.complete_box_iou_loss),
    ):
        yield Case(
            "paired_box_iou",
            f"{name} loss and gradient, 50,000 pairs",
            partial(step, ours),
            {"torchvision": partial(step, theirs)},
            _close,
        )


def _codec() -> Iterator[Case]:
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes, anchors = boxes_like(200_000), boxes_like(200_000, seed=6)
    deltas = ops.encode_boxes(boxes, anchors)
    yield Case(
        "box_codec",
        "decode_boxes 200,000",
        partial(ops.decode_boxes, deltas, anchors),
        {"torchvision": lambda: coder.decode_single(deltas, anchors)},
        lambda x, y: torch.allclose(x, y, rtol=1e-4, atol=1e-2),
        lambda: deltas + anchors,
    )
    yield Case(
        "box_codec",
        "encode_boxes 200,000",
        partial(ops.encode_boxes, boxes, anchors),
        {"torchvision": lambda: coder.encode_single(boxes, anchors)},
        _close,
        lambda: boxes + anchors,
    )


def _dense() -> Iterator[Case]:
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    generator = AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),))
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    maps = torch.randn(2, 36, 50, 68, generator=torch.Generator().manual_seed(7))
    images = ImageList(torch.zeros(2, 3, 800, 1088), [(800, 1088)] * 2)

    def theirs() -> Tensor:
        anchors = generator(images, [maps])
        flat = maps.view(2, 9, 4, 50, 68).permute(0, 3, 4, 1, 2).reshape(2, -1, 4)
        return torch.stack([coder.decode_single(f, a) for f, a in zip(flat, anchors, strict=True)])

    yield Case(
        "decode_dense",
        "decode_dense an RPN's 2 x 9 x 50 x 68",
        lambda: ops.decode_dense(maps, generator.cell_anchors[0], 16)[0],
        {"torchvision": theirs},
        lambda x, y: torch.allclose(x, y, rtol=1e-4, atol=1e-2),
    )


def _roi_align() -> Iterator[Case]:
    tv = torchvision.ops
    g = torch.Generator().manual_seed(8)
    input = torch.randn(2, 256, 100, 136, generator=g)
    image = torch.randint(0, 2, (300, 1), generator=g).float()
    rois = torch.cat((image, boxes_like(300, 700, 300)), dim=1)
    arguments = (rois, 7, 0.125, 2)
    for layout, name in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "channels-last")):
        x = input.to(memory_format=layout)
        yield Case(
            "roi_align",
            f"roi_align 300 x 256 channels, {name}",
            partial(ops.roi_align, x, *arguments),
            {"torchvision": partial(tv.roi_align, x, *arguments)},
            _close,
        )
    leaf = input.clone().requires_grad_()
    grad = torch.randn(300, 256, 7, 7, generator=g)
    pooled = {"ours": ops.roi_align(leaf, *arguments), "theirs": tv.roi_align(leaf, *arguments)}

    def backward(who: str) -> Tensor:
        return torch.autograd.grad(pooled[who], leaf, grad, retain_graph=True)[0]

    yield Case(
        "roi_align",
        "roi_align backward, NCHW",
        partial(backward, "ours"),
        {"torchvision": partial(backward, "theirs")},
        _close,
        quick=False,
    )


def _multiscale() -> Iterator[Case]:
    g = torch.Generator().manual_seed(9)
    features = [torch.randn(2, 256, 200 >> i, 272 >> i, generator=g) for i in range(4)]
    named = {str(i): f for i, f in enumerate(features)}
    # sides log-uniform in 16 to 512 pixels, so that every level has its share
    low = torch.rand(1000, 2, generator=g) * torch.tensor([800.0, 600.0])
    side = 16 * 32 ** torch.rand(1000, 2, generator=g)
    boxes = list(torch.cat((low, low + side), dim=1).split(500))
    pooler = torchvision.ops.MultiScaleRoIAlign(list(named), 7, 2)
    yield Case(
        "multiscale_roi_align",
        "multiscale_roi_align 1,000 x 256 channels, 4 levels",
        partial(ops.multiscale_roi_align, features, boxes, 7, [2.0**-k for k in range(2, 6)], 2),
        {"torchvision": partial(pooler, named, boxes, [(800, 1088)] * 2)},
        _close,
        quick=False,
    )


def _small() -> Iterator[Case]:
    boxes = boxes_like(10)
    yield Case(
        "box_iou",
        "box_iou, a call on 10 boxes",
        partial(ops.box_iou, boxes, boxes),
        {"torchvision": partial(torchvision.ops.box_iou, boxes, boxes)},
        _close,
    )


_CASES = (
    ("nms", _nms),
    ("batched_nms", _batched_nms),
    ("soft_nms", _soft_nms),
    ("box_iou", _box_iou),
    ("box_iou", _small),
    ("match_boxes", _match),
    ("paired_box_iou", _paired),
    ("box_codec", _codec),
    ("decode_dense", _dense),
    ("roi_align", _roi_align),
    ("multiscale_roi_align", _multiscale),
)


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows of `measure` as one table; limit: the share of what torch needs to write as much.

    The peer is torchvision where none is named.
    """
    table = Table(title=_machine(), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("op and input")
    for column in ("detcore ms", "peer ms", "times", "limit"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        share = row.get("of_limit")
        peer = row["peer"]
        table.add_row(
            row["work"] if peer == "torchvision" else f"{row['work']} (peer: {peer})",
            f"{row['detcore_ms']:.3g}",
            f"{row[f'{peer}_ms']:.3g}",
            f"{row['ratio']:.1f}",
            f"{100 * share:.0f}%" if share else "",
        )
    return table


def measure(case: Case, budget: float = 1.0) -> dict[str, Any]:
    """One case's figures, after its results were found equal. Times in milliseconds."""
    case.verify()
    result = interleave({"detcore": case.ours, **case.rivals}, budget)
    row: dict[str, Any] = {"op": case.op, "work": case.work}
    for name, seconds in result.seconds.items():
        row[f"{name}_ms"] = seconds * 1e3
        row[f"{name}_spread"] = result.spread[name]
    row["peer"] = next(iter(case.rivals))
    row["ratio"] = result.ratio(row["peer"])
    if case.limit:
        # alone with ours: a rival's temporaries would decide whose output meets fresh pages
        pair = interleave({"detcore": case.ours, "limit": case.limit}, budget / 4)
        row["of_limit"] = pair.ratio("limit")
    return row


def _machine() -> str:
    info = detcore.build_info()
    versions = f"torch {info['torch']}, torchvision {torchvision.__version__}"
    return f"{info['isa']}, {info['threads']} threads, {versions}"


def main(quick: bool = False, json: Path | None = None) -> None:
    """Prints the table, under a minute if quick, and writes it as JSON if asked to."""
    console = Console()
    chosen = [case for case in cases() if case.quick or not quick]
    console.print(
        f"Each op on the same tensors as its peer (torchvision where none is named), results "
        f"compared first, runs interleaved: {len(chosen)} cases."
    )
    rows = [
        measure(case, 0.3 if quick else 1.5)
        for case in track(chosen, description="measuring", console=console, transient=True)
    ]
    console.print(table_of(rows))
    if json:
        json.write_text(
            json_module.dumps({"machine": detcore.build_info(), "rows": rows}, indent=1)
        )
        console.print(f"figures in {json}")
