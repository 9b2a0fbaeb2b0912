"""The rules for imports: nothing upward, no cycles, nothing sideways."""

import ast
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = runpy.run_path(str(ROOT / "scripts/import_graph.py"))
FLOOR_OF, OUTSIDE, room_of = HOUSE["FLOOR_OF"], HOUSE["OUTSIDE"], HOUSE["room_of"]
# modules that all models, or all commands, use; the others don't import each other
SHARED = {
    "models": {"__init__", "config", "detector"},
    "commands": {
        *("__init__", "console_tables", "evaluate_kitti", "exit_codes", "model_data", "options"),
        *("output_paths", "run_folder", "threads", "train_flags", "train_progress", "train_setup"),
    },
}
# MultiTask gets its two models as arguments, and names their types
HANDED = {("models/multitask", "models/classifier")}

Graph = Mapping[str, set[str]]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return {
        module: {t for t in targets if room_of(t) not in OUTSIDE}
        for module, targets in HOUSE["imports"]().items()
        if room_of(module) not in OUTSIDE
    }


def test_every_room_has_a_floor(graph: Graph) -> None:
    assert {room_of(module) for module in graph} == set(FLOOR_OF)


def test_nothing_imports_upward_or_from_its_own_floor(graph: Graph) -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if room_of(target) != room_of(module)
        and FLOOR_OF[room_of(target)] >= FLOOR_OF[room_of(module)]
    ]
    assert not wrong


def test_no_module_imports_itself_by_others(graph: Graph) -> None:
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle if there is one


def test_folders_inside_a_room_import_each_other_one_way(graph: Graph) -> None:
    """data/loading may import data/readers, but not the other way round as well."""
    folded: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph.items():
        home = folder_of(module)
        folded[home] |= {folder_of(target) for target in targets} - {home}
    TopologicalSorter(folded).prepare()


def folder_of(module: str) -> str:
    """data/readers for data/readers/voc; a module directly in its room is its own folder."""
    folder = module.rpartition("/")[0]
    return folder if "/" in folder else module


@pytest.mark.parametrize("room", SHARED)
def test_models_and_commands_stand_side_by_side(graph: Graph, room: str) -> None:
    common = {f"{room}/{name}" for name in SHARED[room]}
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        if room_of(module) == room and module != f"{room}/__init__"
        for target in targets - common
        if room_of(target) == room and (module, target) not in HANDED
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["ops", "reference"])
def test_ops_need_torch_and_numpy_alone(room: str) -> None:
    wanted = {"torch", "numpy", "detcore"}
    for file in (ROOT / "detcore" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            others = {name.split(".")[0] for name in names} - wanted - sys.stdlib_module_names
            assert not others, f"{file} imports {others}"


def test_torchvisions_detectors_are_rivals_alone() -> None:
    """detcore's models must not import torchvision's."""
    holders = {
        file.relative_to(ROOT / "detcore").parts[0]
        for file in (ROOT / "detcore").rglob("*.py")
        if "torchvision.models.detection" in file.read_text(encoding="utf-8")
    }
    assert holders <= {"bench"}


def test_the_document_shows_the_floors(graph: Graph) -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert HOUSE["table"](HOUSE["rooms"](graph)) in text


def test_old_paths_work_and_say_where_things_are() -> None:
    code = (
        "from detcore.engine.train import train; import detcore.engine.checkpoint as c; "
        "from detcore.engine import evaluate, predict, config; "
        "print(train.__module__, c.__name__, evaluate.__name__, predict.__name__, config.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "detcore.training.trainer",
        "detcore.checkpoints.checkpoint",
        "detcore.evaluation.evaluator",
        "detcore.inference.predictor",
        "detcore.training.config",
    ]
    assert done.stderr.count("FutureWarning") == 1
    assert "detcore.training.trainer (was engine.train)" in done.stderr
