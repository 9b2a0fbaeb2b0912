"""Measures the wall time of each stage of a detector, torchvision's and ours.

python -m benchmarks.models.stages [NAME ...]   prints a table per model, by default for three
models
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import detcore
from benchmarks.models.networks import sample_photos, torchvision_detector
from detcore.models import faster_rcnn
from detcore.weights import PUBLISHED, load_torchvision

DEFAULT = ("ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "fasterrcnn_resnet50_fpn")
STAGES = ("pre", "backbone", "neck", "heads", "roi_align", "post")
Runs = list[dict[str, float]]

# a trained network is sure of the background. With this value about one in a hundred scores of
# SSDLite passes the threshold, and Faster R-CNN finds some tens of objects.
BACKGROUND = 12.0


def photo(height: int = 480, width: int = 640) -> Tensor:
    """One photo: float [3, height, width] in 0..1."""
    return F.interpolate(sample_photos()[0][None], (height, width), mode="bilinear")[0]


def contenders(name: str, background: float = BACKGROUND) -> dict[str, nn.Module]:
    """torchvision's model, and with the same weights ours: plain, optimized, and in bfloat16."""
    theirs = torchvision_detector(name, sample_photos(), background=background)
    ours = load_torchvision(name, theirs.state_dict())
    models = {"torchvision": theirs, "detcore": ours, "optimized": detcore.optimize(ours)}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        models["optimized, bf16"] = detcore.optimize(ours, dtype=torch.bfloat16)
    return models


def measure(models: dict[str, nn.Module], images: list[Tensor], rounds: int) -> dict[str, Runs]:
    """Run the models interleaved; return the seconds by stage, and in total, of each run."""
    runs: dict[str, Runs] = {name: [] for name in models}
    with torch.inference_mode():
        for i in range(rounds + 1):
            for name, model in models.items():
                took = _timed(model, images)
                if i:  # the first round is a warm-up
                    runs[name].append(took)
    return runs


def medians(runs: Runs) -> dict[str, float]:
    """Milliseconds by stage, and in total."""
    return {key: 1e3 * statistics.median(run[key] for run in runs) for key in runs[0]}


def _timed(model: nn.Module, images: list[Tensor]) -> dict[str, float]:
    seconds = dict.fromkeys(STAGES, 0.0)
    with ExitStack() as stack:
        for stage, module in _stages_of(model):
            stack.enter_context(_clocked(module, stage, seconds))
        stack.enter_context(_clocked_pooling(seconds))
        begin = time.perf_counter()
        model(images)
        whole = time.perf_counter() - begin
    # everything outside modules: decoding, selection, suppression, scaling back
    seconds["post"] = whole - sum(seconds.values())
    return seconds | {"whole": whole}


_OURS = {
    "pre": ("preprocess",),
    "backbone": ("backbone",),
    "neck": ("top", "neck"),
    "heads": ("head", "rpn_head", "box_head"),
}
_THEIRS = {
    "pre": ("transform",),
    "backbone": ("backbone.body", "backbone.features"),
    "neck": ("backbone.fpn", "backbone.extra"),
    "heads": ("head", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"),
    "roi_align": ("roi_heads.box_roi_pool",),
}


def _stages_of(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    modules = dict(model.named_modules())
    for stage, paths in (_OURS if "preprocess" in modules else _THEIRS).items():
        for module in (modules[path] for path in paths if path in modules):
            # torchvision's SSD has lists of blocks and calls the blocks one by one
            listed = isinstance(module, nn.ModuleList) or module is modules.get("backbone.features")
            for part in module.children() if listed else (module,):
                yield stage, part


@contextmanager
def _clocked(module: nn.Module, stage: str, seconds: dict[str, float]) -> Any:
    begun: list[float] = []
    hooks = (
        module.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter())),
        module.register_forward_hook(
            lambda *_: seconds.__setitem__(
                stage, seconds[stage] + time.perf_counter() - begun.pop()
            )
        ),
    )
    yield
    for hook in hooks:
        hook.remove()


@contextmanager
def _clocked_pooling(seconds: dict[str, float]) -> Any:
    pool: Callable[..., Tensor] = faster_rcnn.multiscale_roi_align

    def clocked(*args: Any, **kwargs: Any) -> Tensor:
        begin = time.perf_counter()
        result = pool(*args, **kwargs)
        seconds["roi_align"] += time.perf_counter() - begin
        return result

    with patch.object(faster_rcnn, "multiscale_roi_align", clocked):
        yield


def table(name: str, figures: dict[str, dict[str, float]]) -> Table:
    """Milliseconds by stage and model, and how many times faster than torchvision each is."""
    shown = Table(title=f"{name}, ms, {torch.get_num_threads()} threads", title_justify="left")
    for column in ("", *STAGES, "whole", "times faster"):
        shown.add_column(column, justify="right" if column else "left")
    for who, row in figures.items():
        cells = [f"{row[key]:.1f}" for key in (*STAGES, "whole")]
        shown.add_row(who, *cells, f"{figures['torchvision']['whole'] / row['whole']:.2f}")
    return shown


def main() -> None:
    """Print a table per named model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PUBLISHED)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--background", type=float, default=BACKGROUND)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for name in chosen.names or DEFAULT:
        models = contenders(name, chosen.background)
        runs = measure(models, [photo()], chosen.rounds)
        figures = {who: medians(taken) for who, taken in runs.items()}
        Console(width=120).print(table(name, figures))


if __name__ == "__main__":
    main()
