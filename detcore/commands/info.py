"""detcore info."""

from __future__ import annotations

from rich.table import Table

from detcore.commands.exit_codes import plain_errors
from detcore.commands.options import examples
from detcore.utils.printing import console

EXAMPLES = examples("detcore info")


def info_command() -> None:
    """Print versions, compilers, CUDA targets, and the instruction set in use."""
    with plain_errors():
        import detcore

        table = Table("", "", show_header=False, title="detcore")
        for key, value in detcore.build_info().items():
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            table.add_row(str(key), shown)
        console.print(table)
