"""The imports between the rooms (folders) of the package: the table in docs/architecture.md.

    python scripts/import_graph.py

tests/test_floors.py checks the package against the floors below, and the document against this
output.
"""

import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
# From the lowest floor up. Rooms on the same floor don't import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("utils", "reference"),
    ("ops",),
    ("parts", "compat", "onnx"),
    ("models",),
    ("weights", "data"),
    ("checkpoints",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("bench",),
    ("commands",),
    ("cli",),
)
FLOOR_OF = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# the package's own facts, and old names that the next version removes: not part of any floor
OUTSIDE = {"__init__", "_C", "engine"}


def imports() -> dict[str, set[str]]:
    """For every module (its path in the package without suffix), the modules of the package that it
    imports. Imports inside functions and for type checkers count too.
    """
    ruff = [sys.executable, "-m", "ruff", "analyze", "graph", "detcore"]
    printed = subprocess.run(ruff, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {
        _name(module): {_name(target) for target in targets}
        for module, targets in json.loads(printed).items()
        if module.endswith(".py")
    }


def _name(path: str) -> str:
    return str(PurePosixPath(path).relative_to("detcore").with_suffix(""))


def room_of(module: str) -> str:
    return module.split("/")[0]


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """For every room, the other rooms that it imports."""
    found: dict[str, set[str]] = {room: set() for room in FLOOR_OF}
    for module, targets in graph.items():
        if room_of(module) not in OUTSIDE:
            found[room_of(module)] |= {room_of(t) for t in targets} - OUTSIDE
    return {room: targets - {room} for room, targets in found.items()}


def direct(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without edges that follow from a longer path."""
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(edges).static_order():
        reached[room] = edges[room].union(*(reached[target] for target in edges[room]))
    return {
        room: {t for t in targets if not any(t in reached[other] for other in targets - {t})}
        for room, targets in edges.items()
    }


def table(edges: dict[str, set[str]]) -> str:
    """The floors as Markdown, the highest first: each room, and which rooms it imports."""
    lines = ["| floor | room | imports |", "|---:|---|---|"]
    for room in sorted(edges, key=lambda r: (-FLOOR_OF[r], r)):
        targets = sorted(direct(edges)[room], key=lambda r: (-FLOOR_OF[r], r))
        named = ", ".join(f"`{target}`" for target in targets)
        lines.append(f"| {FLOOR_OF[room]} | `{room}` | {named} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(rooms(imports())))
