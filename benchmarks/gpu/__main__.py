"""python -m benchmarks.gpu [PART ...]: see scripts/gpu_check.sh, which selects the Python."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu import build, machine, parts, table
from benchmarks.gpu.runner import Check, run_part

DESCRIPTION = """Checks detcore on this machine's GPU within eight minutes: builds in place for that
GPU alone, then runs the parts, each in its own process with a time limit of its own."""
OUTPUTS = ("gpu.json", "gpu.log", "failures.txt", "memory.txt", "profile.ncu-rep", "profile.csv")


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all passed, 1 if something failed or is missing, 2 for wrong usage."""
    begin = time.monotonic()
    given = _parse(arguments)
    try:
        selected = parts.chosen(given.parts)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    dry = os.environ.get("DETCORE_GPU_CHECK_DRY") == "1"
    out = Path(os.environ.get("OUT") or "benchmarks/results").resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in OUTPUTS:  # delete the files of an earlier run
            (out / name).unlink(missing_ok=True)
        (out / "gpu.log").touch()
    except OSError as error:
        said = f"OUT must be a writable folder, got {out}: {error.strerror}"
        print(f"gpu_check: {said}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as scratch:
        check = _check(out, Path(scratch), dry, begin)
        try:
            _work(check, selected, given.build)
        except KeyboardInterrupt:
            print("interrupted: what was found so far follows", flush=True)
        except Exception:  # the table must be printed in any case
            traceback.print_exc()
        check.report["seconds"] = round(time.monotonic() - begin, 1)
        check.write()
    print("\n" + "\n".join(table.lines(check.report)), flush=True)
    ended = [check.report["build"], *check.report["parts"].values()]
    done = len(check.report["parts"]) == len(selected)
    return 0 if done and all(e["status"] in ("passed", "left out") for e in ended) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    known = "\n".join(f"  {part.name:9} {part.what}" for part in parts.PARTS)
    parser = argparse.ArgumentParser(
        "gpu_check.sh",
        description=DESCRIPTION,
        epilog=f"parts, all if none is named:\n{known}\n\nOUT=folder takes what is written, "
        "benchmarks/results/ by default.\nDETCORE_GPU_CHECK_DRY=1 walks through all on the CPU.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--no-build", dest="build", action="store_false", help="detcore is built")
    return parser.parse_args(arguments)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _check(out: Path, scratch: Path, dry: bool, begin: float) -> Check:
    env = build.environment(scratch)
    os.environ["PATH"] = env["PATH"]
    env |= {"DETCORE_GPU_CHECK_OUT": str(out), "DETCORE_GPU_CHECK_DRY": "1" if dry else "0"}
    factor = parts.DRY_FACTOR if dry else 1.0
    check = Check(out, scratch, env, dry, begin + parts.WHOLE * factor, factor)
    nothing = {"status": "not run", "why": "", "seconds": 0.0, "target": None}
    check.report |= {
        "dry": dry,
        "out": str(out),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": 0.0,
        "machine": {},
        "build": nothing,
        "parts": {},
    }
    return check


def _work(check: Check, selected: list[parts.Part], wanted: bool) -> None:
    found = check.report["machine"] = _machine(check)
    lacks = machine.lacking(found, check.dry)
    if wanted:
        lacks += machine.lacking_to_build(found, check.dry)
    target = build.DRY_TARGET if check.dry else found.get("capability")
    check.env["DETCORE_GPU_CHECK_TARGET"] = str(target)
    result = check.report["build"]
    result |= {"status": "left out", "target": target}
    if lacks:
        result |= {"status": "not run", "why": "; ".join(lacks)}
        print("gpu_check: " + "\ngpu_check: ".join(lacks), file=sys.stderr, flush=True)
        return
    gpu = found["gpu"] or "no GPU"
    print(f"{gpu}, torch {found['torch']}, Python {found['python']}", flush=True)
    if wanted:
        _build(check, result)
        check.write()
        if result["status"] != "passed":
            return
    for part in selected:
        run_part(check, part)


def _machine(check: Check) -> dict[str, Any]:
    """The machine's facts, from another process, because the driver may hang."""
    command = [sys.executable, "-m", "benchmarks.gpu.machine"]
    nothing: dict[str, Any] = dict.fromkeys(("gpu", "torch", "torch_cuda", "nvcc", "nvidia_smi"))
    nothing |= {"executable": sys.executable, "packages": {"pybind11": None}, "python": None}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=check.env,
                              cwd=machine.ROOT, check=True)  # fmt: skip
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return nothing | {"torch_error": "asking torch for the GPU did not end within 90 s"}
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        return nothing | {"torch_error": f"asking torch for the GPU failed: {''.join(said)}"}


def _build(check: Check, result: dict[str, Any]) -> None:
    print(f"--- building detcore in place for {result['target']}, with all cores", flush=True)
    limit = min(parts.BUILD * check.factor, check.left())
    ended = build.build(result["target"], check.dry, check.log, check.env, limit, _progress(check))
    status = "passed" if ended.code == 0 else "failed"
    result |= {"status": status, "why": ended.reason, "seconds": round(ended.seconds, 1)}
    print(f"    {status} after {ended.seconds:.0f} s", flush=True)
    if status == "failed":
        last = check.log.read_text(encoding="utf-8", errors="replace").splitlines()
        wrong = [line for line in last if "error" in line.lower()]
        print("\n".join(wrong[:5] + last[-10:]), flush=True)
        result["why"] = (wrong or last[-1:] or [ended.reason])[0].strip()[:300]


def _progress(check: Check) -> Any:
    last = 0.0

    def watch(seconds: float) -> None:
        nonlocal last
        if seconds - last >= 10:
            last = seconds
            said = check.log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
            print(f"    {seconds:.0f} s {''.join(said)[:90]}", flush=True)

    return watch


if __name__ == "__main__":
    raise SystemExit(main())
