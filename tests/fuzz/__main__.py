"""python -m tests.fuzz --minutes N --seed S: all fuzzers in turn, to the first fault."""

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from tests.fuzz.readers import FORMS, ReaderFuzz
from tests.fuzz.weights import CheckpointFuzz, DarknetFuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one family: a reader's name, checkpoints or darknet_files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        families = _families(Path(place), given.only)
        end = time.monotonic() + 60 * given.minutes
        while time.monotonic() < end:
            for name, family in families.items():
                for _ in range(20):
                    seed = f"{given.seed}.{name}.{counts[name]}"
                    try:
                        family.case(random.Random(seed))
                    except Exception:
                        print(f"{name}, case {counts[name]} (seed {seed}):")
                        traceback.print_exc()
                        return 1
                    counts[name] += 1
            if sys.stdout.isatty():
                print(f"\r{sum(counts.values())} cases", end="", flush=True)
    for name, count in counts.items():
        print(f"{name}: {count} cases")
    return 0


def _families(place: Path, only: str | None):
    made = {}
    for form in FORMS:
        if only in (None, form):
            (place / form).mkdir()
            made[form] = ReaderFuzz(form, place / form)
    for name, kind in (("checkpoints", CheckpointFuzz), ("darknet_files", DarknetFuzz)):
        if only in (None, name):
            (place / name).mkdir()
            made[name] = kind(place / name)
    if not made:
        raise SystemExit(f"--only must be one of {', '.join(FORMS)}, checkpoints, darknet_files")
    return made


if __name__ == "__main__":
    logging.getLogger("detcore").setLevel(logging.ERROR)  # thousands of warnings
    raise SystemExit(main())
