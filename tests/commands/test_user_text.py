"""Names of classes, folders and files with any characters are printed and written unchanged."""

import csv
import io
import os
import sys

import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from detcore.commands.console_tables import metrics_table
from detcore.data.validation import tables
from detcore.data.validation.check import check
from detcore.inference.export_formats import Save, write_answers
from detcore.utils import printing
from detcore.utils.atomic_write import write_csv, write_text
from tests.data.test_voc import annotate

NAMES = ["[/x]", "[red]", "set [v2]", "[bold]b[/bold]", ":smile:", "[link=x]"]
AWKWARD = [
    "a\nb",
    'say "x"',
    "=1+2",
    "+a",
    "@b",
    "a,b",
    " ",
    "M\udcfcller.jpg",
    "tab\t",
    "ü",
    "a\r",
]


def printed(thing, width=200):
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False)
    console.print(thing)
    return out.getvalue()


def test_the_console_of_all_commands_knows_no_markup(capsys):
    table = Table("name", title="[/x] title")
    for name in NAMES:
        table.add_row(name)
    printing.console.print(table)
    for name in NAMES:
        printing.say(name)
        printing.say_error("note:", name)
    both = capsys.readouterr()
    for name in NAMES:
        assert both.out.count(name) >= 2
        assert name in both.err
    assert "[/x] title" in both.out


@pytest.mark.parametrize("name", NAMES)
def test_tables_show_class_names_as_they_are(tmp_path, name):
    row = {"name": name, "AP": 0.5, "objects": 3, "wrong": 1}
    assert name in printed(metrics_table({"per_class": [row], "mAP": 0.5}, f"{name} (val)"))
    annotate(tmp_path, "a", [(name.replace("<", ""), (1, 2, 9, 8))])
    found = check(f"voc:{tmp_path}", "all") | {"data": name}
    text = "".join(printed(table) for table in tables.tables(found))
    assert text.count(name) >= 2


def test_a_csv_reads_back_equal(tmp_path):
    file = tmp_path / "a.csv"
    rows = [["name", "more"], *([name, name] for name in AWKWARD)]
    write_csv(file, rows)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        assert list(csv.reader(stream)) == rows


def test_predictions_of_awkward_names(tmp_path):
    answers = [
        {"file": name, "width": 8, "height": 8,
         "detections": [{"class": name, "score": 0.5, "box": [1, 2, 3, 4]}]}
        for name in AWKWARD
    ]  # fmt: skip
    for form in ("json", "coco", "csv"):
        write_answers(Save(tmp_path / form, form), answers, AWKWARD)
    write_answers(Save(tmp_path / "yolo", "yolo"), answers[-4:-3], ["x", AWKWARD[-4]])
    with (tmp_path / "csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        assert [row["class"] for row in csv.DictReader(stream)] == AWKWARD
    write_text(tmp_path / "t", "M\udcfcller")
    assert (tmp_path / "t").read_bytes() == b"M\xfcller"


def test_a_name_that_is_no_utf8_is_printed_as_given(monkeypatch):
    raw = io.BytesIO()
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        printing.print_any_name()
        printing.say("M\udcfcller")
        sys.stdout.flush()
        assert raw.getvalue().endswith(b"M\xfcller\n")
        sys.stdout.detach()


def test_data_with_a_name_that_is_no_utf8(tmp_path):
    for k in range(6):
        name = os.fsdecode(f"M\xfcller{k}.png".encode("latin-1"))
        for folder in ("cat", "dog"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / folder / name)
    found = check(str(tmp_path))
    assert sum(split["images"] for split in found["splits"].values()) == 12
    assert found["errors"] == 0
