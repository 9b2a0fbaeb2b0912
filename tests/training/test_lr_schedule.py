import pytest

from detcore.training import lr_schedule as module
from detcore.training.lr_schedule import Schedule


def test_warm_up_is_linear_and_the_cosine_ends_at_nothing():
    s = Schedule(steps=100, warmup=0.1)
    assert s.factor(0) == 0.01
    assert s.factor(0.05) == pytest.approx(0.5)
    assert s.factor(0.1) == pytest.approx(1)
    assert s.factor(0.55) == pytest.approx(0.5)
    assert s.factor(1) == pytest.approx(0)
    assert Schedule(steps=1, warmup=0).factor(0) == 1
    assert [s.share(k) for k in (0, 25, 100, 200)] == [0, 0.25, 1, 1]


def test_steps_down():
    s = Schedule(steps=100, warmup=0.1, drop_at=(0.5, 0.75))
    assert s.factor(0.05) == pytest.approx(0.5)
    wanted = {0.1: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1.0: 0.01}
    assert {k: s.factor(k) for k in wanted} == pytest.approx(wanted)


def test_the_cosine_follows_the_clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    s = Schedule(minutes=2)
    s.restart()
    now[0] += 30
    assert s.share(3) == 0.25
    assert s.remaining(3) == pytest.approx(90)
    assert s.remaining(0) is None
    s.restart(60)
    assert s.share(3) == 0.5  # a resumed run has used this time already
    s.restart(30)
    now[0] += 90
    assert s.share(4) == 1  # after any number of steps
    both = Schedule(steps=10, minutes=2, started=now[0])
    now[0] += 12
    assert both.share(1) == pytest.approx(0.1)
    assert both.share(5) == 0.5
    with pytest.raises(ValueError, match="give steps or minutes"):
        Schedule()
