import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console

import detcore
from detcore import bench
from detcore.bench import (
    Case,
    Contender,
    Must,
    cases,
    inputs,
    interleave,
    measure,
    measure_device,
    open_case,
)
from detcore.bench.case import MODULES
from detcore.bench.ops import STEMS
from scripts import cuda_limits


def gives(result: Any, seconds: float = 0.0) -> Contender:
    def function() -> Any:
        time.sleep(seconds)
        return result

    return Contender(lambda *_: function)


def case_of(ours: Contender, rivals: dict[str, Contender], **options: Any) -> Case:
    return Case("op", "work", lambda: (), ours, rivals, lambda a, b: a == b, **options)


def printed(rows: list[dict[str, Any]], width: int = 200) -> str:
    console = Console(width=width, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        bench.print_rows(console, rows)
    return capture.get()


def test_interleaved_medians_tell_fast_from_slow() -> None:
    result = interleave(
        {"detcore": lambda: time.sleep(0.002), "torchvision": lambda: time.sleep(0.01)}, budget=0.1
    )
    assert 3 < result.ratio("torchvision") < 7


def test_a_slow_rival_runs_less_often_but_three_times() -> None:
    result = interleave({"detcore": lambda: None, "torchvision": lambda: time.sleep(0.05)}, 0.1)
    assert len(result.samples["torchvision"]) == 3
    assert len(result.samples["detcore"]) > 20


def test_a_rival_slower_than_five_seconds_is_not_run_again(monkeypatch) -> None:
    def never() -> None:
        raise AssertionError

    result = interleave({"detcore": lambda: None, "slow": never}, 0.01, first={"slow": 6.0})
    assert result.samples["slow"] == [6.0]
    assert result.spread("slow") is None

    monkeypatch.setattr("detcore.bench.timing.SLOW", 0.01)
    row, _ = measure(case_of(gives(1), {"torchvision": gives(1, 0.02)}), 0.01)
    assert row["runs"]["torchvision"]["count"] == 1
    text = printed([row])
    assert re.search(r"\d\*", text) and "* a single run" in text


def test_turns_are_taken_evenly() -> None:
    turns: list[str] = []

    def slow() -> None:
        turns.append("slow")
        time.sleep(0.02)

    def fast() -> None:
        turns.append("fast")
        time.sleep(0.011)  # too long to be repeated or warmed up

    interleave({"fast": fast, "slow": slow}, 0.2)
    timed = turns[4:]
    last = max(i for i, who in enumerate(timed) if who == "slow")
    assert last >= len(timed) - 2
    assert "slow" in timed[: len(timed) // 2]


def test_new_pages_are_given_before_each_timed_run() -> None:
    turns: list[str] = []
    interleave({"detcore": lambda: turns.append("run")}, 0.01, before=lambda: turns.append("new"))
    assert turns[:2] == ["run", "run"]
    assert "new" in turns and turns.index("new") > 2  # a short call is warmed up first


def test_a_different_result_of_the_peer_is_an_error() -> None:
    with pytest.raises(AssertionError, match="work: result differs from rival's: another result"):
        measure(case_of(gives(1), {"rival": gives(2)}))
    wrong_truth = case_of(gives(1), {"rival": gives(1)}, truth=gives(2))
    with pytest.raises(AssertionError, match="work: result differs: another result"):
        measure(wrong_truth)


def test_with_a_truth_the_peer_may_be_wrong() -> None:
    row, _ = measure(case_of(gives(1), {"rival": gives(2)}, truth=gives(1)), 0.01)
    assert row["times"].keys() == {"rival"}


def test_figures_say_what_they_hold_for() -> None:
    row, _ = measure(case_of(gives(1), {"rival": gives(1)}), 0.01)
    assert (row["isa"], row["threads"]) == (detcore.build_info()["isa"], torch.get_num_threads())


def test_other_rivals_that_differ_or_fail_are_named_and_not_timed() -> None:
    def broken() -> None:
        raise RuntimeError("no such op")

    # names without a package of their own
    kept = {"torchvision": torch.arange(3), "hasty": torch.arange(2)}
    rivals = {name: gives(result) for name, result in kept.items()}
    rivals["broken"] = Contender(lambda: broken)
    case = replace(case_of(gives(torch.arange(3)), rivals), same=torch.equal)
    row, measured = measure(case, 0.01)
    assert row["skipped"]["hasty"] == "differs: 2 kept, ours 3 kept"
    assert "hasty" not in measured.samples
    text = printed([row])
    assert "hasty is not timed on work: differs: 2 kept, ours 3 kept" in text
    assert "broken is not timed on work: failed: RuntimeError: no such op" in text


def test_rivals_that_are_not_installed_are_named_in_one_line(monkeypatch) -> None:
    monkeypatch.setitem(MODULES, "powerboxes", ("no_such_package",))
    monkeypatch.setitem(MODULES, "OpenVINO", ("no_such_other", "nor_this"))
    rows = [
        measure(replace(case, work=f"work {i}"), 0.01)[0]
        for i, case in enumerate(
            [
                case_of(
                    gives(1),
                    {"torchvision": gives(1), "powerboxes": gives(1), "OpenVINO": gives(1)},
                )
            ]
            * 2
        )
    ]
    line = (
        "not installed: powerboxes, OpenVINO (pip install no_such_package no_such_other nor_this)"
    )
    assert printed(rows).count(line) == 1


def test_a_goal_against_a_peer_that_is_not_installed_is_not_judged(monkeypatch) -> None:
    monkeypatch.setitem(MODULES, "powerboxes", ("no_such_package",))
    rivals = {"powerboxes": gives(1)}
    case = case_of(gives(1), rivals, must=Must("times", 10, 30))
    row, _ = measure(case, 0.01)
    assert row["skipped"] == {"powerboxes": "not installed"}
    assert "must" not in row
    assert "met" not in row
    assert "not installed: powerboxes" in printed([row])


def test_torch_and_torchvision_are_enough(monkeypatch) -> None:
    for name in MODULES:
        monkeypatch.setitem(MODULES, name, ("no_such_package",))
    contest = open_case(next(cases("nms")))
    assert contest.functions.keys() == {"detcore", "torchvision"}
    assert set(contest.skipped.values()) == {"not installed"}


@pytest.mark.parametrize(
    ("must", "good", "bad", "text"),
    [
        (Must("times", 25, 50), 30, 20, ">= 25x"),
        (Must("limit", 1.3, 1.05), 1.2, 1.4, "<= 1.3x limit"),
        (Must("ms", 15, 6), 10, 20, "<= 15 ms"),
    ],
)
def test_goals(must: Must, good: float, bad: float, text: str) -> None:
    assert str(must) == text
    assert must.met(good) and not must.met(bad)
    assert not must.met(good, aim=True)


def test_the_table_has_a_row_a_case_and_says_which_goals_are_met(tmp_path) -> None:
    must, far = Must("times", 2, 1000), Must("times", 1000, 2000)
    limited = {"limit": gives(1, 0.002), "must": Must("limit", 3, 0.001)}
    made = [
        case_of(gives(1, 0.002), {"torchvision": gives(1, 0.02)}, must=must),
        case_of(gives(1, 0.002), {"plain PyTorch": gives(1, 0.02)}, must=far),
        case_of(gives(1, 0.002), {"torchvision": gives(1, 0.02), "other": gives(1)}, **limited),
    ]
    rows = [measure(replace(c, work=f"work {i}"), 0.05)[0] for i, c in enumerate(made)]
    text = printed(rows)
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert ">= 2x" in lines["work 0"] and "met" in lines["work 0"]
    assert ">= 1000x" in lines["work 1 (peer: plain PyTorch)"]
    assert "no" in lines["work 1 (peer: plain PyTorch)"].split()
    assert "<= 3x limit" in lines["work 2"] and "%" in lines["work 2"]
    assert "2 of 3 goals met, 0 of the further aims" in text
    assert "best other" not in text and "best other" in printed(rows, width=90)
    assert len(json.loads(bench.to_json(rows))["rows"]) == 3


def test_cuda_stands_beside_the_cpu() -> None:
    row, _ = measure(case_of(gives(1), {"torchvision": gives(1)}), 0.01)
    table = bench.table_of([row, row | {"device": "cuda"}])
    assert table.row_count == 1
    heads = [str(column.header) for column in table.columns]
    assert heads[-5:] == ["CUDA", "torchvision", "times", "call", "limit"]


def test_a_device_has_times_of_its_own_and_a_limit_by_bytes() -> None:
    """Uses the CPU's clock as the device's clock."""
    inputs = (torch.zeros(1000),)
    made = case_of(gives(torch.zeros(50), 0.01), {"torchvision": gives(1, 0.05)})
    case = replace(made, inputs=lambda: inputs, same=lambda *_: True)
    row, measured = measure_device(case, 0.2, "cpu")
    assert row["bytes"] == 4 * 1050
    assert row["limit_ms"] == pytest.approx(1e3 * 4200 / row["bandwidth"])
    assert row["of_limit"] == pytest.approx(row["runs"]["detcore"]["ms"] / row["limit_ms"])
    # on a busy machine a sleep may take longer by as much as the shorter sleep
    assert 1.5 < row["times"]["torchvision"] < 7 and 1.5 < row["call_times"]["torchvision"] < 7
    assert row["runs"]["detcore"].keys() == {"ms", "spread", "count", "how", "call_ms"}
    assert row["runs"]["detcore"]["how"] == "clock" and len(measured.samples["torchvision"]) >= 3


def test_a_different_result_is_timed_where_that_is_wanted() -> None:
    case = case_of(gives(1), {"torchvision": gives(2)})
    row, _ = measure_device(case, 0.01, "cpu", strict=False)
    assert row["differs"] == "result differs from torchvision's: another result"
    assert row["runs"].keys() == {"detcore", "torchvision"}
    with pytest.raises(AssertionError, match="another result"):
        measure_device(case, 0.01, "cpu")


def test_bytes_are_those_of_the_arithmetic() -> None:
    """`scripts/cuda_limits.py` also counts the order for NMS, and assumes all boxes are kept."""
    by_work = {case.work: case for case in cases()}
    compared = 0
    for work in cuda_limits.works():
        case = by_work.get(work.name)
        if case is None or "100,000" in work.name or "NCHW" in work.name:
            continue
        contest = open_case(replace(case, rivals={}, truth=None))
        if "nms" in work.name:
            assert 0.5 * work.bytes < contest.bytes <= work.bytes, work.name
        else:
            # boxes in a list have four numbers, RoIs have five
            assert contest.bytes == pytest.approx(work.bytes, rel=1e-4), work.name
        compared += 1
    assert compared >= 8


def test_main_prints_and_writes_one_op(tmp_path, capsys, monkeypatch) -> None:
    only = [
        case_of(gives(1), {"torchvision": gives(1)}),
        case_of(gives(1), {"torchvision": gives(1)}),
    ]
    only[1] = replace(only[1], work="slow work", quick=False)
    monkeypatch.setattr(bench, "cases", lambda: iter(only))
    bench.main(op="op", json=tmp_path / "b.json")
    assert [row["work"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]] == [
        "work"
    ]
    assert "slow work" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="bench: op must be one of op, got nothing"):
        bench.main(op="nothing")


def test_the_charts_are_drawn(tmp_path) -> None:
    from benchmarks.charts import draw_ratios, draw_scaling
    from benchmarks.scaling import scaling

    limited = case_of(
        gives(1),
        {"torchvision": gives(1), "OpenVINO": gives(1)},
        limit=gives(1),
        must=Must("limit", 2, 1),
    )
    rows = [measure(limited, 0.01)[0], measure(case_of(gives(1), {"peer": gives(1)}), 0.01)[0]]
    (tmp_path / "ratios.json").write_text(bench.to_json(rows))
    draw_ratios(tmp_path / "ratios.json", tmp_path / "ratios.png")

    ms = scaling([10, 100], budget=0.01)
    assert all(list(points) == [10, 100] for points in ms.values())
    assert {"detcore", "torchvision"} <= set(ms)
    (tmp_path / "scaling.json").write_text(json.dumps({"machine": "this one", "ms": ms}))
    draw_scaling(tmp_path / "scaling.json", tmp_path / "scaling.png")
    for name in ("ratios.png", "scaling.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_the_recording_is_a_detectors_own() -> None:
    box, score, label, image = inputs.digits()
    assert len(box) > 5000 and image.max() == 31 and label.max() == 9
    assert (score > 0).all() and (box[:, 2:] > box[:, :2]).all()


def test_every_stem_has_cases_of_its_own() -> None:
    works = [case.work for case in cases()]
    assert len(works) == len(set(works))
    assert {case.op for case in cases()} >= set(STEMS)


@pytest.mark.parametrize("op", sorted({case.op for case in cases()}))
def test_every_quick_case_agrees_with_its_peer(op: str, small: Callable[[Case], bool]) -> None:
    found = [case for case in cases(op) if small(case)]
    assert found
    for case in found:
        contest = open_case(case, slow_start=False)
        assert not any(reason.startswith("failed") for reason in contest.skipped.values())


@pytest.fixture
def small() -> Callable[[Case], bool]:
    """Quick cases without matrices and maps of tens of megabytes."""
    large = ("4,096", "200,000", "RPN", "1,000 RoIs")
    return lambda case: case.quick and not any(word in case.work for word in large)
