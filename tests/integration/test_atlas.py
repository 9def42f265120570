"""`copycost contribute` and `copycost atlas`: machines beside each other, from files of strangers."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from copycost.analysis.atlas import atlas
from copycost.results import contribution
from copycost.results.contribution import Contribution, Figures, Machine, Price
from copycost.results.store import RunError

CPU = Figures("tf", "numpy-out", "cpu", "float32", "channels_last", 8, 32, 48, 0.002, 0.001, 0.004, 0, None)
GPU = replace(CPU, variant="cupy-out", device="gpu", seconds=0.0001, seconds_low=None, seconds_high=None, joules=0.01)
HOST = Machine("A CPU", 8, 2**34, ("A GPU",), "580.1", "Linux", "3.12", {"numpy": "2.4"}, 8, 5, "0.1", "2026-01")
ONE = Contribution("one", HOST, Price(1.8, "EUR"), (CPU, replace(CPU, variant="numpy-new", seconds=0.004), GPU))
OTHER = Contribution("other <b>", replace(HOST, gpus=(), driver=None), None, (replace(CPU, seconds=0.001),))


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(
        "from copycost import variant\n\n\n@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def secret_project(example):\n    return lambda x: x / 127.5 - 1.0\n"
    )
    done = command(
        "run", "--recipe", "tf", "--variant", "numpy-[no]*", "--variant", "secret-project", "--with", "mine.py",
        "--batch", "1", "--size", "32x48", "--dtype", "float32", "--blocks", "2", "--out", "it",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_contribution_has_the_figures_and_nobodys_names(command: Command, run: Path) -> None:
    done = command("contribute", "it", "--price", "1.20EUR", "--out", "me.json")
    assert done.returncode == 0, done.stderr
    text = (run / "me.json").read_text()
    for private in (platform.node(), "secret", str(run), str(Path.home()), "variables", "image"):
        assert private not in text
    found = contribution.read(run / "me.json")
    assert found.price == Price(1.2, "EUR")
    rows = {m["variant"]: m for m in map(json.loads, (run / "it" / "measurements.jsonl").read_text().splitlines())}
    assert {case.variant for case in found.cases} == {
        name for name, m in rows.items() if name.startswith("numpy-") and m["status"] == "ok"
    }
    for case in found.cases:
        assert case.seconds == rows[case.variant]["seconds"]
        assert case.allocated_bytes == rows[case.variant]["allocated_bytes"]


def test_the_page_has_each_machine_and_mine_in_bold(command: Command, run: Path) -> None:
    (run / "all").mkdir()
    for name, one in (("one", ONE), ("other", OTHER)):
        (run / "all" / f"{name}.json").write_text(contribution.text(one))
    (run / "all" / "broken.json").write_text("{")
    assert command("contribute", "it", "--out", "me.json", "--name", "mine").returncode == 0
    done = command("atlas", "all", "--mine", "me.json", "--html", "page")
    assert done.returncode == 0, done.stderr
    assert "broken.json is no contribution" in done.stderr
    assert "3 machines" in done.stdout
    page = (run / "page" / "index.html").read_text()
    assert "other &lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count('class="cpu mine"') == 1
    assert "cupy-out" in page


def test_a_machine_has_its_fastest_variant_on_each_device() -> None:
    (chapter,) = atlas([ONE, OTHER])
    assert chapter.title == "tf 8×32×48 float32"
    found = [(entry.contribution.name, entry.device, entry.fastest.variant) for entry in chapter.entries]
    assert found == [("one", "gpu", "cupy-out"), ("other <b>", "cpu", "numpy-out"), ("one", "cpu", "numpy-out")]
    gpu, _, cpu = chapter.entries
    assert (gpu.images_per_second, gpu.images_per_joule) == (pytest.approx(80_000), pytest.approx(800))
    assert gpu.images_per_currency == pytest.approx(80_000 * 3600 / 1.8)
    assert (cpu.images_per_second, cpu.low, cpu.high) == (pytest.approx(4000), pytest.approx(2000), pytest.approx(8000))
    assert cpu.images_per_joule is None


def test_other_methods_and_inputs_are_other_chapters() -> None:
    older = replace(OTHER, machine=replace(HOST, engine=4))
    larger = replace(OTHER, cases=(replace(CPU, batch=32),))
    chapters = atlas([ONE, OTHER, older, larger])
    assert len(chapters) == 3
    assert {entry.contribution.name for entry in chapters[0].entries} == {"one", "other <b>"}


def test_a_contribution_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(contribution.text(ONE))
    assert contribution.read(tmp_path / "one.json") == ONE


def changed(path: tuple[Any, ...], value: Any) -> str:
    document = json.loads(contribution.text(ONE))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", changed(("kind",), "run"), changed(("schema",), 2), changed(("name",), 3),
        changed(("price",), {"amount": -1, "currency": "EUR"}), changed(("price",), "free"),
        changed(("machine", "cpus"), 0), changed(("machine", "gpus"), "none"), changed(("machine",), {}),
        changed(("cases", "rows", 0, 8), 0), changed(("cases", "rows", 0, 8), "1"),
        changed(("cases", "rows", 0, 6), -1), changed(("cases", "rows", 0), [1]),
        changed(("cases", "columns", 0), "secret"), changed(("cases", "rows"), {}),
        contribution.text(ONE).replace("0.002", "NaN"), contribution.text(ONE).replace("0.002", "1e999"),
    ],
)  # fmt: skip
def test_what_is_no_contribution_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "it.json").write_text(text)
    with pytest.raises(RunError) as raised:
        contribution.read(tmp_path / "it.json")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_bad_arguments_are_one_line(command: Command, run: Path) -> None:
    (run / "empty").mkdir()
    for words, says in (
        (("contribute", "absent"), "no run at absent"),
        (("contribute", "it", "--price", "cheap"), "expected e.g. 1.20EUR"),
        (("atlas", "absent"), "no folder absent"),
        (("atlas", "empty"), "empty has no contribution"),
        (("atlas", "empty", "--mine", "it/environment.json"), "is no contribution"),
    ):
        done = command(*words)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
