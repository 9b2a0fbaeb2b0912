"""--threads: a number, or as many as processors are idle."""

import pytest
import torch

from detcore.commands import threads
from detcore.utils.errors import UsageError


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
