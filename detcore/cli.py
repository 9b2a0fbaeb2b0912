"""The command line: detcore train | eval | predict | data check | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

try:
    import typer

    from detcore.commands import bench, data_check, evaluate, info, predict, train
    from detcore.commands.exit_codes import refusing_nonsense
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

app.command("train")(refusing_nonsense(train.train_command))
app.command("eval")(refusing_nonsense(evaluate.evaluate_command))
app.command("predict")(refusing_nonsense(predict.predict_command))
data_app.command("check")(refusing_nonsense(data_check.data_check_command))
app.command("info")(refusing_nonsense(info.info_command))
app.command("bench")(refusing_nonsense(bench.bench_command))
