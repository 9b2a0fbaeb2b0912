"""Runs all fuzzers in turn, for a number of minutes or until the first fault.

Cases run in a child process, so that a crash, a timeout or too much memory is reported with its
case.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from detcore.ops._native import _C
from tests.fuzz.child import run_all
from tests.fuzz.families import NAMES, chosen, make, run_case, use_backend

SECONDS = 600.0  # by the clock that a case may take; the simulator is slow, and may be starved


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a family, or a group: ops, readers, weights, commands")
    parser.add_argument("--case", type=int, help="this one again; needs --only FAMILY")
    parser.add_argument(
        "--cases", type=int, help="end when each family has had so many, also before the minutes"
    )
    parser.add_argument("--backend", default=f"cpu-{_C.isa()}", help="cpu-<isa>, simt or cuda")
    given = parser.parse_args()
    try:
        names = chosen(given.only)
        use_backend(given.backend)
    except ValueError as error:
        parser.error(str(error))
    if given.case is not None:
        if given.only not in NAMES:
            parser.error("--case needs --only FAMILY")
        with tempfile.TemporaryDirectory() as place:
            family = make(given.only, Path(place), use_backend(given.backend))
            run_case(given.only, family, given.seed, given.case)
        return 0
    return _watch(names, given)


def _watch(names: Sequence[str], given: argparse.Namespace) -> int:
    """Run the cases in a child process and report their result."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", len(names), lock=False)
    running = context.Array("d", [-1.0, time.monotonic()], lock=False)  # current family, start time
    child = context.Process(target=run_all, args=(list(names), vars(given), counts, running))
    child.start()
    told = time.monotonic()
    late = False
    while child.is_alive() and not late:
        child.join(0.5)
        late = running[0] >= 0 and time.monotonic() - running[1] > SECONDS
        if time.monotonic() - told > 20:
            told = time.monotonic()
            print(f"{sum(counts)} cases", file=sys.stderr, flush=True)
    if late:
        child.kill()
        child.join()
    for name, count in zip(names, counts, strict=True):
        print(f"{count:8} {name}")
    if not late and child.exitcode == 0:
        print(f"{given.backend}, seed {given.seed}: no fault in {sum(counts)} cases")
        return 0
    at = int(running[0])
    if at >= 0:
        what = f"took more than {SECONDS:.0f} s" if late else f"ended with {child.exitcode}"
        print(
            f"{names[at]}, case {counts[at]}: the process {what}; again:\n"
            f"python -m tests.fuzz --backend {given.backend} --seed {given.seed} "
            f"--only {names[at]} --case {counts[at]}"
        )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
