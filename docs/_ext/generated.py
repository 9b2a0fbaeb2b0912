"""Writes what pages show and nobody types: pictures, tables, charts, the command line's pages.

All of it goes into docs/_generated before Sphinx reads the pages. A file whose content is what it
was keeps its time, so that a second builder reads nothing again.
"""

from pathlib import Path
from typing import Any, ClassVar

import bench_tables
import cli_pages
import drawing
import driving_pictures  # noqa: F401  (its picture is drawn with those of the ops)
import floors_picture
import op_pictures
import oriented_pictures  # noqa: F401  (likewise)
from docutils import nodes
from docutils.parsers.rst import Directive

HERE = Path(__file__).parents[1]


PICTURES = (op_pictures.pictures, bench_tables.charts, floors_picture.pictures)


def write_all(app: Any) -> None:
    """Fill docs/_generated; pictures are drawn for HTML alone, or where there are none yet."""
    folder = HERE / "_generated"
    for kind, pages in {"cli": cli_pages.pages(), "bench": bench_tables.tables()}.items():
        for name, text in pages.items():
            _write(folder / kind / name, text.encode())
    if app.builder.name == "html" or not (folder / "pictures").is_dir():
        for draw in PICTURES:
            for name, content in draw():
                _write(folder / "pictures" / name, content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)


class Picture(Directive):
    """A generated picture, in the colours of the page: its name, and below it what it shows."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """One image for light pages and one for dark ones."""
        shows = " ".join(self.content)
        if not shows:
            raise self.error("a picture needs a sentence that says what it shows")
        images = [
            nodes.image(
                uri=f"/_generated/pictures/{self.arguments[0]}-{theme}.png",
                alt=shows,
                classes=["op-picture", f"only-{theme}"],
            )
            for theme in drawing.INK
        ]
        return [nodes.container("", *images, classes=["wide-picture"])]


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("picture", Picture)
    app.connect("builder-inited", write_all)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
