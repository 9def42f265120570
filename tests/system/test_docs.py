"""What the documentation shows, run as it is written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command, read_json

from copycost import registry
from copycost.model.measurement import FIELDS
from copycost.results.table import ORIGIN
from copycost.studies.certify import steps
from copycost.studies.certify.step import STEPS
from copycost.studies.claims.run import load
from copycost.studies.pipelines.ways import WAYS

assert steps  # registers them
DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_in_the_documentation_as_it_is_run(example: Path) -> None:
    text = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    assert f"```python\n# {example.name}\n{example.read_text()}```" in text or f"docs/examples/{example.name}" in text


def test_a_recipe_of_ones_own_in_fifteen_lines(command: Command, tmp_path: Path) -> None:
    example = DOCS / "examples" / "mine.py"
    assert len([line for line in example.read_text().splitlines() if line.strip()]) <= 15
    arguments = ["--recipe", "mine", "--device", "cpu", "--batch", 2, "--size", "64x80", "--budget", 1, "--json", "-"]
    arguments += ["--dtype", "uint8", "--dtype", "float32"]
    for variant in ("numpy-*", "tf-*", "torch-new", "jax-*"):
        arguments += ["--variant", variant]
    done = command("run", "--with", example, *arguments)
    assert done.returncode == 0, done.stderr
    found = {(m["variant"], m["dtype"]): m for m in read_json(done.stdout)["measurements"]}
    for dtype in ("uint8", "float32"):
        for variant in ("numpy-expression", "numpy-out", "tf-eager", "tf-graph", "tf-xla", "tf-variable-eager",
                        "tf-variable-graph", "tf-variable-xla", "torch-new", "jax-eager", "jax-jit"):  # fmt: skip
            m = found[variant, dtype]
            assert m["status"] == "ok", (variant, m["reason"])
            assert m["result_dtype"] == "float32"
            assert m["bytes_moved"] == 2 * (64 * 80 * (1 if dtype == "uint8" else 4) + 32 * 48 * 4) * 3
        over = found["tf-variable-inplace", dtype]
        assert (over["status"], "does not fit over" in over["reason"]) == ("skipped", True)
    assert found["tf-variable-xla", "float32"]["allocations"] == 0


def test_what_is_written_for_one_layout_is_skipped_in_the_other(command: Command) -> None:
    example = DOCS / "examples" / "mine.py"
    arguments = ["--recipe", "mine", "--variant", "numpy-*", "--layout", "channels_first", "--batch", 1]
    done = command("run", "--with", example, *arguments, "--size", "64x80", "--json", "-")
    assert done.returncode == 0
    rows = read_json(done.stdout)["measurements"]
    assert {m["reason"] for m in rows} == {"it is for channels_last only"}


def test_the_notebook() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "examples" / "notebook.py"], capture_output=True, text=True, timeout=300
    )
    first, second, *table = done.stdout.splitlines()
    assert first.startswith("scaled (tf): "), done.stderr
    assert "of 2 × the input (36.8 MiB), input unchanged" in first
    assert second.startswith("scaled_into (tf): ")
    assert "no allocations, input unchanged" in second
    assert any("numpy-blocked" in row and "ok" in row for row in table)


def test_the_counts_of_any_call_are_those_of_the_page() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "examples" / "counted.py"], capture_output=True, text=True, timeout=300
    )
    assert f"```text\n{done.stdout}```" in (DOCS / "how-to" / "python.md").read_text(), done.stdout + done.stderr


def test_an_explanation_is_that_of_the_page() -> None:
    """But for the times, which belong to a machine."""
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "explain", "explained.py:preprocess", "--input", "8x224x224x3:float32"],
        cwd=DOCS / "examples", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (DOCS / "how-to" / "explain.md").read_text()
    timeless = [re.sub(r"time × .*?\); ", "", text) for text in (done.stdout, page)]
    assert f"```text\n{timeless[0]}```" in timeless[1], done.stdout


def test_the_limits_of_a_marker(tmp_path: Path) -> None:
    example = (DOCS / "examples" / "test_limits.py").read_text()
    for text, outcome in ((example, "1 passed"), (example.replace("image.mean()", "(image * 1).mean()"), "1 failed")):
        (tmp_path / "test_limits.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert outcome in done.stdout, done.stdout + done.stderr
    assert "it requests 393,216 bytes, more than 100,000; copies of its largest array: 1, more than 0" in done.stdout


def test_the_fixture(tmp_path: Path) -> None:
    """In a folder of its own: the plugin is found as it is in any project."""
    example = DOCS / "examples" / "test_preprocessing.py"
    (tmp_path / example.name).write_text(example.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    copies = example.read_text().replace("    return out", "    return out.copy()")
    (tmp_path / example.name).write_text(copies)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert "1 failed" in done.stdout
    assert "the result is not in the buffer" in done.stdout or "1 allocation of 1 × the input" in done.stdout


PACKAGE = """
import numpy as np
from copycost import recipe, variant

