"""Whatever users call things comes back as they wrote it: properties that hold for any text."""

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detcore.utils.atomic_write import write_csv, write_json
from detcore.utils.errors import DataError
from detcore.utils.printing import console, say
from detcore.utils.user_files import csv_rows, decoded, read_json, read_text

# all but what UTF-8 can't write; a NUL makes a text UTF-16, and a first U+FEFF is a byte order mark
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=20)
NAMES = st.text(st.sampled_from([*string.printable[:95], *"äé漢🐈"]), min_size=1, max_size=30)
ANYWHERE = Path("labels.txt")
# the same examples in every run; the folder of a test may be shared by them
same_examples = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@same_examples
@given(rows=st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_csv_reads_back_equal(tmp_path: Path, rows: list[list[str]]) -> None:
    write_csv(tmp_path / "x.csv", rows)
    assert [cells for _, cells in csv_rows(tmp_path / "x.csv")] == rows


@same_examples
@given(value=st.recursive(TEXT | st.integers() | st.none(), lambda x: st.dictionaries(TEXT, x)))
def test_json_reads_back_equal(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@same_examples
@given(text=TEXT)
def test_a_text_is_read_in_its_encoding(encoding: str, text: str) -> None:
    assert decoded(ANYWHERE, text.encode(encoding)) == text


@same_examples
@given(text=st.text(string.ascii_letters + string.punctuation + " \n", min_size=1))
def test_utf16_needs_no_mark(text: str) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert decoded(ANYWHERE, text.encode(encoding)) == text


@same_examples
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_text_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    try:
        assert isinstance(read_text(path), str)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


@same_examples
@given(name=NAMES)
def test_nothing_of_a_users_is_markup(name: str) -> None:
    with console.capture() as capture:
        say(f"class {name}|")
    assert capture.get() == f"class {name}|\n"
