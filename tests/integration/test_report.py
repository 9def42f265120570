"""The page: it says what the measurements say, whatever these are called, and asks for nothing from elsewhere."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_overview import FAST, LEAN, OVER, PLAIN
from test_results import M

from copycost.report import write_html
from copycost.report.rows import COLUMNS
from copycost.report.rows import rows as rows_as_json
from copycost.results.table import frame


def rows_of(page: str) -> dict[str, Any]:
    """The table that is in a page."""
    (text,) = re.findall(r'<script type="application/json" id="rows">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_page_needs_no_other_file_and_names_no_other_host(tmp_path: Path) -> None:
    environment = {"cpu": "a CPU", "libraries": {"numpy": "2.4"}, "load": 0.1, "gpus": []}
    text = write_html(tmp_path, [("run", environment, [M])]).read_text()
    assert "numpy-out" in text
    assert "1.23 ms" in text
    assert "<svg" in text
    assert not re.search(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["'](?!data:)""", text)
    assert not re.search(r"@import|url\((?!#)", text)
    for address in re.findall(r'href="([^"#][^"]*)"', text):
        assert address.startswith("data:") or (tmp_path / address).is_file(), address


def test_sentences_of_the_page_are_apart(tmp_path: Path) -> None:
    page = write_html(tmp_path, [("run", {}, [PLAIN, FAST, LEAN, OVER])]).read_text()
    body = re.sub(r"<(script|style|svg|pre)\b.*?</\1>", "", page.partition("<body")[2], flags=re.DOTALL)
    text = re.sub(r"</?(code|a|b|em)\b[^>]*>", "", body)
    assert "modes of Keras" in text or "a mode of Keras" in text
    assert not re.findall(r"[a-z]{2}\.[A-Z]\w*", text)


def test_all_that_is_shown_can_be_downloaded(tmp_path: Path) -> None:
    write_html(tmp_path, [("run", {}, [PLAIN, FAST, replace(LEAN, seconds=None)])])
    csv = pd.read_csv(tmp_path / "measurements.csv")
    assert csv["variant"].tolist() == ["numpy-new", "tf-xla", "numpy-out"]
    assert csv["seconds"].tolist()[:2] == pytest.approx([PLAIN.seconds, FAST.seconds])
    assert pd.isna(csv["seconds"].tolist()[2])
    listed = json.loads((tmp_path / "measurements.json").read_text())
    assert [one["allocated_bytes"] for one in listed] == [8 * 2**20, 4 * 2**20, 0]
    parquet = pd.read_parquet(tmp_path / "measurements.parquet")
    assert parquet["seconds"].tolist()[0] == PLAIN.seconds


def test_all_rows_are_in_the_json_whatever_number_is_converted_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(PLAIN, batch=k) for k in range(1, 8)]
    write_html(tmp_path / "one", [("run", {}, rows)])
    monkeypatch.setattr("copycost.report.downloads._ROWS", 3)
    write_html(tmp_path / "other", [("run", {}, rows)])
    text = (tmp_path / "other" / "measurements.json").read_text()
    assert text == (tmp_path / "one" / "measurements.json").read_text()
    assert [row["batch"] for row in json.loads(text)] == list(range(1, 8))


def test_a_page_without_the_figures_of_a_recipe_names_it_and_the_option(tmp_path: Path) -> None:
    rows = [replace(m, recipe=recipe) for recipe in ("tf", "caffe") for m in (PLAIN, FAST)]
    text = write_html(tmp_path / "first", [("run", {}, rows)]).read_text()
    assert re.findall(r'<figure data-recipe="(\w+)"', text) == ["tf"] * text.count("<figure ")
    assert "listed in the table of cases: caffe." in text
    assert "--pictures all" in text
    every = write_html(tmp_path / "every", [("run", {}, rows)], every_picture=True).read_text()
    assert set(re.findall(r'<figure data-recipe="(\w+)"', every)) == {"tf", "caffe"}
    assert "--pictures all" not in every
    assert "Recipes without figures" not in every
    for address in re.findall(r'href="(figures/[^"]*)"', text + every):
        assert (tmp_path / "every" / address).is_file(), address
    assert rows_of(text) == rows_of(every)


def test_numbers_of_the_table_have_four_digits_and_are_finite(tmp_path: Path) -> None:
    seconds = (1.23456789e-7, 0.1, 123456.0, 1e300, 5e-324)
    rows = [replace(PLAIN, batch=k, seconds=value) for k, value in enumerate(seconds, 1)]
    table = rows_of(write_html(tmp_path, [("run", {}, rows)]).read_text())
    (cells,) = (cells for (name, *_), cells in zip(table["columns"], table["cells"], strict=True) if name == "seconds")
    assert cells == [float(f"{value:.4g}") for value in seconds]
    with pytest.raises(ValueError, match="max_abs_error"):
        rows_as_json(frame([replace(M, max_abs_error=math.inf)]).assign(source="run"), [M], {})


def test_the_table_has_every_case(tmp_path: Path) -> None:
    failed = replace(OVER, status="failed", reason="raised ValueError: no", seconds=None, samples=None)
    plain = replace(PLAIN, missing={"seconds_first": "it was not looked at"})
    table = rows_of(write_html(tmp_path, [("run", {}, [plain, failed])]).read_text())
    names = [name for name, *_ in table["columns"]]
    assert names == [name for name in COLUMNS if name not in ("source", "profile")]
    cells = dict(zip(names, table["cells"], strict=True))
    assert cells["seconds"] == [PLAIN.seconds, None]
    assert [table["words"][k] for k in cells["variant"]] == ["numpy-new", "numpy-inplace"]
    assert table["words"][cells["remarks"][1]] == "failed: raised ValueError: no"
    assert "first call: it was not looked at" in table["words"][cells["missing"][0]]
    assert cells["missing"][1] is None


