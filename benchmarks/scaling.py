"""Compares nms with other libraries for 10 to 1,000,000 boxes; writes JSON and a chart.

python -m benchmarks.scaling benchmarks/results
"""

import gc
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import detcore
from benchmarks.charts import draw_scaling
from detcore.bench import Case, interleave, machine, open_case
from detcore.bench.inputs import scattered
from detcore.bench.ops.nms import of_boxes

SIZES = [10**k for k in range(1, 7)]
MOST = 5.0  # seconds per call, after which a library gets no more boxes


def scaling(sizes: list[int], budget: float = 2.0) -> dict[str, dict[int, float]]:
    """Milliseconds by library and number of boxes. All results are compared first.

    A library is dropped when a call took more than MOST seconds, or when its last two times predict
    more than four times that for the next call.
    """
    ms: dict[str, dict[int, float]] = {}
    given_up: set[str] = set()
    for n in sizes:
        # with the density of 1,000 boxes in 1,000 x 1,000 pixels
        case = of_boxes(f"nms {n:,} boxes", partial(scattered, n, extent=1000 * (n / 1000) ** 0.5))
        contest = open_case(_without(case, given_up))
        for name, reason in contest.skipped.items():
            print(f"  {name} left out: {reason}")
            given_up.add(name)
        timed = interleave(contest.functions, budget, first=contest.first)
        for name, seconds in timed.seconds.items():
            ms.setdefault(name, {})[n] = 1e3 * seconds
            if name != "detcore" and _next(ms[name]) > 4e3 * MOST:
                given_up.add(name)
        print(
            f"  {n:>9,} boxes: " + ", ".join(f"{k} {p[n]:.3g} ms" for k, p in ms.items() if n in p)
        )
        del contest
        gc.collect()
    return ms


def _without(case: Case, names: set[str]) -> Case:
    return replace(case, rivals={k: r for k, r in case.rivals.items() if k not in names})


def _next(points: dict[int, float]) -> float:
    """A lower bound for the milliseconds with ten times as many boxes."""
    *_, before, last = (0.0, *points.values())
    if last > 1e3 * MOST:
        return float("inf")
    return last * max(10.0, last / before) if before else 10 * last


def main(folder: Path) -> None:
    print("nms from 10 to 1,000,000 boxes:")
    ms = scaling(SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    source, chart = folder / "nms_scaling.json", folder / "nms_scaling.png"
    about = {"machine": machine(), "build": detcore.build_info(), "ms": ms}
    source.write_text(json.dumps(about, indent=1) + "\n")
    draw_scaling(source, chart)
    print(f"figures in {source}, drawn in {chart}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
