"""Darknet's two files: the sections of a .cfg and the floats of a .weights.

After Darknet's own parser (https://github.com/pjreddie/darknet and
https://github.com/AlexeyAB/darknet, src/parser.c, public domain), but strict: what cannot be read
as meant is an error, never a default.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from detcore.utils.user_files import check_regular

# YOLOv4's has 30 KB; more is some other file, and nobody should wait for it to be parsed
_LARGEST_CFG = 1 << 20
_ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}


@dataclass
class Section:
    """One section of a .cfg.

    number: its place in the file; 0 is [net], and n is what Darknet calls layer n - 1.
    options: of each key the line and the text of its value, in the order of the file.
    """

    file: Path
    number: int
    line: int
    kind: str
    options: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def place(self, key: str | None = None) -> str:
        """Where this is, for a message: file, section, layer, and the key's line if it has one."""
        line = self.options[key][0][0] if key in self.options else self.line
        layer = f" (layer {self.number - 1})" if self.number else ""
        return f"{self.file}: section {self.number} [{self.kind}]{layer}, line {line}"

    def error(self, wanted: str, key: str | None = None) -> ValueError:
        """The error to raise; `wanted` says what was wanted and what came."""
        return ValueError(f"{self.place(key)}: {wanted}")

    def text(self, key: str, default: str | None = None) -> str:
        """A value's text. Raises ValueError if it is missing without a default, or given twice."""
        given = self.options.get(key)
        if given is None:
            if default is None:
                raise self.error(f"{key} must be given, got none")
            return default
        for line, value in given:
            if value != given[0][1]:
                # Darknet takes the first, other readers the last
                raise self.error(
                    f"{key} must have one value, got {given[0][1]!r} and in line {line} {value!r}",
                    key,
                )
        return given[0][1]

    def integers(self, key: str, default: str | None = None) -> list[int]:
        """A list of integers, separated by commas."""
        return [int(part) for part in self._parts(key, default, r"[+-]?\d{1,9}", "integers")]

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """One integer in least..most."""
        values = self.integers(key, str(default))
        if len(values) != 1 or not least <= values[0] <= most:
            raise self.error(
                f"{key} must be an integer in {least}..{most}, got {self.text(key, '')}", key
            )
        return values[0]

    def numbers(self, key: str, default: str | None = None) -> list[float]:
        """A list of finite numbers above 0, separated by commas."""
        number = r"\+?(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,2})?"
        values = [float(part) for part in self._parts(key, default, number, "numbers above 0")]
        if not all(0 < v < math.inf for v in values):
            raise self.error(f"{key} must be numbers above 0, got {self.text(key)}", key)
        return values

    def refuse(self, **only: str) -> None:
        """Raise ValueError for options that would change the answer and are not supported.

        only: of each key the value, Darknet's default, that is.
        """
        for key, value in only.items():
            given = self.text(key, value)
            if given != value:
                raise self.error(f"only {key}={value} is supported, got {given!r}", key)

    def _parts(self, key: str, default: str | None, pattern: str, wanted: str) -> list[str]:
        text = self.text(key, default)
        # some published files end a list with a comma
        parts = text.rstrip(",").split(",")
        if not all(re.fullmatch(pattern, part, re.ASCII) for part in parts):
            raise self.error(f"{key} must be {wanted}, got {text!r}", key)
        return parts


def read_cfg(path: Path) -> list[Section]:
    """The sections of a .cfg, [net] first.

    Keys and values lose all spaces, as in Darknet; text behind # or ; is a comment.

    Raises:
        ValueError: not a text of sections and key=value lines, or it does not start with [net].
        OSError: it cannot be read.
    """
    check_regular(path)
    with path.open("rb") as stream:
        raw = stream.read(_LARGEST_CFG + 1)
    if len(raw) > _LARGEST_CFG:
        raise ValueError(f"{path}: a cfg must be at most {_LARGEST_CFG} bytes, got more")
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a cfg must be UTF-8 text, got {error}") from error

    sections: list[Section] = []
    for number, given in enumerate(lines, start=1):
        line = "".join(re.split("[#;]", given, maxsplit=1)[0].split())
        if not line:
            continue
        if line.startswith("["):
            if not re.fullmatch(r"\[\w{1,40}\]", line, re.ASCII):
                raise ValueError(f"{path}: line {number}: [section] wanted, got {_short(given)}")
            kind = line[1:-1]
            sections.append(Section(path, len(sections), number, _ALIASES.get(kind, kind)))
            continue
        key, equals, value = line.partition("=")
        if not sections or not (key and equals):
            wanted = "key=value" if sections else "[net]"
            raise ValueError(f"{path}: line {number}: {wanted} wanted, got {_short(given)}")
        sections[-1].options.setdefault(key, []).append((number, value))
    if not sections or sections[0].kind != "net":
        came = f"[{sections[0].kind}] in line {sections[0].line}" if sections else "no section"
        raise ValueError(f"{path}: the first section must be [net], got {came}")
    return sections


class WeightsFile:
    """A .weights file, read front to back: a header, then float32, little endian, nothing else.

    The header is int32 major, minor, revision and the number of images seen in training, of 8
    bytes from version 0.2 on and of 4 before. Nothing is allocated that the file does not hold.
    Raises ValueError for a header that is none.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.path = path
        self.stream = stream
        self.size = os.fstat(stream.fileno()).st_size
        header = stream.read(12)
        if len(header) < 12:
            raise ValueError(f"{path}: a header of 16 or 20 bytes wanted, got {self.size} bytes")
        major, minor, revision = struct.unpack("<3i", header)
        # Darknet's last is 0.2.5; from 1000 on the number is a flag for transposed matrices
        if not all(0 <= part < 1000 for part in (major, minor, revision)):
            raise ValueError(
                f"{path}: a header with a version of 0.0.0 to 999.999.999 wanted, "
                f"got {major}.{minor}.{revision}"
            )
        seen = 8 if major * 10 + minor >= 2 else 4
        if len(stream.read(seen)) < seen:
            raise ValueError(
                f"{path}: a header of {12 + seen} bytes wanted for version "
                f"{major}.{minor}.{revision}, got {self.size} bytes"
            )

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.size - self.stream.tell()

    def take(self, shape: Sequence[int], section: Section, what: str) -> Tensor:
        """The next floats, as a float32 tensor of `shape`.

        Raises:
            ValueError: fewer are left, or one of them is NaN or infinite.
        """
        count = math.prod(shape)
        if 4 * count > self.left:
            raise ValueError(
                f"{self.path}: {section.place()}: {count} floats wanted for {what} {list(shape)}, "
                f"got {self.left // 4}: the file is cut off, or of another cfg"
            )
        values = torch.from_numpy(
            np.fromfile(self.stream, "<f4", count).astype(np.float32, copy=False)
        )
        if len(values) != count:
            raise ValueError(f"{self.path}: {count} floats wanted for {what}, got {len(values)}")
        if not bool(values.isfinite().all()):
            first = int((~values.isfinite()).nonzero()[0])
            raise ValueError(
                f"{self.path}: {section.place()}: finite {what} wanted, "
                f"got {values[first].item()} at {first} of {count}"
            )
        return values.reshape(tuple(shape))

    def finish(self, cfg: Path) -> None:
        """Raise ValueError unless every byte was read."""
        if self.left:
            raise ValueError(
                f"{self.path}: {self.size - self.left} bytes wanted by {cfg}, got {self.size}: "
                f"{self.left} are left over"
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