HOSTILE = [
    "<script>alert('1')</script>\"&",
    "</script><img src=x onerror=alert(1)>",
    "../../etc/passwd",
    "x" * 10_000,
    "\u202egnp.exe\u2066",
    "{{ 7 * 7 }}{% raise %}",
    "--><!--",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_change_nothing_but_their_own_text(tmp_path: Path, name: str) -> None:
    plain = write_html(tmp_path / "plain", [("run", {"image": "x"}, [PLAIN, FAST])] * 2).read_text()
    failed = replace(FAST, variant=name, status="failed", reason=name, seconds=None, samples=None)
    timed = replace(
        FAST, variant=name, recipe=name, code=name, timeline=[{"bytes": 99999, "space": "host", "op": name}]
    )
    text = write_html(tmp_path / "x", [(name, {"image": name}, [PLAIN, timed, failed])] * 2).read_text()
    for tag in ("script", "img", "b", "article", "main"):
        assert text.count(f"<{tag}>") + text.count(f"<{tag} ") == plain.count(f"<{tag}>") + plain.count(f"<{tag} ")
    assert text.count("</script>") == plain.count("</script>")
    assert "49" not in re.findall(r"<h2 class=\"run\">(.*?)</h2>", text)
    assert name in rows_of(text)["words"]
    inside = {path.resolve() for path in (tmp_path / "x").rglob("*")}
    assert all(str(path).startswith(str(tmp_path / "x")) for path in inside)


def test_a_run_in_which_nothing_was_timed_is_reported(tmp_path: Path) -> None:
    skipped = replace(M, status="skipped", reason="no device", seconds=None, samples=None)
    text = write_html(tmp_path, [("run", {}, [skipped])]).read_text()
    assert "Nothing was timed" in text
    assert "no device" in text


def test_two_runs_have_a_part_each(tmp_path: Path) -> None:
    other = replace(M, seconds=0.5, seconds_low=0.4, seconds_high=0.6)
    text = write_html(tmp_path, [("before", {}, [M]), ("after", {}, [other])]).read_text()
    assert text.index(">before</h2>") < text.index("1.23 ms") < text.index(">after</h2>") < text.index("500 ms")
    assert rows_of(text)["columns"][0][0] == "source"


def test_page_of_a_side_of_the_gate_is_that_of_a_run(tmp_path: Path) -> None:
    """Its environment names a commit, and no machine, environment or time of asv's."""
    taken_in = {"engine": 2, "commit": "a" * 40, "session": "one", "cpu": "CPU"}
    text = write_html(tmp_path, [("base", taken_in, [PLAIN, FAST])]).read_text()
    assert "4.00 ×" in text


def test_a_history_shows_the_newest_and_what_changed(tmp_path: Path) -> None:
    runs = [
        (f"run {k}", {"engine": 1, "machine": "m", "environment": "e", "commit": f"{k}" * 40, "session": None,
                      "commit_time": f"2026-01-0{k}T00:00:00+00:00"},
         [replace(PLAIN, allocations=k, allocated_bytes=k * 2**20)])
        for k in (3, 2, 1)
    ]  # fmt: skip
    text = write_html(tmp_path, runs).read_text()
    assert text.count('<h2 id="0-speed-title">') == 1
    assert "1-speed-title" not in text
    assert text.count("<code>11111111</code> → <code>22222222</code>") == 1
    assert "allocated_bytes 2.00 MiB (2,097,152 B) → 3.00 MiB (3,145,728 B)" in text


def test_a_trace_is_linked_from_its_case(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    case = {name: getattr(FAST, name) for name in ("recipe", "device", "dtype", "layout", "batch", "height", "width")}
    path.write_text(json.dumps({"traceEvents": [], "otherData": {"copycost": case | {"variant": FAST.variant}}}))
    text = write_html(tmp_path / "page", [("run", {}, [PLAIN, FAST])], traces=[path]).read_text()
    table = rows_of(text)
    links = dict(zip([name for name, *_ in table["columns"]], table["cells"], strict=True))["profile"]
    assert links[0] is None
    assert (tmp_path / "page" / table["words"][links[1]]).read_text() == path.read_text()


def test_text_about_shipped_variants_is_only_beside_shipped_variants(tmp_path: Path) -> None:
    """The history of somebody's project has neither copycost's recipes nor its names."""
    environment = {"engine": 3, "machine": "m", "environment": "e", "commit_time": "2026-01-01"}
    own = replace(PLAIN, recipe="shop.scale", variant="scale-pixels", runtime=None, writes=None)
    runs = [(f"run {k}", environment | {"commit": k * 40}, [own]) for k in "ab"]
    text = write_html(tmp_path / "own", runs, history="asv/index.html").read_text()
    assert "scale-pixels" in text
    for word in ("Keras", "keras", "caffe", "numpy-", "-inplace", "this machine"):
        assert word not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL), word
    text = write_html(tmp_path / "shipped", [("run", {}, [PLAIN, FAST])]).read_text()
    assert "The recipe <code>tf</code> is a mode of Keras' <code>preprocess_input</code>." in text
    assert "Variants named <code>-new</code>" in text
