"""A run's settings as a YAML file: the flags of a command by their names, checked line by line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import yaml

from detcore.training.config import ConfigError
from detcore.utils.atomic_write import write_text
from detcore.utils.errors import DataError
from detcore.utils.user_files import compose_yaml

NAME = "config.yaml"

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
_NULL = "tag:yaml.org,2002:null"
_BOOL = "tag:yaml.org,2002:bool"


def read(
    path: Path, kinds: Mapping[str, Any], check: Callable[[str, Any], None] | None = None
) -> dict[str, Any]:
    """The settings of a YAML file.

    Args:
        path: a mapping of names, with ``_`` or ``-``, to values.
        kinds: the type of each setting there is: bool, int, float, str, a path (given back as
            str), a list of one of these, or such ``| None``. For a list of str a mapping is taken
            too, of which each entry becomes ``NAME=JSON``.
        check: called with name and value, raises ValueError for what is out of bounds.

    Raises:
        ConfigError: no such file or no YAML; an unknown name, one given twice, a value of another
            type. The text has file, line and name, and of an unknown name the nearest known one.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such configuration")
    try:
        root = compose_yaml(path)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: must be lines of NAME: VALUE, got a {root.id}")
    settings: dict[str, Any] = {}
    for key, node in root.value:
        place = f"{path}, line {key.start_mark.line + 1}"
        name = str(key.value).replace("-", "_")
        if name not in kinds:
            raise ConfigError(f"{place}: unknown setting {key.value!r}{_nearest(name, kinds)}")
        if name in settings:
            raise ConfigError(f"{place}: {name} is given twice")
        try:
            settings[name] = _value(node, kinds[name])
            if check:
                check(name, settings[name])
        except (ValueError, TypeError, OverflowError, yaml.YAMLError) as error:
            raise ConfigError(f"{place}: {name}: {' '.join(str(error).split())}") from error
    return settings


def write(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as `read` takes them, whole or not at all; folders are made."""
    plain = {k: as_plain(v) for k, v in settings.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(plain, sort_keys=False))


def as_plain(value: Any) -> Any:
    """A setting as YAML can hold it."""
    if isinstance(value, tuple | list):
        return [as_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _nearest(name: str, kinds: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(kinds))}"


def _value(node: yaml.Node, kind: Any) -> Any:
    members = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    wanted = next(m for m in members if m is not NoneType)
    if node.tag == _NULL and NoneType in members:
        return None
    if get_origin(wanted) is not list:
        return _scalar(node, wanted)
    (item,) = get_args(wanted)
    if isinstance(node, yaml.SequenceNode):
        return [_scalar(entry, item) for entry in node.value]
    if isinstance(node, yaml.MappingNode) and item is str:
        entries = yaml.safe_load(yaml.serialize(node))
        return [f"{name}={json.dumps(value)}" for name, value in entries.items()]
    raise ValueError(f"must be a list, got {_shown(node)}")


def _scalar(node: yaml.Node, kind: type) -> Any:
    kind = str if kind is Path else kind
    if isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
        if kind is str:
            # as it is written: YAML would make False of an unquoted no
            return node.value
        if kind is bool and node.tag == _BOOL:
            return yaml.safe_load(node.value)
        if kind in (int, float):
            try:
                # not YAML's own number, which 1e-3 is none of
                return kind(node.value)
            except ValueError:
                pass
    raise ValueError(f"must be {_WORDS[kind]}, got {_shown(node)}")


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
