"""A part's results, line by line in a file, which stays readable if the part is killed."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# the exit code of a part that needs a new process, because the GPU no longer works in this one
DEAD_DEVICE = 75


class Rows:
    """Writes the lines of a part. skip: items that an earlier process of the part had begun.

    A row has `item`, `ok`, and if not ok `error` (one line); each part defines its other fields.
    """

    def __init__(self, path: Path, skip: Iterable[str] = ()) -> None:
        self.path = path
        self.skip = frozenset(skip)

    def add(self, item: str, ok: bool = True, **fields: Any) -> None:
        self._write({"row": {"item": item, "ok": ok, **fields}})

    def fact(self, **facts: Any) -> None:
        """A fact about the whole part; the last value of a name counts."""
        self._write({"fact": facts})

    def note(self, text: str) -> None:
        """A line for the reader, such as what could not be done, and why."""
        self._write({"note": text})

    def each(self, items: Iterable[tuple[str, Callable[[], Row]]]) -> None:
        """Run items one after the other; an exception becomes the error in the item's row.

        After an error, test whether the GPU still works. If not, end this process; it is started
        again for the remaining items.
        """
        for name, run in items:
            if name in self.skip:
                continue
            self._write({"begin": name})
            begin = time.perf_counter()
            try:
                found = run()
            except Exception as error:  # items may raise anything
                self.add(name, ok=False, error=in_a_line(error))
                if not device_answers():
                    self.note(f"after {name} the GPU answered nothing more: a new process goes on")
                    raise SystemExit(DEAD_DEVICE) from error
            else:
                seconds = round(time.perf_counter() - begin, 3)
                self._write({"row": {"item": name, "ok": True, "seconds": seconds, **found}})

    def _write(self, line: Row) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def read(path: Path) -> Row:
    """rows, facts, notes; begun: items that have begun but have no row yet."""
    found: Row = {"rows": [], "facts": {}, "notes": [], "begun": []}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line of a killed process
            continue
        if "begin" in entry:
            found["begun"].append(entry["begin"])
        elif "row" in entry:
            found["rows"].append(entry["row"])
            if entry["row"]["item"] in found["begun"]:
                found["begun"].remove(entry["row"]["item"])
        elif "fact" in entry:
            found["facts"] |= entry["fact"]
        elif "note" in entry:
            found["notes"].append(entry["note"])
    return found


def device_answers() -> bool:
    """Whether CUDA still works in this process; after a kernel fault every call fails."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except Exception:  # any error of the driver
        return False
    return True


def in_a_line(error: BaseException) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0] if said else 'nothing said'}"[:300]
