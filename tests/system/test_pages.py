"""The report in a browser: it works, nothing is asked of elsewhere, and accessibility tools have nothing to say."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import pytest
from test_overview import FAST, KERAS, LEAN, OVER, PLAIN
from test_results import M

from copycost.report import write_html

ROOT = Path(__file__).parents[2]

#: Screenshots, which CI keeps.
SHOTS = ROOT / "build" / "pages"

N = 8 * 224 * 224 * 3 * 4


def measured() -> list[Any]:
    """Two recipes, two batches, something slow, something wrong, something skipped."""
    timeline = [{"bytes": N, "space": "host", "op": "scaled = x / scale  (numpy.py:1)"}]
    plain = replace(PLAIN, timeline=timeline, peak_bytes=N, seconds_first=0.01, code="def call(x):\n    return x / 2\n")
    rows = [plain, replace(FAST, seconds_first=0.2, code="import tensorflow as tf\n"), LEAN, OVER, KERAS]
    rows += [replace(m, batch=32, seconds=4 * (m.seconds or 0)) for m in rows]
    rows += [replace(m, recipe="caffe") for m in rows]
    rows.append(
        replace(M, variant="broken", status="failed", reason="raised ValueError: no", seconds=None, samples=None)
    )
    rows.append(replace(M, variant="cupy-new", status="skipped", reason="no CUDA device", seconds=None, samples=None))
    return rows


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = {"cpu": "a CPU", "libraries": {"numpy": "2.4"}, "engine": 2}
    return write_html(tmp_path_factory.mktemp("page"), [("run", environment, measured())], every_picture=True)


def tried(page: Path, script: str, name: str, **options: Any) -> Any:
    """What a script that is run in the page gives, as JSON."""
    copy = page.with_name(f"{name}.html")
    ending = f"""<script>(async () => {{
      let found;
      try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = String(error); }}
      const told = {{ id: "found", textContent: JSON.stringify(found) }};
      document.body.append(Object.assign(document.createElement("pre"), told));
    }})();</script>"""
    copy.write_text(page.read_text().replace("</body>", f"{ending}</body>"))
    seen = browser.visit(copy.as_uri(), **options)
    assert seen.console == []
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', seen.dom, re.DOTALL)
    return json.loads(html.unescape(text))


def test_every_section_is_there_and_nothing_is_asked_for(page: Path) -> None:
    seen = browser.visit(page.as_uri())
    assert seen.console == []
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", seen.dom)
    assert headings == ["Overview", "Speed", "Memory", "First call", "Environment", "Cases"]
    assert seen.dom.count("<tr") > 22


def test_the_guard_against_requests_works(page: Path) -> None:
    """A page that asks another host for something does not pass."""
    copy = page.with_name("asks.html")
    copy.write_text(page.read_text().replace("</body>", '<img src="http://example.invalid/x.png"></body>'))
    assert browser.visit(copy.as_uri()).console


def test_filter_sort_and_choice(page: Path) -> None:
    found = tried(
        page,
        """
        const rows = () => [...document.querySelectorAll("table.cases tbody tr")];
        const column = (k) => rows().map((row) => row.children[k].textContent);
        const heads = [...document.querySelectorAll("table.cases thead th")];
        const time = heads.findIndex((head) => head.textContent === "time per call");
        const variant = heads.findIndex((head) => head.textContent === "variant");
        const form = document.querySelector("form.narrow");
        const all = rows().length;
        heads[time].querySelector("button").click();
        const rising = column(time);
        const said = heads[time].getAttribute("aria-sort");
        heads[time].querySelector("button").click();
        const falling = column(time);
        form.words.value = "XLA caffe";
        form.dispatchEvent(new Event("input", { bubbles: true }));
        const found = column(variant), counted = form.querySelector("output").textContent;
        form.words.value = "";
        form.status.value = "failed";
        form.dispatchEvent(new Event("input", { bubbles: true }));
        const failed = column(variant);
        const figures = [...document.querySelectorAll("figure")];
        const shown = () => figures.filter((one) => !one.hidden).map((one) => one.dataset.recipe);
        const before = [...new Set(shown())];
        for (const group of document.querySelectorAll(".choose")) group.children[1].click();
        return { all, rising, said, falling, found, counted, failed, before, after: [...new Set(shown())] };
        """,
        "filter",
    )
    assert found["all"] == 22
    assert found["rising"][:2] == ["510 µs", "510 µs"]
    assert found["rising"][-2:] == ["–", "–"]
    assert found["said"] == "ascending"
    assert found["falling"][:2] == ["32.4 ms", "32.4 ms"]
    assert found["falling"][-2:] == ["–", "–"]
    assert found["found"] == ["tf-xla", "tf-xla"]
    assert found["counted"] == "2 of 22 cases"
    assert found["failed"] == ["broken"]
    assert (found["before"], found["after"]) == (["tf"], ["caffe"])


def test_a_long_table_comes_in_pages(tmp_path: Path) -> None:
    rows = [replace(PLAIN, batch=k) for k in range(1, 251)]
    page = write_html(tmp_path, [("run", {}, rows)])
    found = tried(
        page,
        """
        const rows = () => document.querySelectorAll("table.cases tbody tr").length;
        const on = document.querySelector(".pages [name=on]");
        const seen = [rows()];
        on.click(); seen.push(rows());
        on.click(); seen.push(rows());
        return { seen, text: document.querySelector(".pages span").textContent, end: on.disabled };
        """,
        "pages",
    )
    assert found == {"seen": [100, 100, 50], "text": "201 to 250 of 250", "end": True}


def test_numbers_are_those_of_the_terminal(tmp_path: Path) -> None:
    """The page writes numbers itself: as `copycost.model.numbers` does."""
    from copycost.model import numbers

    times = [1.5e-9, 9.996e-7, 1.2345e-6, 9.994e-4, 0.0123456, 0.9996, 1234.5]
    sizes = [0, 1023, 1024, 999.4 * 1024, 1023 * 1024, 5 * 2**30, 2000 * 2**30]
    rows = [
        replace(M, batch=k + 1, seconds=s, images_per_second=1 / s, allocated_bytes=int(b), copy_fraction=s % 1)
        for k, (s, b) in enumerate(zip(times, sizes, strict=True))
    ]
    page = write_html(tmp_path, [("run", {}, rows)])
    found = tried(
        page,
        """
        const heads = [...document.querySelectorAll("table.cases thead th")].map((head) => head.textContent);
        const lines = () => [...document.querySelectorAll("table.cases tbody tr")];
        const at = (name) => lines().map((row) => row.children[heads.indexOf(name)].textContent);
        return [at("time per call"), at("images/s"), at("allocated"), at("of copy speed")];
        """,
        "numbers",
    )
    short = [float(f"{s:.4g}") for s in times]
    assert found[0] == [numbers.seconds(s) for s in short]
    assert found[1] == [numbers.count(float(f"{1 / s:.4g}")) for s in times]
    assert found[2] == [numbers.size(int(b)) for b in sizes]
    assert found[3] == [numbers.percent(float(f"{s % 1:.4g}")) for s in times]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = browser.installed(tmp_path_factory.mktemp("npm"), ["axe-core@4"])
    return (folder / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_accessibility(page: Path, axe: str, dark: bool) -> None:
    script = """
      const run = await axe.run(document, { resultTypes: ["violations"] });
      const where = (one) => one.nodes.map((node) => node.html.slice(0, 120)).slice(0, 3);
      return run.violations.map((one) => [one.impact, one.id, where(one)]);
    """
    copy = page.with_name("with-axe.html")
    copy.write_text(page.read_text().replace("</head>", f"<script>{axe}</script></head>"))
    found = tried(copy, script, f"axe-{dark}", dark=dark, wait=30_000)
    assert [one for one in found if one[0] in ("serious", "critical")] == []


def test_the_accessibility_check_finds_something(page: Path, axe: str) -> None:
    broken = page.with_name("broken.html")
    text = page.read_text().replace("</head>", f"<script>{axe}</script></head>").replace('<html lang="en">', "<html>")
    broken.write_text(text)
    script = (
        "return (await axe.run(document)).violations.filter((one) => one.impact === 'serious').map((one) => one.id);"
    )
    assert "html-has-lang" in tried(broken, script, "axe-broken", wait=30_000)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_readable_at_every_width(page: Path, width: int, dark: bool) -> None:
    """Nothing but what scrolls by itself is wider than the window. A picture of each is kept."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    # Chromium's window is no narrower than 500: a narrow page stands in a frame.
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(
        '<body style="margin:0">'
        f'<iframe src="{page.name}" style="border:0;width:{width}px;height:2400px"></iframe></body>'
    )
    shot = SHOTS / f"report-{width}-{'dark' if dark else 'light'}.png"
    browser.visit(frame.as_uri(), shot, width=max(width, 600), height=2400, dark=dark)
    assert shot.stat().st_size > 10_000
    script = """
      const wide = [...document.querySelectorAll("body *")].filter((one) =>
        one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre, nav, .unseen"));
      return [innerWidth, wide.map((one) => one.outerHTML.slice(0, 100)).slice(0, 5)];
    """
    if width >= 600:
        assert tried(page, script, f"wide-{width}", width=width, dark=dark)[1] == []


def test_without_javascript_all_but_the_table_is_there(page: Path) -> None:
    text = page.read_text()
    assert "<noscript>" in text
    assert 'class="choose" hidden' in text
    assert text.count("<figure") == text.count("</figure>") > 10
