"""What can be wrong with a data set, and how a reader says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from detcore.utils.errors import DataError

__all__ = ["DamagedImage", "DataError", "Fault", "Faults", "Kind", "NoSplit"]


class NoSplit(DataError):
    """The data set is readable and has no such split; the text names those that it has."""


class DamagedImage(DataError):
    """A picture is missing or can't be decoded; training may go on without it."""


class Kind(StrEnum):
    """Kinds of fault, in the order of a report."""

    ANNOTATIONS = "unreadable annotations"
    ENTRY = "malformed entry"
    UNKNOWN_CLASS = "class id out of range"
    DUPLICATE_CLASS = "two classes of one name or id"
    UNKNOWN_IMAGE = "annotation for an unknown image"
    DUPLICATE = "duplicate image"
    CLASSES = "classes differ between splits"
    NOT_FINITE = "box with NaN or infinity"
    MISSING = "missing image"
    UNREADABLE = "unreadable image"
    SIZE = "image of another size than annotated"
    ENORMOUS = "enormous image"
    PARTIAL = "images not downloaded"
    AREA = "area that is none"
    LABEL_3D = "3D label that is none"
    NO_AREA = "box without area"
    NOT_CONVEX = "corners that are no convex quadrilateral"
    OUTSIDE = "box outside the image"
    PARTLY_OUTSIDE = "box partly outside the image"
    DUPLICATE_BOX = "duplicate box"
    EMPTY = "image without annotations"
    NO_OBJECTS = "class without objects"
    NO_BOXES = "set without boxes"

    @property
    def is_error(self) -> bool:
        """Whether it refuses training or loses images; all else is clipped, left out or legal."""
        return self not in _WARNINGS


_WARNINGS = frozenset(
    (
        Kind.ENORMOUS,
        Kind.PARTIAL,
        Kind.AREA,
        Kind.LABEL_3D,
        Kind.NO_AREA,
        Kind.NOT_CONVEX,
        Kind.OUTSIDE,
        Kind.PARTLY_OUTSIDE,
        Kind.DUPLICATE_BOX,
        Kind.EMPTY,
        Kind.NO_OBJECTS,
        Kind.NO_BOXES,
    )
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. file: its name; text: what; count: of boxes or images."""

    kind: Kind
    file: str
    text: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


class Faults:
    """What a reader meets on its way through a data set.

    Args:
        tolerant: collect also what would be raised, so that one reading finds all that is wrong;
            the reader leaves out what it can't use.
    """

    def __init__(self, tolerant: bool = False) -> None:
        self.tolerant = tolerant
        # the keys of a dict: a file read for two splits is at fault once
        self._found: dict[Fault, None] = {}

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def of_kinds(self, most: int) -> Iterator[str]:
        """Lines for people: of each kind the first `most` faults, and how many more there are."""
        counts: dict[Kind, int] = {}
        for fault in self:
            counts[fault.kind] = counts.get(fault.kind, 0) + 1
            if counts[fault.kind] <= most:
                yield str(fault)
        for kind, count in counts.items():
            if count > most:
                yield f"{kind}: {count - most} more such files; `detcore data check` lists them"

    def left_out(self, kind: Kind, file: object, text: str, count: int = 1) -> None:
        """Note what training goes on without."""
        self._found[Fault(kind, str(file), text, count)] = None

    def refuse(self, kind: Kind, file: object, text: str) -> None:
        """Raise DataError, or note it where all faults are wanted; the caller leaves it out."""
        fault = Fault(kind, str(file), text)
        if not self.tolerant:
            raise DataError(str(fault))
        self._found[fault] = None
