"""Where each op is, as the table that CONTRIBUTING.md shows.

    python scripts/op_table.py

tests/test_docs.py holds the document to it.
"""

from detcore.ops.registry import CALLS, OPERATORS, STEMS


def functions(stem: str) -> list[str]:
    """The stem's public operators, those with a gradient marked."""
    found: dict[str, str] = {}
    for call in CALLS.values():
        if OPERATORS[call.operator].stem == stem and call.operator != "box_iou_out":
            found[call.operator] = f"`{call.operator}`" + (" ∂" if call.gradients else "")
    return list(found.values())


def table() -> str:
    lines = [
        "| stem | operators, ∂: with a gradient | kernels of |",
        "|---|---|---|",
    ]
    # a pyramid is pooled by the kernels of one map
    shared = {"multiscale_roi_align": "roi_align"}
    for stem in sorted(STEMS):
        lines.append(f"| `{stem}` | {', '.join(functions(stem))} | `{shared.get(stem, stem)}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
