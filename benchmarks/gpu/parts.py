"""The parts and their time limits, the most valuable first."""

from dataclasses import dataclass

# seconds of the whole check including the build; a part gets at most the time that is left
WHOLE = 470.0
BUILD = 240.0
# the dry run is for machines without a GPU, maybe with a single core
DRY_FACTOR = 12.0


@dataclass(frozen=True)
class Part:
    """name: for the command line. module: has `main(rows, dry)`. seconds: time limit. silence:
    seconds without a new row after which the part counts as hanging. If it hangs or dies, it is
    started again without the items that it had begun, while time is left.
    """

    name: str
    module: str
    seconds: float
    silence: float
    what: str


PARTS = (
    Part("smoke", "benchmarks.gpu.smoke", 40, 30, "every op once, against the CPU kernel"),
    Part("figures", "benchmarks.gpu.figures", 120, 30, "every case of `detcore bench`"),
    Part("tests", "benchmarks.gpu.tests", 110, 110, "pytest tests/ops -m cuda"),
    Part("memory", "benchmarks.gpu.memory", 60, 60, "compute-sanitizer over the launchers"),
    Part("models", "benchmarks.gpu.models", 40, 30, "detectors: inference and training"),
    Part("profile", "benchmarks.gpu.profile", 40, 40, "the slowest kernels under a profiler"),
)


def chosen(names: list[str]) -> list[Part]:
    """The parts with these names, in their fixed order; all parts if no name is given.

    Raises ValueError for an unknown name.
    """
    known = [part.name for part in PARTS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"gpu_check: PART must be one of {', '.join(known)}, got {unknown[0]}")
    return [part for part in PARTS if not names or part.name in names]
