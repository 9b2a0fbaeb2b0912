"""Runs the parts one after the other, each in its own process, and saves their results."""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import process, rows
from benchmarks.gpu.machine import ROOT
from benchmarks.gpu.parts import Part

LEAST = 8.0  # seconds; with less, a new process is useless, because it needs some to start CUDA
RESTARTS = 12


@dataclass
class Check:
    """State of all parts. report: the contents of gpu.json, which is rewritten after each part."""

    out: Path
    scratch: Path
    env: dict[str, str]
    dry: bool
    deadline: float  # a time of time.monotonic()
    factor: float = 1.0  # for the limits of parts
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.out / "gpu.log"

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def write(self) -> None:
        """Write gpu.json and failures.txt, so that they are complete at any time."""
        _replace(self.out / "gpu.json", json.dumps(self.report, indent=1, default=str) + "\n")
        lines = [
            f"{name}: {row['item']}: {row.get('error', '')}\n"
            for name, part in self.report["parts"].items()
            for row in part["rows"]
            if not row["ok"]
        ]
        _replace(self.out / "failures.txt", "".join(lines))


def run_part(check: Check, part: Part) -> dict[str, Any]:
    """Run one part to its end or limit. Its results go into check.report at once."""
    limit = min(part.seconds * check.factor, check.left() - 3)
    result: dict[str, Any] = {
        "status": "running", "why": "", "seconds": 0.0, "limit_s": round(limit, 1), "restarts": 0,
        "facts": {}, "rows": [], "notes": [],
    }  # fmt: skip
    check.report["parts"][part.name] = result
    if limit < LEAST:
        result |= {"status": "not run", "why": "no time was left"}
        print(f"--- {part.name}: not run, no time was left", flush=True)
        check.write()
        return result
    print(f"--- {part.name}: {part.what}, at most {limit:.0f} s", flush=True)
    path = check.scratch / f"{part.name}.jsonl"
    begin = time.monotonic()
    try:
        ended = _until_done(check, part, path, limit, result)
        result["why"] = ended.reason
    except BaseException:
        result["why"] = "interrupted"
        raise
    finally:
        _gather(path, result)
        result["seconds"] = round(time.monotonic() - begin, 1)
        result["status"] = _status(result)
        check.write()
    failed = sum(not row["ok"] for row in result["rows"])
    why = f", {result['why']}" if result["why"] else ""
    print(f"    {result['status']}: {len(result['rows'])} results, {failed} not right, "
          f"{result['seconds']:.0f} s{why}", flush=True)  # fmt: skip
    return result


def _until_done(
    check: Check, part: Part, path: Path, limit: float, result: dict[str, Any]
) -> process.Ended:
    """Start the part; if it died or hung in an item, start it again without the begun items."""
    begin = time.monotonic()
    skip: list[str] = []
    while True:
        command = [sys.executable, "-m", "benchmarks.gpu.child", part.module, str(path), *skip]
        left = limit - (time.monotonic() - begin)
        started = time.time()
        ended = process.run(
            command, check.log, left, env=check.env, cwd=ROOT,
            silent_for=lambda since=started: time.time() - max(since, _changed(path)),
            silence=part.silence * check.factor,
            watch=_progress(part.name, path, limit - left),
        )  # fmt: skip
        if ended.code == 0:
            return process.Ended(0, ended.seconds)
        found = rows.read(path)
        unfinished = found["begun"]
        for item in unfinished:
            rows.Rows(path).add(item, ok=False, error=f"the process {ended.reason}")
        done = [row["item"] for row in found["rows"]] + unfinished
        # only if there was progress, because otherwise it would fail in the same way again
        again = (unfinished or ended.code == rows.DEAD_DEVICE) and len(done) > len(skip)
        time_left = limit - (time.monotonic() - begin) > LEAST
        if again and time_left and result["restarts"] < RESTARTS:
            result["restarts"] += 1
            skip = done
            continue
        return process.Ended(ended.code, ended.seconds, ended.reason)


def _gather(path: Path, result: dict[str, Any]) -> None:
    found = rows.read(path)
    result |= {key: found[key] for key in ("rows", "facts", "notes")}
    for item in found["begun"]:
        result["rows"].append({"item": item, "ok": False, "error": "interrupted"})


def _status(result: dict[str, Any]) -> str:
    if not result["why"] and result["rows"] and all(row["ok"] for row in result["rows"]):
        return "passed"
    return "stopped" if result["why"].startswith(("stopped", "interrupted")) else "failed"


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _progress(name: str, path: Path, before: float) -> Any:
    last = 0.0

    def watch(seconds: float) -> None:
        nonlocal last
        if seconds - last < 10:
            return
        last = seconds
        found = rows.read(path)
        counts = [
            f"{found['facts'][key]} {key}" for key in ("passed", "failed") if key in found["facts"]
        ]
        done = counts or [f"{len(found['rows'])} results"]
        now = found["begun"][-1:]
        print(f"    {name}: {before + seconds:.0f} s", *done, *now, sep=", ", flush=True)

    return watch


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".part")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
