"""The command line: detcore train | eval | predict | data check | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

try:
    import typer
    from rich.table import Table

    from detcore.commands import evaluate, predict, train
    from detcore.commands.options import DATA_HELP, JsonOut
    from detcore.terminal import console, plain_errors, say
except ImportError as missing:
    raise SystemExit(
        f"detcore's command line needs {missing.name}: pip install 'detcore[models]'"
    ) from missing

app = typer.Typer(
    help="Train, measure and use detectors made of detcore's ops.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


app.command("train")(train.train_command)
app.command("eval")(evaluate.evaluate_command)
app.command("predict")(predict.predict_command)


@data_app.command("check")
def data_check(
    path: Annotated[str, typer.Argument(help=DATA_HELP)],
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all; default: every one it has.")
    ] = None,
    json_out: JsonOut = None,
) -> None:
    """Count, measure and decode a whole data set, and list all that is wrong with it.

    Ends with code 1 if there are errors, with 0 if there are warnings alone.
    """
    with plain_errors():
        from detcore.data import check_tables
        from detcore.data.check import check
        from detcore.engine.jobs import write_json

        with console.status("reading") as status:
            found = check(path, split, lambda n, of: status.update(f"decoding {n}/{of}"))
        for table in check_tables.tables(found):
            console.print(table)
        say(check_tables.headline(found))
        if json_out:
            write_json(json_out, found)
        if found["errors"]:
            raise typer.Exit(1)


@app.command()
def info() -> None:
    """Print what this build of detcore holds: versions, compilers, targets."""
    with plain_errors():
        import detcore

        table = Table("", "", show_header=False, title="detcore")
        for key, value in detcore.build_info().items():
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            table.add_row(str(key), shown)
        console.print(table)


@app.command()
def bench(
    op: Annotated[str | None, typer.Option("--op", help="This op only, say nms.")] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also torch.compile and slow inputs: some minutes."),
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Compare each op with its rivals on this machine, in two to three minutes.

    Against torchvision, and what is installed of powerboxes, OpenVINO, ONNX Runtime and lsnms.

    Results are compared before anything is timed, runs are interleaved, times are medians in ms.
    """
    with plain_errors():
        from detcore.engine import bench as benchmark
        from detcore.engine.jobs import UsageError

        try:
            benchmark.main(full=full, op=op, json=json_out)
        except ValueError as error:
            raise UsageError(str(error)) from error
