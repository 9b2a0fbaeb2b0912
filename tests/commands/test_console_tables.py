import io

from rich.console import Console

from detcore.commands import console_tables
from detcore.commands.console_tables import headline, metrics_table
from detcore.commands.train_progress import TrainProgress, clock


def test_times_are_read_at_a_glance():
    assert [clock(s) for s in (None, 0, 65.4, 3725)] == ["?", "0:00", "1:05", "1:02:05"]


def test_the_headline_leaves_out_what_is_absent():
    assert headline({"mAP": 0.5, "AP50": None, "recall": 0.25}) == "mAP 0.500  recall 0.250"


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console_tables.time, "perf_counter", lambda: now[0])
    out = io.StringIO()
    with TrainProgress(Console(file=out, force_terminal=False), batch_size=4) as watcher:
        for step in range(1, 31):
            now[0] += 1
            row = {"step": step, "epoch": 0.1, "seconds": now[0], "lr": 1e-3, "loss": 8.0}
            watcher.step(row, 100.0, 0.1)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "step 10  loss 8.000" in lines[0]
    assert "4.0 images/s  ETA 1:40" in lines[0]


def test_the_table_fits_eighty_characters():
    row = {"name": "Platelets", "AP": 0.5, "AP50": None, "objects": 1234, "precision": 0.5,
           "recall": 0.5, "f1": 0.5, "matched": 1000, "wrong": 10, "missed": 234}  # fmt: skip
    metrics = {"per_class": [row, {**row, "name": "b"}], "mAP": 0.5, "AP50": 0.75,
               "precision": 0.5, "recall": 0.5, "f1": 0.5}  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80).print(metrics_table(metrics, "digits"))
    text = out.getvalue()
    assert "…" not in text
    for words in ("precision", "matched", "missed", "Platelets", "2468", "2000", "0.750"):
        assert words in text
