"""The command line: detcore train | eval | predict | data check | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

from detcore import __version__

try:
    import typer

    from detcore.commands import bench, data_check, evaluate, info, predict, train
    from detcore.commands.exit_codes import refusing_nonsense
    from detcore.commands.options import examples
except ImportError as missing:
    raise SystemExit(
        f"detcore's command line needs {missing.name}: pip install 'detcore[models]'"
    ) from missing

app = typer.Typer(
    help=f"detcore {__version__}: train, measure and use detectors.",
    epilog=examples(
        "detcore data check path/to/data",
        "detcore train --model yolo --data path/to/data --minutes 30 --out runs/mine",
        "detcore eval --checkpoint runs/mine --report report.html",
        "detcore predict photo.jpg --checkpoint runs/mine --out picture.png",
        "detcore --install-completion    # then TAB completes commands and options",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at data sets before training.", no_args_is_help=True)
app.add_typer(data_app, name="data")

app.command("train", epilog=train.EXAMPLES)(refusing_nonsense(train.train_command))
app.command("eval", epilog=evaluate.EXAMPLES)(refusing_nonsense(evaluate.evaluate_command))
app.command("predict", epilog=predict.EXAMPLES)(refusing_nonsense(predict.predict_command))
data_app.command("check", epilog=data_check.EXAMPLES)(
    refusing_nonsense(data_check.data_check_command)
)
app.command("info", epilog=info.EXAMPLES)(refusing_nonsense(info.info_command))
app.command("bench", epilog=bench.EXAMPLES)(refusing_nonsense(bench.bench_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"detcore {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `detcore` itself."""
