"""--threads: a number, or the number of idle processors."""

import pytest
import torch

from detcore.commands import threads
from detcore.utils.errors import UsageError
from detcore.utils.speed_watch import SpeedWatch


def ticks(*rows):
    given = iter(rows)
    return lambda: next(given)


@pytest.mark.parametrize(("busy", "wanted"), [(0, 8), (200, 6), (800, 1)])
def test_auto_takes_what_is_idle_and_says_so(monkeypatch, capsys, busy, wanted):
    monkeypatch.setattr(threads, "_SECONDS", 0.0)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(threads, "_times", ticks([0] * 8, [busy, 0, 0, 800 - busy, 0, 0, 0, 0]))
    threads.set_threads("auto")
    assert torch.get_num_threads() == wanted
    assert f"{wanted} thread" in capsys.readouterr().out


def test_a_number_or_a_sentence():
    threads.set_threads("1")
    assert torch.get_num_threads() == 1
    threads.set_threads(None)
    for text in ("0", "-1", "many", "1.5", "99999999"):
        with pytest.raises(UsageError, match=r"--threads must be auto or a number in 1..1024"):
            threads.set_threads(text)


def test_this_machine_has_idle_processors_or_not():
    assert 0 <= threads.idle_processors() <= len(threads.os.sched_getaffinity(0))


def watched(*batches, caplog):
    watch = SpeedWatch()
    for images, seconds, times in batches:
        for _ in range(times):
            watch.add(images, seconds)
    return [record.getMessage() for record in caplog.records]


def test_work_that_gets_much_slower_is_told_of_once(caplog):
    told = watched((8, 30.0, 1), (8, 0.5, 10), (8, 4.0, 20), caplog=caplog)
    assert len(told) == 1
    assert "images per second fell from 16.0 to 2.0" in told[0] and "--threads auto" in told[0]


@pytest.mark.parametrize(
    "batches",
    [
        [(8, 30.0, 1), (8, 0.5, 100)],  # a slow first batch is ignored
        [(8, 0.5, 20), (8, 1.0, 100)],  # half as fast
        [(8, 0.5, 20), (8, 9.0, 1), (8, 0.5, 20)],  # one slow batch
        [(8, 4.0, 100)],
    ],
)
def test_other_speeds_are_nobodys_matter(batches, caplog):
    assert watched(*batches, caplog=caplog) == []
