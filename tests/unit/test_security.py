"""Texts of measured code in what others open: Markdown, CSV and messages."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from copycost.model import numbers
from copycost.results.table import to_csv


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("@maintainer please run this", "@m"),
        ("![x](https://example.org/track.png)", "]("),
        ("see https://example.org", "https://e"),
        ("www.example.org", "www.e"),
        ("<img src=x onerror=alert(1)>", "<img"),
        ("a | b", " | "),
        ("&lt;script&gt;", "&lt;"),
        ("`code` *bold* #1 ~~x~~", "`c"),
    ],
)
def test_nothing_in_a_text_becomes_a_mention_a_link_or_an_image(text: str, never: str) -> None:
    escaped = numbers.markdown(text)
    assert never not in escaped.replace(f"\\{never[0]}", "") or never[0] in "]<|&`"
    visible = escaped.replace("\u200b", "").replace("\\", "")
    assert visible == text
    for character in "![]<>|&`*#~":
        plain = escaped.count(character) - escaped.count(f"\\{character}")
        assert plain == 0 or character == "!"
    assert "@m" not in escaped
    assert "://e" not in escaped


def test_markdown_fits_in_a_comment() -> None:
    lines = [
        "### title",
        "<details><summary>x</summary>",
        *(f"| row {i} | {'x' * 100} |" for i in range(2000)),
        "</details>",
    ]
    text = numbers.fitted("\n".join(lines) + "\n")
    assert len(text) <= 65_536
    assert text.count("<details>") == text.count("</details>") == 1
    assert text.endswith("more lines do not fit in a comment.\n")
    left = int(text.rsplit("… ", 1)[1].split()[0].replace(",", ""))
    assert left + text.count("| row") + 2 in (len(lines), len(lines) + 1)
    assert numbers.fitted("short\n") == "short\n"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_no_cell_of_a_table_is_a_formula(tmp_path: Path, begin: str) -> None:
    table = pd.DataFrame({"variant": [f"{begin}cmd|' /C calc'!A0", "numpy-new"], "seconds": [-1.5, 2.0]})
    path = tmp_path / "it.csv"
    to_csv(table, path)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["variant"] == f"'{begin}cmd|' /C calc'!A0"
    assert rows[1]["variant"] == "numpy-new"
    assert float(rows[0]["seconds"]) == -1.5
    assert table["variant"][0].startswith(begin)
