"""The process of a part: python -m benchmarks.gpu.child MODULE ROWS_FILE [ITEM_TO_SKIP ...]"""

import faulthandler
import importlib
import os
import sys
from pathlib import Path

from benchmarks.gpu.rows import Rows, in_a_line


def main() -> None:
    faulthandler.enable()  # after a crash, the log has the Python stack
    module, path, *skip = sys.argv[1:]
    rows = Rows(Path(path), skip)
    dry = os.environ.get("DETCORE_GPU_CHECK_DRY") == "1"
    try:
        importlib.import_module(module).main(rows, dry=dry)
    except Exception as error:
        rows.note(in_a_line(error))
        raise


if __name__ == "__main__":
    main()
