"""Public names have docstrings, and those of the ops say what a caller must know.

python -m tests.test_docstrings    # prints the counts
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from torch import Tensor

import detcore.data
import detcore.models
import detcore.weights
from detcore import ops

PACKAGE = Path(__file__).parents[1] / "detcore"
SECTIONS = ("Returns", "Edge cases", "Cost", "Equivalents", "Example", "See Also")
SHAPE = re.compile(r"\[[^\]]*\]")
OPS = [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]


def public_names() -> Iterator[tuple[str, bool]]:
    """Every public class, function and method of the package, and whether it has a docstring."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if not file.name.startswith("_") or file.name == "__init__.py":
            where = file.relative_to(PACKAGE.parent).with_suffix("")
            tree = ast.parse(file.read_text(encoding="utf-8"))
            yield from _inside(tree, ".".join(where.parts))


def _inside(node: ast.AST, where: str) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        # a setter is told of by its property
        if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in child.decorator_list):
            continue
        name = f"{where}.{child.name}"
        yield name, bool(ast.get_docstring(child))
        if isinstance(child, ast.ClassDef):
            yield from _inside(child, name)


def sections(doc: str) -> dict[str, str]:
    """A docstring's parts by their headings; what stands before all of them is under ""."""
    parts = re.split(r"^([A-Z][A-Za-z ]+):\n", inspect.cleandoc(doc) + "\n", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def missing_of(name: str) -> list[str]:
    """What the docstring of a public op does not say."""
    function = getattr(ops, name)
    parts = sections(function.__doc__ or "")
    missing = [heading for heading in SECTIONS if heading not in parts]
    for parameter in inspect.signature(function).parameters:
        entry = re.search(
            rf"^ +{parameter}: (.*?)(?=^ {{4}}\w+: |\Z)",
            parts.get("Args", ""), re.MULTILINE | re.DOTALL,
        )  # fmt: skip
        if not entry:
            missing.append(f"{parameter} in Args")
        elif _takes_tensors(function, parameter) and not SHAPE.search(entry[1]):
            missing.append(f"the shape of {parameter}")
    if "torch" in str(get_type_hints(function)["return"]) and not SHAPE.search(
        parts.get("Returns", "")
    ):
        missing.append("the shape of the result")
    if ">>> " not in parts.get("Example", ""):
        missing.append("code in Example")
    return missing


def _takes_tensors(function: Any, parameter: str) -> bool:
    return Tensor.__name__ in str(get_type_hints(function)[parameter])


def test_every_public_name_has_a_docstring() -> None:
    assert not [name for name, documented in public_names() if not documented]


@pytest.mark.parametrize("module", [ops, detcore.models, detcore.weights, detcore.data, detcore])
def test_everything_exported_has_a_docstring(module: ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), name


@pytest.mark.parametrize("name", OPS)
def test_an_op_says_shapes_costs_edges_and_shows_an_example(name: str) -> None:
    assert missing_of(name) == []


def test_help_of_the_ops_lists_each_by_topic() -> None:
    for name in ops.__all__:
        assert re.search(rf"\b{name}\b", ops.__doc__ or ""), name


if __name__ == "__main__":
    names = list(public_names())
    bare = sum(not documented for _, documented in names)
    print(f"public names: {len(names)}, without a docstring: {bare}")
    incomplete = {name: missing for name in OPS if (missing := missing_of(name))}
    print(f"ops: {len(OPS)}, whose docstrings leave something out: {len(incomplete)}")
    for name, missing in incomplete.items():
        print(f"    {name}: {', '.join(missing)}")