@recipe(name="halves")
def halves(x): return x / 2

@variant(recipe="halves", runtime="numpy", writes="new")
def halved(example):
    two = np.float32(2)
    return lambda x: x / two
"""


def install(folder: Path, module: str, text: str) -> None:
    """A package as pip leaves it: a module, and what its metadata says of it."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[copycost.variants]\n{module} = {module}\n")


def test_a_package_that_ships_variants(command: Command, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "halving", PACKAGE)
    env = {"PYTHONPATH": str(site)}
    done = command("run", "--recipe", "halves", "--batch", 1, "--size", "16x16", "--json", "-", env=env)
    assert done.returncode == 0, done.stderr
    rows = read_json(done.stdout)["measurements"]
    assert [(m["variant"], m["dtype"], m["status"]) for m in rows] == [
        ("halved", "uint8", "ok"),
        ("halved", "float32", "ok"),
    ]
    assert "halving" in command("list", "variants", "--recipe", "halves", env=env).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [("raise RuntimeError('out of date')", "RuntimeError: out of date"), (PACKAGE + PACKAGE, "defined twice")],
)
def test_a_package_that_is_broken_is_left_out_with_a_line(
    command: Command, tmp_path: Path, text: str, words: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "broken", text)
    done = command("list", "recipes", env={"PYTHONPATH": str(site)})
    assert done.returncode == 0
    assert "caffe" in done.stdout
    assert "halves" not in done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_documents_systems_are_all_there() -> None:
    """Every name of the table is a variant's, a pipeline's or a claim's; and each that is there for it is named."""
    page = (DOCS / "results" / "folklore.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| 00\d ", line)]
    assert {row[0].strip("| ") for row in rows} == {"000", "001", "002", "003"}
    named = {name for row in rows for name in re.findall(r"`([a-z][\w-]+)`", row[2]) if "/" not in name}
    variants = {name for _, name in registry.variants}
    assert named <= variants | set(WAYS) | set(load())
    ours = {v.name for v in registry.variants.values() if v.source.name == "copycost.variants.documents"}
    assert ours | set(WAYS) <= named


def test_the_verdicts_are_those_of_every_claim() -> None:
    page = (DOCS / "results" / "claims-results.md").read_text()
    rows = re.findall(r"^\| `([a-z\d-]+)` (.+?) \| .* \|$", page, re.MULTILINE)
    assert sorted(rows) == sorted((claim.id, claim.claim) for claim in load().values())
    # TensorFlow allocates in another way with oneDNN and without it.
    letters = dict(re.findall(r"^\* ([A-Z]): .*`TF_ENABLE_ONEDNN_OPTS=([01])`$", page, re.MULTILINE))
    assert set(letters.values()) == {"0", "1"}
    assert f"| claim | {' | '.join(letters)} | what was seen |" in page


def test_the_machines_that_were_certified_are_those_of_the_evidence() -> None:
    done = subprocess.run([sys.executable, DOCS / "examples" / "certified.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (DOCS / "how-to" / "certify.md").read_text()
    assert f"<!-- certified -->\n{done.stdout}<!-- /certified -->" in page
    described = re.findall(r"^\| `([a-z-]+)` \| [CG]PU", page, re.MULTILINE)
    assert described == list(STEPS)


def test_every_column_is_described() -> None:
    """With a unit, or none; and no column that there is not."""
    text = (DOCS / "reference" / "columns.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    described = [name for cells in rows for name in re.findall(r"`(\w+)`", cells[0])]
    assert described == ["source", *ORIGIN, *FIELDS]
    for cells in rows:
        assert len(cells) == 3
        timed = re.search(r"seconds|samples", cells[0])
        assert (cells[1] in ("s", "1/s", "B/s")) == bool(timed or "per_second" in cells[0])
        assert ("B" in cells[1]) == bool(re.search("bytes|timeline", cells[0]))
