"""Build the documentation and run its examples: what `make docs` calls.

    python docs/build.py

Any warning fails the build: a link or reference that leads nowhere, a picture without its file.
Both builders run in one process, since importing torch takes longer than most pages.
"""

import sys
from pathlib import Path

from sphinx.cmd.build import build_main

DOCS = Path(__file__).parent
BUILT = DOCS / "_build"


def main() -> int:
    """0 if the pages are built without a warning and every example prints what it says."""
    for builder, does in (("html", "building the pages"), ("doctest", "running their examples")):
        print(f"--- {does} into {BUILT / builder}", flush=True)
        options = ["-W", "--keep-going", "-q", "-d", str(BUILT / "doctrees"), "-b", builder]
        if code := build_main([*options, str(DOCS), str(BUILT / builder)]):
            return code
    print((BUILT / "doctest" / "output.txt").read_text(encoding="utf-8").rstrip())
    print(f"--- done: open {BUILT / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
