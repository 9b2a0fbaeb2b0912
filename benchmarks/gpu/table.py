"""The results as at most sixty lines for a reader."""

import re
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.rows import Row

MOST = 60
_WIDTH = 118
_FAILURES, _MODELS, _KERNELS, _NOTES = 8, 12, 6, 3
Report = dict[str, Any]


def is_small(work: str) -> bool:
    """Whether a case has about ten boxes: it measures the call, not the device."""
    return bool(re.search(r"\b(10|9) (boxes|RoIs|pairs|x 10\b)|_boxes 10$", work))


def lines(report: Report) -> list[str]:
    """Machine, parts, failures, notes, detectors, kernels; figures of ops fill the rest."""
    parts = report["parts"]
    head = [*_machine(report), *_parts(parts), *_failures(parts)]
    tail = [*_models(parts), *_kernels(parts), *_notes(parts), *_files(report)]
    room = MOST - len(head) - len(tail)
    table = [*head, *_figures(parts, room), *tail]
    return [line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..." for line in table]


def _machine(report: Report) -> Iterator[str]:
    found, build = report["machine"], report["build"]
    gpu = f"{found.get('gpu')} ({found.get('gpu_gib')} GiB)" if found.get("gpu") else "no GPU"
    smi = found.get("nvidia_smi") or {}
    driver = f", driver {smi['driver_version']}" if "driver_version" in smi else ""
    dry = "DRY RUN, the processor stands for the GPU: " if report["dry"] else ""
    versions = (f"{name} {found.get(name)}" for name in ("torch", "python", "nvcc"))
    yield ", ".join((f"{dry}{gpu}{driver}", *versions))
    why = f" ({build['why']})" if build["why"] else ""
    took = f"{build['seconds']:.0f} s for {build['target']}"
    yield f"build {build['status']}, {took}{why}; {report['seconds']:.0f} s in all"
    busy = smi.get("utilization.gpu", "0 %").split()[0]
    if busy.isdigit() and int(busy) > 10:
        yield f"the GPU was {busy}% busy before the check: its times may be too long"
    free, total = found.get("gpu_free_gib"), found.get("gpu_gib")
    if free is not None and free < total / 2:
        yield f"of its {total} GiB {free} were free: others use it, or its memory is used up"


def _parts(parts: Report) -> Iterator[str]:
    for name, part in parts.items():
        failed = sum(not row["ok"] for row in part["rows"])
        counts = f"{len(part['rows'])} results" + (f", {failed} not right" if failed else "")
        if name == "tests" and "passed" in part["facts"]:
            counts = ", ".join(f"{n} {what}" for what, n in part["facts"].items())
        why = f", {part['why']}" if part["why"] else ""
        took = f"{part['seconds']:4.0f} of {part['limit_s']:4.0f} s"
        yield f"{name:8} {part['status']:8} {took}  {counts}{why}"


def _failures(parts: Report) -> Iterator[str]:
    wrong = [
        f"  {name}: {row['item']}: {row.get('error', '')}"
        for name, part in parts.items()
        for row in part["rows"]
        if not row["ok"]
    ]
    yield from wrong[:_FAILURES]
    if len(wrong) > _FAILURES:
        yield f"  ... and {len(wrong) - _FAILURES} more in failures.txt"


def _notes(parts: Report) -> Iterator[str]:
    notes = [f"  {name}: {note}" for name, part in parts.items() for note in part["notes"]]
    yield from notes[:_NOTES]
    if len(notes) > _NOTES:
        yield f"  ... and {len(notes) - _NOTES} more notes in gpu.json"


def _figures(parts: Report, room: int) -> Iterator[str]:
    found = [row for row in parts.get("figures", {}).get("rows", []) if "runs" in row]
    if not found or room < 4:
        return
    rate = parts["figures"]["facts"].get("bandwidth_gb_s", 0)
    yield (
        f"{f'device us (g graph, e events), copy {rate:,.0f} GB/s':51}{'detcore':>11}{'peer':>11}"
        f"{'times':>7}{'limit us':>10}{'share':>6}{'call us':>10}{'peer':>10}"
    )
    shown = found if len(found) <= room - 1 else _of_every_op(found, room - 2)
    yield from map(_figure, shown)
    if len(shown) < len(found):
        yield f"  ... and {len(found) - len(shown)} more in gpu.json"


def _of_every_op(found: list[Row], room: int) -> list[Row]:
    """At most `room` rows: the first of every op, then the second, and so on. Small cases, which
    only measure the call, come last."""
    ops = [row["op"] for row in found]
    turn = [(is_small(row["work"]), ops[:i].count(ops[i]), i) for i, row in enumerate(found)]
    return [found[i] for i in sorted(i for _, _, i in sorted(turn)[:room])]


def _figure(row: Row) -> str:
    ours, peer = row["runs"]["detcore"], row["runs"].get(row["peer"])
    theirs, call, times = ("", "", "")
    if peer:
        theirs, call = f"{_us(peer['ms'])} {peer['how'][0]}", _us(peer["call_ms"])
        faster = row["times"][row["peer"]]
        times = f"{faster:,.0f}" if faster >= 100 else f"{faster:.3g}"
    work = row["work"] if row["ok"] else f"! {row['work']}"
    return (
        f"{work[:50]:51}{_us(ours['ms']):>9} {ours['how'][0]}{theirs:>11}{times:>7}"
        f"{_us(row['limit_ms']):>10}{1 / row['of_limit']:6.0%}{_us(ours['call_ms']):>10}{call:>10}"
    )


def _us(ms: float) -> str:
    """Microseconds; from ten thousand on, milliseconds with their unit."""
    us = 1e3 * ms
    return f"{us:.2f}" if us < 10 else f"{us:,.1f}" if us < 1e4 else f"{ms:,.0f} ms"


def _models(parts: Report) -> Iterator[str]:
    """One line per variant: ours and torchvision's of each network."""
    by_variant: dict[str, list[str]] = {}
    for row in parts.get("models", {}).get("rows", []):
        if "detcore_ms" in row:
            network, variant = row["item"].split(" ", 1)
            theirs = f" / {row['torchvision_ms']:.1f}" if "torchvision_ms" in row else ""
            by_variant.setdefault(variant, []).append(f"{network} {row['detcore_ms']:.1f}{theirs}")
    if by_variant:
        images = parts["models"]["facts"].get("images")
        yield f"detectors, ms for {images} images, detcore / torchvision:"
    for variant, texts in list(by_variant.items())[: _MODELS - 1]:
        yield f"  {variant:28} {', '.join(texts)}"


def _kernels(parts: Report) -> Iterator[str]:
    """Results of ncu, or if there are none, of torch's profiler."""
    found = parts.get("profile", {}).get("rows", [])
    looked_at = [kernel for row in found for kernel in row.get("kernels", []) if "stalls" in kernel]
    if looked_at:
        yield "kernels by ncu: us, MB, occupancy %, what warps wait for:"
        slow = sorted(looked_at, key=lambda kernel: -kernel["us"])
        for k in slow[: _KERNELS - 1]:
            stalls = ", ".join(f"{name} {value:.1f}" for name, value in k["stalls"].items())
            numbers = f"{k['us']:9.1f}{k['bytes'] / 1e6:9.2f}{k['occupancy']:6.0f}"
            yield f"  {_short(k['name'])[:44]:45}{numbers}  {stalls}"
        return
    timed = [row for row in found if row.get("kernels")]
    if timed:
        yield "the kernels of a call by torch's profiler, us:"
    for row in timed[: _KERNELS - 1]:
        longest = sorted(row["kernels"], key=lambda kernel: -kernel["us"])[:3]
        names = ", ".join(f"{_short(kernel['name'])[:24]} {kernel['us']:.1f}" for kernel in longest)
        yield f"  {row['item'][:44]:45}{row['busy_us']:9.1f} in {len(row['kernels'])}: {names}"


def _short(kernel: str) -> str:
    return re.sub(r"^void |detcore::|<unnamed>::|\(anonymous namespace\)::|\(.*", "", kernel)


def _files(report: Report) -> Iterator[str]:
    yield f"all of it in gpu.json, gpu.log, failures.txt, memory.txt, profile.*: {report['out']}"
