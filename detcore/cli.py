"""The command line: detcore train | eval | predict | data check | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

try:
    import typer

    from detcore.commands import bench, data_check, evaluate, info, predict, train
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
data_app.command("check")(data_check.data_check_command)
app.command("info")(info.info_command)
app.command("bench")(bench.bench_command)
