import io

from rich.console import Console

from detcore.commands.console_tables import headline, metrics_table


def test_the_headline_leaves_out_what_is_absent():
    assert headline({"mAP": 0.5, "AP50": None, "recall": 0.25}) == "mAP 0.500  recall 0.250"


def test_the_table_fits_eighty_characters():
    row = {"name": "Platelets", "AP": 0.5, "AP50": None, "objects": 1234, "precision": 0.5,
           "recall": 0.5, "f1": 0.5, "matched": 1000, "wrong": 10, "missed": 234}  # fmt: skip
    metrics = {"per_class": [row, {**row, "name": "b"}], "mAP": 0.5, "AP50": 0.75,
               "precision": 0.5, "recall": 0.5, "f1": 0.5}  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80).print(metrics_table(metrics, "digits"))
    text = out.getvalue()
    assert "…" not in text
    for words in ("precision", "matched", "missed", "Platelets", "2468", "2000", "0.750"):
        assert words in text
