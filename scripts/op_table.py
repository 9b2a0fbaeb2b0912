"""The table in CONTRIBUTING.md of where each op is.

    python scripts/op_table.py [--write]

With --write it goes into CONTRIBUTING.md; otherwise it is printed. tests/test_docs.py checks that
the document is up to date.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this clone's ops, even if another one is installed
from detcore.ops.registry import CALLS, KERNELS_OF, OPERATORS, STEMS  # noqa: E402

BEGIN, END = "<!-- scripts/op_table.py -->\n", "<!-- end of ops -->\n"


def functions(stem: str) -> list[str]:
    """The public operators of a stem, with a mark if they have a gradient."""
    found: dict[str, str] = {}
    for call in CALLS.values():
        if OPERATORS[call.operator].stem == stem and not call.operator.endswith("_out"):
            found[call.operator] = f"`{call.operator}`" + (" ∂" if call.gradients else "")
    return list(found.values())


def table() -> str:
    lines = [
        "| stem | operators, ∂: with a gradient | kernels of |",
        "|---|---|---|",
    ]
    for stem in sorted(STEMS):
        lines.append(
            f"| `{stem}` | {', '.join(functions(stem))} | `{KERNELS_OF.get(stem, stem)}` |"
        )
    return "\n".join(lines)


def write() -> Path:
    document = ROOT / "CONTRIBUTING.md"
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"op_table: {document} has no {BEGIN.strip()} before {END.strip()}")
    document.write_text(before + begin + table() + "\n" + end + after, encoding="utf-8")
    return document


if __name__ == "__main__":
    print(f"wrote {write()}" if "--write" in sys.argv else table())
