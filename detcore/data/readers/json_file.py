"""Reading JSON, for data sets and for results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detcore.data.faults import DataError


def read_json(file: Path) -> Any:
    """What a file says, with or without a byte order mark.

    Raises:
        DataError: no such file, or it can't be read as JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error})") from error
