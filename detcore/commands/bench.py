"""detcore bench."""

from __future__ import annotations

from typing import Annotated

import typer

from detcore.commands.exit_codes import plain_errors
from detcore.commands.options import JsonOut, Threads, examples

EXAMPLES = examples("detcore bench", "detcore bench --op nms --json nms.json")


def bench_command(
    op: Annotated[
        str | None, typer.Option("--op", help="Measure this op alone, such as nms.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Also measure torch.compile and slow inputs; takes some minutes."
        ),
    ] = False,
    json_out: JsonOut = None,
    threads: Threads = None,
) -> None:
    """Measure each op against torchvision on this machine, in two to three minutes.

    Also against powerboxes, OpenVINO, ONNX Runtime, lsnms and others, where they are installed.

    Results are compared before anything is timed. Runs are interleaved; times are medians in ms.
    """
    with plain_errors():
        from detcore import bench as benchmark
        from detcore.commands.output_paths import check_outputs
        from detcore.commands.threads import set_threads
        from detcore.utils.errors import UsageError

        set_threads(threads)
        check_outputs(files={"--json": json_out}, folders={}, inputs=[])
        try:
            benchmark.main(full=full, op=op, json=json_out)
        except ValueError as error:
            raise UsageError(str(error)) from error
