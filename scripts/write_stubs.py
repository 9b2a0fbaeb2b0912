"""Type stubs of the extension's entries, from the schemas of the registered operators.

    python scripts/write_stubs.py [--write]

With --write they go into detcore/_C.pyi; otherwise they are printed. tests/test_docs.py checks that
the file is up to date.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this clone's ops, even if another one is installed
from detcore.ops.registry import OPERATORS  # noqa: E402

HEAD = '''"""The extension module: an entry per operator of csrc/bindings, and facts of the build.

Written by scripts/write_stubs.py from the operators' schemas.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

def build_facts() -> dict[str, Any]: ...
def handover() -> str: ...
def was_refused(words: str) -> bool: ...
def plain(args: tuple[Any, ...]) -> bool: ...
def set_plain_keys(outside: int, in_inference_mode: int) -> None: ...
def cuda_error() -> str | None: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...'''


def python_type(kind: torch.Type) -> str:
    name = str(kind)
    if name.startswith("Optional["):
        return f"{name.removeprefix('Optional[').removesuffix(']')} | None"
    if name.startswith("List["):
        return f"Sequence[{name.removeprefix('List[').removesuffix(']')}]"
    return name


def result_type(kinds: list[str]) -> str:
    if len(kinds) == 1:
        return kinds[0]
    return f"tuple[{', '.join(kinds)}]" if kinds else "None"


def stub(operator: str) -> str:
    """One entry, with one line per argument if it does not fit one line."""
    schema = getattr(torch.ops.detcore, operator).default._schema
    arguments = [f"{a.name}: {python_type(a.type)}" for a in schema.arguments]
    result = result_type([python_type(value.type) for value in schema.returns])
    line = f"def {operator}({', '.join(arguments)}) -> {result}: ..."
    if len(line) <= 100:
        return line
    inside = ", ".join(arguments)
    if len(inside) <= 96:
        return f"def {operator}(\n    {inside}\n) -> {result}: ..."
    return "\n".join([f"def {operator}(", *(f"    {a}," for a in arguments), f") -> {result}: ..."])


if __name__ == "__main__":
    stubs = "\n".join([HEAD, *map(stub, sorted(OPERATORS))]) + "\n"
    if "--write" in sys.argv:
        file = ROOT / "detcore/_C.pyi"
        file.write_text(stubs, encoding="utf-8")
        print(f"wrote {file}")
    else:
        print(stubs, end="")
