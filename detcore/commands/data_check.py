"""detcore data check."""

from __future__ import annotations

from typing import Annotated

import typer

from detcore.commands.exit_codes import plain_errors
from detcore.commands.options import DATA_HELP, JsonOut, examples
from detcore.utils.printing import console, say

EXAMPLES = examples(
    "detcore data check path/to/data",
    "detcore data check coco:path/to/data --split train --json faults.json",
    "detcore data check dota:path/to/data --oriented",
)


def data_check_command(
    path: Annotated[str, typer.Argument(help=DATA_HELP)],
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to check. Default: every split that the data has.",
            metavar="[train|val|test|all]",
        ),
    ] = None,
    oriented: Annotated[
        bool,
        typer.Option(
            "--oriented",
            help="Read boxes with an angle: of digits, DOTA, YOLO texts with corners, and COCO "
            "with five numbers or polygons.",
        ),
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Read a whole data set, decode every picture, and list everything that is wrong with it.

    The exit code is 1 if there are errors, and 0 if there are only warnings.
    """
    with plain_errors():
        from detcore.commands.output_paths import check_outputs, inputs_of
        from detcore.data.validation import tables
        from detcore.data.validation.check import check
        from detcore.utils.atomic_write import write_json

        check_outputs(files={"--json": json_out}, folders={}, inputs=inputs_of(data=path))
        with console.status("reading") as status:
            show = lambda n, of: status.update(f"decoding {n}/{of}")  # noqa: E731
            found = check(path, split, show, oriented)
        if json_out:  # before anything else can fail: the work is done
            write_json(json_out, found)
        for table in tables.tables(found):
            console.print(table)
        say(tables.headline(found))
        if found["errors"]:
            raise typer.Exit(1)
