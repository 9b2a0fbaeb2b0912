"""Compares whole detectors on a 640 x 480 photo with torchvision's with the same weights."""

from functools import lru_cache
from typing import Any

import pytest
import torch

from benchmarks.harness import CLOCK
from benchmarks.models.stages import DEFAULT, Runs, contenders, measure, medians, photo

ROUNDS = 5
WHO = ("torchvision", "detcore", "optimized", "optimized, bf16")


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("name", "who"), [(name, who) for name in DEFAULT for who in WHO])
def bench_model(benchmark: Any, name: str, who: str) -> None:
    if not benchmark.enabled:  # run as a test
        pytest.skip("whole models are compared in tests/weights")
    runs = _runs(name)
    if who not in runs:
        pytest.skip("oneDNN has no bfloat16 here")
    benchmark.group, benchmark.name = name, who
    whole = [run["whole"] for run in runs[who]]
    benchmark.extra_info |= {
        "stages_ms": medians(runs[who]),
        "times_faster": medians(runs["torchvision"])["whole"] / medians(runs[who])["whole"],
        "threads": torch.get_num_threads(),
    }
    benchmark.pedantic(CLOCK.replay(whole), rounds=len(whole))


@lru_cache(maxsize=1)  # the libraries of a model are consecutive
def _runs(name: str) -> dict[str, Runs]:
    return measure(contenders(name), [photo()], ROUNDS)
