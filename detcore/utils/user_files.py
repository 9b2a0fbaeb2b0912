"""Files of users: the one way in which their texts, their JSON and their YAML are read.

Only regular files are read, so that a pipe or a device can't hang a program or fill its memory;
texts up to a size, since nobody's list of classes has 64 MiB.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from detcore.utils.errors import DataError

LARGEST = 64 << 20  # bytes of a text

_BOMS = (
    # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESS = "cp1252"  # what Windows' editors wrote in the west before they wrote UTF-8
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_YAML_NODES = 1_000_000  # that a document may have, aliases written out
_NULL = "tag:yaml.org,2002:null"

log = logging.getLogger(__name__)


def check_regular(path: Path) -> int:
    """The bytes of a file; DataError for a folder, pipe or device, OSError where there is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
        raise DataError(f"{path}: wanted a file, this is a {kind}")
    return status.st_size


def read_bytes(path: Path, largest: int | None = LARGEST) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: there is none, it is a folder, pipe or device, can't be read, or is longer than
            `largest` bytes.
    """
    try:
        size = check_regular(path)
        if largest is not None and size > largest:
            raise DataError(f"{path}: a text of {size} bytes; up to {largest} are read")
        with path.open("rb") as stream:
            return stream.read() if largest is None else stream.read(largest + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not readable ({_reason(error)})") from error


def read_text(path: Path, largest: int | None = LARGEST) -> str:
    """The text of a file: by its byte order mark, its XML declaration, as UTF-8, or as UTF-16.

    Else it is taken for cp1252, and the log says so.

    Raises:
        DataError: as of `read_bytes`, or it is text in none of these.
    """
    return decoded(path, read_bytes(path, largest))


def decoded(path: Path, content: bytes) -> str:
    """The text of a file's content, see `read_text`; `path` is named where it is none."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _decode(path, content, encoding)
    if declared := _DECLARED.match(content[:300]):
        try:
            return content.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass  # it says what it is not: guessed as any other
    if 0 in content[:200]:
        even, odd = content[:200:2].count(0), content[1:200:2].count(0)
        return _decode(path, content, "utf-16-be" if even > odd else "utf-16-le")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        text = _decode(path, content, _GUESS)
        log.warning("%s: not UTF-8; read as %s", path, _GUESS)
        return text


def read_json(path: Path, largest: int | None = None) -> Any:
    """What a JSON file says.

    Raises:
        DataError: as of `read_text`, or it can't be read as JSON.
    """
    text = read_text(path, largest)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path}: not readable as JSON (nested too deeply)") from error
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV of any size, each with the number of its last line; lines count from 1.

    Raises:
        DataError: as of `read_text`, or it can't be read as CSV.
    """
    csv.field_size_limit(LARGEST)
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.reader(stream)
                yield from ((reader.line_num, cells) for cells in reader)
            return
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        yield from ((reader.line_num, cells) for cells in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error})") from error


def compose_yaml(path: Path) -> yaml.Node | None:
    """A YAML file as nodes with their places; None for an empty one. No tag is acted upon.

    Raises:
        DataError: as of `read_text`, or it can't be read as YAML, or its aliases make it endless.
    """
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _expanded(node, {}, set())
    except RecursionError as error:
        raise DataError(f"{path}: not readable as YAML (nested too deeply)") from error
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path}: not readable as YAML ({said})") from error
    return node


def read_yaml(path: Path) -> Any:
    """What a YAML file says: mappings, lists, and each value as the text that is written there.

    A class is often called ``no`` or ``off``, which YAML would take for false; so no word is made a
    number, a date or a truth value. None stands where nothing is written.

    Raises:
        DataError: as of `compose_yaml`.
    """
    node = compose_yaml(path)
    return None if node is None else _plain(node)


def _decode(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not readable as text (neither UTF-8 nor {encoding}; save it as UTF-8)"
        ) from error


def _expanded(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """How many nodes there are with each alias written out; ValueError for too many."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in above:
        raise ValueError("it contains itself by an alias")
    above.add(id(node))
    size = 1 + sum(_expanded(child, sizes, above) for child in _children(node))
    above.discard(id(node))
    if size > _YAML_NODES:
        raise ValueError(f"more than {_YAML_NODES} entries with its aliases written out")
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {_word(key): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(entry) for entry in node.value]
    return None if node.tag == _NULL and not node.value.strip("~") else str(node.value)


def _word(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else f"a {key.id}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
