"""detcore info."""

from __future__ import annotations

from rich.table import Table

from detcore.commands.exit_codes import plain_errors
from detcore.utils.printing import console


def info_command() -> None:
    """Print what this build of detcore holds: versions, compilers, targets."""
    with plain_errors():
        import detcore

        table = Table("", "", show_header=False, title="detcore")
        for key, value in detcore.build_info().items():
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            table.add_row(str(key), shown)
        console.print(table)
