import io

from rich.console import Console

from detcore.commands import train_progress
from detcore.commands.train_progress import TrainProgress, clock


def test_times_are_read_at_a_glance():
    assert [clock(s) for s in (None, 0, 65.4, 3725)] == ["?", "0:00", "1:05", "1:02:05"]


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(train_progress.time, "perf_counter", lambda: now[0])
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
