"""The code of the parts that needs no GPU, with sample output of the GPU tools."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import machine, memory, parts, profile, rows, table, tests

CASE = {
    "op": "nms", "work": "nms 10,000 boxes", "ok": True, "item": "nms 10,000 boxes",
    "peer": "torchvision", "times": {"torchvision": 12.5}, "limit_ms": 0.0004, "of_limit": 200.0,
    "runs": {
        "detcore": {"ms": 0.08, "how": "events", "call_ms": 0.09},
        "torchvision": {"ms": 1.0, "how": "graph", "call_ms": 1.1},
    },
}  # fmt: skip


def part(found: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "status": "failed", "why": "", "seconds": 12.0, "limit_s": 60.0, "restarts": 0,
        "facts": {}, "notes": [], "rows": found,
    } | fields  # fmt: skip


def report(found: dict[str, Any]) -> dict[str, Any]:
    about = {"gpu": "NVIDIA H100", "gpu_gib": 79.2, "torch": "2.11.0", "python": "3.12.3"}
    about |= {"nvcc": "13.0", "nvidia_smi": {"driver_version": "580.1", "utilization.gpu": "97 %"}}
    built = {"status": "passed", "why": "", "seconds": 88.0, "target": "9.0"}
    return {"dry": False, "out": "results", "time": "", "seconds": 400.0, "machine": about,
            "build": built, "parts": found}  # fmt: skip


def everything() -> dict[str, Any]:
    wrong = [{"item": f"test {i}", "ok": False, "error": "x" * 500} for i in range(300)]
    works = [CASE | {"work": f"nms {i} boxes", "item": f"nms {i}"} for i in range(100, 400)]
    tiny = [CASE | {"work": "nms 10 boxes", "item": "nms 10 boxes"}]
    models = [
        {"item": f"faster_rcnn variant {i}", "ok": True, "detcore_ms": 10.0, "torchvision_ms": 20.0}
        for i in range(50)
    ]
    kernel = {"name": "void detcore::<unnamed>::k<float>(int)", "us": 5.0, "bytes": 1e6,
              "occupancy": 50.0, "stalls": {"barrier": 3.0}}  # fmt: skip
    ncu = [{"item": "ncu", "ok": True, "kernels": [kernel] * 40}]
    return {
        "smoke": part([{"item": "nms", "ok": True}], status="passed"),
        "figures": part([*tiny, *works], facts={"bandwidth_gb_s": 3000.0}),
        "tests": part(wrong, facts={"passed": 1000, "failed": 300, "skipped": 2}),
        "memory": part(wrong, notes=["y" * 300] * 50),
        "models": part(models, facts={"images": 4}),
        "profile": part(ncu),
    }


def test_the_table_has_sixty_lines_whatever_was_found() -> None:
    lines = table.lines(report(everything()))
    assert len(lines) == 60 and max(map(len, lines)) <= 118
    text = "\n".join(lines)
    for told in ("NVIDIA H100", "driver 580.1", "97% busy", "1000 passed, 300 failed", "nms 100",
                 "failures.txt", "copy 3,000 GB/s", "k<float>", "barrier 3.0"):  # fmt: skip
        assert told in text, told
    assert "10 boxes" not in text.replace("100 boxes", "").replace("110 boxes", "")


def test_the_table_tells_each_case_in_a_line() -> None:
    found = {"figures": part([CASE], status="passed", facts={"bandwidth_gb_s": 3000.0})}
    line = next(x for x in table.lines(report(found)) if x.startswith("nms 10,000"))
    assert " ".join(line.split()[3:]) == "80.0 e 1,000.0 g 12.5 0.40 0% 90.0 1,100.0"


def test_an_empty_report_has_a_table_too() -> None:
    nothing = report({}) | {"machine": {}}
    nothing["build"] = {"status": "not run", "why": "no torch", "seconds": 0.0, "target": None}
    assert any("no torch" in line for line in table.lines(nothing))


@pytest.mark.parametrize(
    ("work", "small"),
    [("nms 10 boxes", True), ("nms 10,000 boxes", False), ("decode_boxes 10", True),
     ("box_iou 10 x 10", True), ("match_boxes 10 x 8,732", False), ("decode_dense 9 boxes", True),
     ("nms 100 boxes", False), ("roi_align 10 RoIs of a small map", True)],
)  # fmt: skip
def test_small_cases(work: str, small: bool) -> None:
    assert table.is_small(work) == small


def test_the_limits_fit_into_eight_minutes() -> None:
    # a build takes 90 s there; if all parts use their limits, the last gets the remaining time
    assert parts.WHOLE <= 8 * 60 and sum(p.seconds for p in parts.PARTS) <= parts.WHOLE - 60
    assert [p.name for p in parts.chosen(["models", "smoke"])] == ["smoke", "models"]


# --- what a machine lacks ------------------------------------------------------------------------
def found(**fields: Any) -> dict[str, Any]:
    return {
        "executable": "python", "torch": "2.11.0+cu130", "torch_error": None, "torch_cuda": "13.0",
        "gpu": "NVIDIA H100", "gpu_error": None, "nvcc": "13.0", "packages": {"pybind11": "3.0"},
        "nvidia_smi": {"driver_version": "535.1"},
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"torch": "2.9.1+cu128"}, "torch must be 2.10 or newer, got 2.9.1+cu128"),
        ({"torch": None, "torch_error": "no module"}, "python has no torch (no module)"),
        ({"torch_cuda": None, "torch": "2.11.0+cpu"}, "a build with CUDA, got 2.11.0+cpu"),
        (
            {"gpu": None, "gpu_error": "driver is too old"},
            "(CUDA 13.0) can't use a GPU here: driver is too old (driver: 535.1)",
        ),
    ],
)
def test_what_the_check_lacks(fields: dict[str, Any], text: str) -> None:
    (said,) = machine.lacking(found(**fields), dry=False)
    assert text in said


def test_what_the_build_lacks() -> None:
    assert machine.lacking(found(), dry=False) == []
    lacks = machine.lacking_to_build(found(nvcc=None, packages={"pybind11": None}), dry=False)
    assert "python has no pybind11" in lacks and any("(nvcc)" in said for said in lacks)


# --- the tools' output ---------------------------------------------------------------------------
def sanitizer(folder: Path, text: str, code: int, seconds: float = 0) -> None:
    path = folder / "compute-sanitizer"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nsleep {seconds}\nexit {code}\n")
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DETCORE_GPU_CHECK_OUT", str(tmp_path))
    return tmp_path


def test_a_tool_that_finds_nothing(folder: Path) -> None:
    sanitizer(folder, "all checks passed\n========= ERROR SUMMARY: 0 errors", 0)
    row = memory._checked("memcheck", Path("program"), 5)
    assert row == {"summary": "ERROR SUMMARY: 0 errors"}
    assert "=== memcheck\nall checks passed" in (folder / "memory.txt").read_text()


def test_a_tool_that_finds_something(folder: Path) -> None:
    text = "========= Invalid __global__ read of size 4 bytes\n========= ERROR SUMMARY: 1 error"
    sanitizer(folder, text, 99)
    row = memory._checked("memcheck", Path("program"), 5)
    assert not row["ok"] and row["findings"] == 1
    assert row["error"] == "ERROR SUMMARY: 1 error; Invalid __global__ read of size 4 bytes"


def test_a_tool_that_does_not_end(folder: Path) -> None:
    sanitizer(folder, "========= Race reported between", 0, seconds=20)
    with pytest.raises(RuntimeError, match="not through after 1 s: 1 findings so far"):
        memory._checked("racecheck", Path("program"), 1)


CSV = """==PROF== Connected to process 1
"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum","launch__registers_per_thread","sm__warps_active.avg.pct_of_peak_sustained_active","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio","smsp__average_warps_issue_stalled_wait_per_issue_active.ratio"
"","","usecond","Kbyte","Mbyte","register/thread","%","inst","inst"
"0","void detcore::<unnamed>::block<float>(int)","12.50","1,024.00","2.00","40","51.2","0.5","3.25"
"""  # noqa: E501


def test_kernels_are_read_from_ncus_csv() -> None:
    (kernel,) = profile.kernels_of(CSV)
    assert kernel == {
        "name": "void detcore::<unnamed>::block<float>(int)",
        "us": 12.5,
        "bytes": 1024e3 + 2e6,
        "occupancy": 51.2,
        "registers": 40.0,
        "stalls": {"wait": 3.25, "barrier": 0.5},
    }


def test_ncu_that_may_not_count_is_quoted(folder: Path) -> None:
    path = folder / "ncu"
    path.write_text("#!/bin/sh\necho '==ERROR== ERR_NVGPUCTRPERM - no permission'\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(RuntimeError, match="ncu ended with exit code 1: ==ERROR== ERR_NVGPU"):
        profile._looked_at(profile.ncu(["nms 10 boxes"], folder), folder)


def test_pytest_runs_without_plugins_that_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests, "find_spec", lambda name: None)
    assert "-n" not in tests.command(dry=False)
    monkeypatch.setattr(tests, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(16))
    assert tests.command(dry=False)[-2:] == ["-n", "4"]


def test_the_last_line_of_a_killed_part_may_be_half(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    rows.Rows(path).add("whole")
    with path.open("a") as file:
        file.write('{"row": {"item": "ha')
    assert [row["item"] for row in rows.read(path)["rows"]] == ["whole"]


def test_every_op_has_a_line_where_not_all_cases_have() -> None:
    works = [CASE | {"op": op, "work": f"{op} {i}"} for op in ("nms", "iou") for i in range(100)]
    text = "\n".join(table.lines(report({"figures": part(works, facts={})})))
    assert "nms 0 " in text and "nms 20 " in text and "iou 20 " in text
    assert "more in gpu.json" in text and "nms 60 " not in text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.0004, "0.40"), (0.0123, "12.3"), (1.2345, "1,234.5"), (1234.5, "1,234 ms")]
)
def test_times_keep_their_columns(ms: float, text: str) -> None:
    assert table._us(ms) == text


def test_without_ncu_the_profilers_kernels_are_told() -> None:
    name = "void detcore::(anonymous namespace)::block_kernel<float>(int)"
    kernels = [{"name": name, "us": 4.0}, {"name": "Memset", "us": 1.0}]
    row = {"item": "nms 10,000 boxes", "ok": True, "busy_us": 5.0, "kernels": kernels}
    text = "\n".join(table.lines(report({"profile": part([row])})))
    assert "5.0 in 2: block_kernel<float> 4.0, Memset 1.0" in text


def test_what_is_far_from_its_limit_is_profiled(tmp_path: Path) -> None:
    assert profile.slowest(tmp_path / "gpu.json") == list(profile.DEFAULT)
    far = {"nms 100 boxes": 300.0, "nms 10 boxes": 900.0, "nms 1,000 boxes": 200.0}
    far |= {"nms 10,000 boxes": 100.0}
    works = [CASE | {"work": work, "of_limit": ratio} for work, ratio in far.items()]
    other = CASE | {"op": "box_iou", "work": "box_iou 4,096 x 4,096", "of_limit": 1.5}
    (tmp_path / "gpu.json").write_text(json.dumps(report({"figures": part([other, *works])})))
    wanted = ["nms 100 boxes", "nms 1,000 boxes", "box_iou 4,096 x 4,096"]
    assert profile.slowest(tmp_path / "gpu.json") == wanted
