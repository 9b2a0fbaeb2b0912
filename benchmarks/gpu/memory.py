"""Runs compute-sanitizer's four tools on the C++ program that calls every launcher."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.build import built_program
from benchmarks.gpu.rows import Row, Rows

# in order of value: the first tools find what the simulator finds least
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SECONDS = 55.0  # for all of them
_FOUND_ERRORS = 99


def command(tool: str, program: Path) -> list[str]:
    """`bare`: output memory is not initialized, or initcheck would find nothing."""
    sanitizer = ["compute-sanitizer", "--tool", tool, "--print-limit", "20"]
    return [*sanitizer, "--error-exitcode", str(_FOUND_ERRORS), str(program), "bare"]


def main(rows: Rows, dry: bool) -> None:
    """Without a GPU, run the program once in the simulator, which does all checks itself."""
    program = built_program(os.environ["DETCORE_GPU_CHECK_TARGET"], dry)
    if program is None:
        raise RuntimeError("the launchers' test program is not built: run without --no-build")
    if not dry and shutil.which("compute-sanitizer") is None:
        rows.note("there is no compute-sanitizer on PATH or in the CUDA toolkit's folders")
        rows.each([("launchers alone", partial(_alone, program))])
        raise SystemExit(1)
    if dry:
        for tool in TOOLS:
            rows.note("on a GPU: " + " ".join(command(tool, program)))
    rows.each(items(program, dry))


def items(program: Path, dry: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    if dry:
        yield "simulator", partial(_alone, program)
        return
    end = time.monotonic() + SECONDS
    for i, tool in enumerate(TOOLS):
        # time that one tool does not use goes to the next ones
        share = max((end - time.monotonic()) / (len(TOOLS) - i), 5.0)
        yield tool, partial(_checked, tool, program, share)


def _checked(tool: str, program: Path, seconds: float) -> Row:
    output, code = _output_of(command(tool, program), seconds)
    _keep(f"=== {tool}\n{output}\n")
    summaries = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY: .*)", output)
    findings = re.findall(r"=+ +((?:Invalid|Error|Warning|Uninitialized|Race|Barrier).*)", output)
    if code is None:
        raise RuntimeError(f"not through after {seconds:.0f} s: {len(findings)} findings so far")
    if code != 0 or not summaries:
        last = (findings or output.strip().splitlines() or ["nothing said"])[0 if findings else -1]
        said = summaries[-1] if summaries else f"exit code {code}"
        return {"ok": False, "error": f"{said}; {last}"[:300], "findings": len(findings)}
    return {"summary": summaries[-1]}


def _alone(program: Path) -> Row:
    for given in ([], ["bare"]):
        output, code = _output_of([str(program), *given], SECONDS * 10)
        _keep(f"=== {program.name} {' '.join(given)}\n{output}\n")
        if code != 0:
            lines = output.strip().splitlines() or ["nothing said"]
            raise RuntimeError(f"exit code {code}: {lines[-1]}")
    return {"summary": output.strip().splitlines()[-1]}


def _output_of(command: list[str], seconds: float) -> tuple[str, int | None]:
    """A command's output and exit code, which is None if it had to be stopped."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        return (stopped.stdout or b"").decode(errors="replace"), None
    return done.stdout.decode(errors="replace"), done.returncode


def _keep(text: str) -> None:
    path = Path(os.environ["DETCORE_GPU_CHECK_OUT"]) / "memory.txt"
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
