"""asv as its users run it: commits, environments, pages, somebody else's project. It installs packages."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import browser
import pytest
from asv.results import Results as AsvResults

from copycost.results import load

ROOT = Path(__file__).parents[2]
CHOSEN = ("numpy-new", "numpy-expression", "numpy-out")
OPTIONS = " ".join(f"--variant {name}" for name in CHOSEN) + " --recipe tf --batch 1 --dtype float32 --device cpu"
CELLS = rf"'tf', '({'|'.join(CHOSEN)})', 'cpu', 'float32', .*, 1\)"

Asv = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with a home of its own: asv keeps the machine's record there; pip keeps its cache where it is."""
    where = tmp_path_factory.mktemp("home")
    cache = os.environ.get("PIP_CACHE_DIR") or str(Path("~/.cache/pip").expanduser())
    env = os.environ | {"HOME": str(where), "PIP_CACHE_DIR": cache, "COLUMNS": "200"}
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"))}  # fmt: skip
    env |= identity
    subprocess.run(
        [sys.executable, "-m", "copycost", "machine", "--name", "test"], env=env, check=True, capture_output=True
    )
    return env


def asv(folder: Path, env: dict[str, str], *args: str, ok: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "asv", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode in ok, done.stdout[-5000:] + done.stderr[-2000:]
    return done


def git(folder: Path, env: dict[str, str], *args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def committed(folder: Path, env: dict[str, str], message: str, day: int) -> str:
    """Commit all that is in the folder; its hash."""
    git(folder, env, "add", "--all")
    dates = {f"GIT_{who}_DATE": f"2026-01-{day:02}T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    git(folder, env | dates, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, env, "rev-parse", "HEAD")


def tree(folder: Path) -> None:
    """This project as it stands, tracked files only."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, home: dict[str, str]) -> tuple[Path, list[str]]:
    """This project with three commits, measured in two environments: a package of its own version each.

    The first has no engine; the second lacks one of the variants, so that all after it have other numbers there.
    """
    folder = tmp_path_factory.mktemp("copycost")
    git(folder, home, "init", "--quiet", "--initial-branch", "main")
    tree(folder)
    shutil.rmtree(folder / "suite" / "copycost")
    (folder / "suite" / "copycost").mkdir()
    (folder / "suite" / "copycost" / "__init__.py").write_text("")
    (folder / "suite" / "copycost" / "_version.py").write_text('__version__ = "0.0.1"\n')
    first = committed(folder, home, "no engine", 1)
    tree(folder)
    variants = folder / "suite" / "copycost" / "variants" / "numpy.py"
    complete = variants.read_text()
    fewer = 'from copycost import registry as _registry\n_registry.variants.pop(("tf", "numpy-new"))\n'
    variants.write_text(f"{complete}\n{fewer}")
    second = committed(folder, home, "fewer variants", 2)
    variants.write_text(complete)
    third = committed(folder, home, "all of them", 3)
    text = (folder / "asv.conf.json").read_text()
    text = re.sub(r'"python": "3\.\d+", ', f'"python": "{sys.version_info[0]}.{sys.version_info[1]}", ', text)
    text = re.sub(r', "tensorflow": "[^"]+", "keras": "[^"]+"', "", text)
    text = re.sub(r',\s*\{[^{}]*\{[^{}]*\},\s*"env_nobuild": \{[^{}]*\}\}', "", text)
    if sys.version_info >= (3, 13):
        text = text.replace("2.0.2", "2.1.3")  # the first with wheels for it
    (folder / "asv.conf.json").write_text(text)
    env = home | {"COPYCOST_OPTIONS": OPTIONS}
    asv(folder, env, "run", "ALL", "--record-samples", "--machine", "test", "--bench", rf"NumPy.*{CELLS}")
    asv(folder, env, "publish", "--no-pull")
    return folder, [first, second, third]


def test_commits_and_environments_line_up(history: tuple[Path, list[str]]) -> None:
    folder, commits = history
    table = load.read(folder / ".asv" / "results")
    table = table[table["variant"].isin(CHOSEN) & (table["recipe"] == "tf") & (table["dtype"] == "float32")]
    table = table[table["batch"] == 1]
    assert table["environment"].nunique() == 2
    n = 224 * 224 * 3 * 4
    for name, allocated in (("numpy-new", 2 * n), ("numpy-expression", n), ("numpy-out", 0)):
        its = table[table["variant"] == name]
        statuses = {commit: set(its[its["commit"] == commit]["status"]) for commit in commits}
        expected = "skipped" if name == "numpy-new" else "ok"
        assert statuses == {commits[0]: {"skipped"}, commits[1]: {expected}, commits[2]: {"ok"}}, name
        assert set(its["allocated_bytes"].dropna()) == {allocated}, name
    timed = table[table["seconds"].notna()]
    assert (timed["blocks"] == 7).all()
    assert timed["samples"].map(len).eq(7).all()


def test_what_is_read_is_what_asv_reads(history: tuple[Path, list[str]]) -> None:
    """By asv's own reader."""
    folder, commits = history
    path = next((folder / ".asv" / "results" / "test").glob(f"{commits[2][:8]}-*numpy2.4*.json"))
    theirs = AsvResults.load(str(path))
    table = load.read(folder / ".asv" / "results")
    ours = table[(table["commit"] == commits[2]) & table["environment"].str.contains("numpy2.4")]
    key = "preprocessing.NumPy.track_seconds"
    values = [v for v in theirs.get_result_value(key, theirs.get_result_params(key)) if v is not None and v == v]
    assert sorted(values) == sorted(ours["seconds"].dropna())
    assert len(values) == 3


def test_the_pages(history: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The grid and a graph, drawn by a browser, with nothing to complain of."""
    folder, _ = history
    scripts = browser.scripts(tmp_path / "scripts")
    with browser.serve(folder / ".asv" / "html", scripts) as base:
        grid = browser.visit(base + "/", tmp_path / "grid.png", height=3000)
        drawn = re.findall(
            r'<div id="summarygrid-([^"]+)" class="benchmark-plot"[^>]*><canvas class="flot-base"', grid.dom
        )
        assert "preprocessing.NumPy.track_allocated_bytes" in drawn
        assert "preprocessing.NumPy.track_seconds" in drawn
        graph = browser.visit(base + "/#preprocessing.NumPy.track_allocated_bytes", tmp_path / "graph.png")
        assert re.search(r'<div id="main-graph"[^>]*><canvas class="flot-base"', graph.dom)
        assert len(re.findall(r'class="flot-tick-label', graph.dom)) > 3
        assert "2.4.6" in graph.dom  # one of the environments, to choose
        # The grid asks for every benchmark that there is, and only NumPy's were run.
        assert [line for line in grid.console if not re.search(r"graphs/summary/(?!preprocessing\.NumPy)", line)] == []
        assert graph.console == []
        (folder / ".asv" / "html" / "index.json").rename(tmp_path / "index.json")
        assert browser.visit(base + "/").console  # so that there is something that fails


def test_shards_of_a_history_merge_to_its_bytes_and_pages(
    history: tuple[Path, list[str]], home: dict[str, str], tmp_path: Path
) -> None:
    """Three commits, two environments, and each result in one or two of four folders, merged in random orders."""
    folder, _ = history
    whole = folder / ".asv" / "results"
    original = {path.relative_to(whole): path.read_bytes() for path in sorted(whole.rglob("*.json"))}
    assert len(original) == 2 + 3 * 2
    order = random.Random(0)
    shards = [tmp_path / f"shard{number}" for number in range(4)]
    for name, text in original.items():
        document = json.loads(text)
        for shard in shards:
            (shard / name).parent.mkdir(parents=True, exist_ok=True)
            if "results" not in document:
                (shard / name).write_bytes(text)
        if "results" not in document:
            continue
        parts: list[dict[str, object]] = [{} for _ in shards]
        for benchmark, row in document["results"].items():
            for part in order.sample(parts, order.choice((1, 2))):
                part[benchmark] = row
        for shard, part in zip(shards, parts, strict=True):
            if part:
                (shard / name).write_text(json.dumps(document | {"results": part}))
    for attempt in range(3):
        order.shuffle(shards)
        into = tmp_path / f"merged{attempt}"
        for some in (shards[:2], shards[2:], shards[1:3]):
            done = subprocess.run(
                [sys.executable, "-m", "copycost", "merge", *map(str, some), "--into", str(into)],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        assert {path.relative_to(into): path.read_bytes() for path in sorted(into.rglob("*.json"))} == original
    before = pages(folder, home, tmp_path / "before")
    shutil.move(whole, tmp_path / "kept")
    try:
        shutil.copytree(tmp_path / "merged0", whole)
        assert pages(folder, home, tmp_path / "after") == before
    finally:
        shutil.rmtree(whole)
        shutil.move(tmp_path / "kept", whole)


def pages(folder: Path, env: dict[str, str], html: Path) -> dict[str, bytes]:
    """Return the data of the pages that asv publishes, but for the time when it does."""
    asv(folder, env, "publish", "--no-pull", "--html-dir", str(html))
    texts = {str(path.relative_to(html)): path.read_bytes() for path in sorted(html.rglob("*.json"))}
    assert any(name.startswith("graphs/") for name in texts)
    return {name: text for name, text in texts.items() if name != "info.json"}


def test_the_example_tells_environments_apart(history: tuple[Path, list[str]]) -> None:
    example = [sys.executable, ROOT / "docs" / "examples" / "versions.py", history[0] / ".asv" / "results"]
    done = subprocess.run(example, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\* A: `\S*numpy2\.[01]\.\d`\n\* B: `\S*numpy2\.4\.6`", done.stdout)
    assert "Allocations differ in 0 of 3 cases" in done.stdout


def test_a_run_and_asv_give_the_same_rows(tmp_path: Path, home: dict[str, str]) -> None:
    """The session that asv took, as it was kept, and as asv's results have it."""
    git(tmp_path, home, "init", "--quiet", "--initial-branch", "main")
    tree(tmp_path)
    committed(tmp_path, home, "one", 1)
    env = home | {"COPYCOST_OPTIONS": OPTIONS, "COPYCOST_RUNS": str(tmp_path / "runs")}
    now = ("--python=same", "--set-commit-hash", "HEAD", "--machine", "test", "--record-samples")
    asv(tmp_path, env, "run", *now, "--bench", rf"NumPy.*{CELLS}")
    (run,) = (tmp_path / "runs").iterdir()
    table = load.read(run, tmp_path / ".asv" / "results")
    table = table[table["status"] == "ok"]
    ours, theirs = (
        table[table["machine"].isna() == is_run].sort_values("variant").reset_index(drop=True)
        for is_run in (True, False)
    )
    assert ours["variant"].tolist() == sorted(CHOSEN)
    for column in ("recipe", "variant", "device", "dtype", "layout", "batch", "height", "width", "channels", "runtime",
                   "writes", "status", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes",
                   "input_changed", "max_abs_error", "blocks", "seconds_first"):  # fmt: skip
        assert ours[column].tolist() == theirs[column].tolist(), column
    for column in ("seconds", "seconds_low", "seconds_high"):
        assert ours[column].tolist() == pytest.approx(theirs[column].tolist()), column
    # And a session of its own has the same allocations.
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "run", *OPTIONS.split(), "--out", str(tmp_path / "again")],
        cwd=ROOT, env=home, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = load.read(tmp_path / "again").sort_values("variant")
    for column in ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes", "input_changed"):
        assert again[column].tolist() == theirs[column].tolist(), column


CELL_BENCHMARKS = """
import itertools
from copycost import asv
from copycost.asv.benchmarks import _KEPT

class NumPy(asv.Cases, runtime="numpy"):
    def setup_cache(self):
        row = dict.fromkeys(_KEPT, 1) | {"status": "ok", "missing": {}, "samples": [[0.1]] * 7, "known": None}
        return {"rows": {case: row for case in itertools.product(*self.params)}, "missing": None}

class Empty:
    params = [list(range(4 * len(list(itertools.product(*NumPy.params)))))]
    def setup_cache(self):
        return 1
    def track_nothing(self, cache, n):
        return n
"""


def test_reading_a_figure_costs_asv_what_reading_nothing_costs(tmp_path: Path, home: dict[str, str]) -> None:
    """More than 300 cells of a session that has been measured, beside as many of a benchmark that is empty."""
    git(tmp_path, home, "init", "--quiet", "--initial-branch", "main")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("")
    (tmp_path / "benchmarks" / "cells.py").write_text(CELL_BENCHMARKS)
    (tmp_path / "asv.conf.json").write_text((ROOT / "asv.conf.json").read_text())
    committed(tmp_path, home, "cells", 1)
    chosen = r"Empty|NumPy.track_(allocations|allocated_bytes|peak_bytes|seconds)\("
    asv(tmp_path, home, "run", "--python=same", "--set-commit-hash", "HEAD", "--machine", "test", "--bench", chosen)
    (path,) = (tmp_path / ".asv" / "results" / "test").glob("*existing*.json")
    document = json.loads(path.read_text())
    at = document["result_columns"].index("duration")
    took = {name: row[at] for name, row in document["results"].items()}
    cells = {name: len(row[0]) for name, row in document["results"].items()}
    read = sum(seconds for name, seconds in took.items() if "NumPy" in name)
    number = cells["cells.Empty.track_nothing"]
    assert sum(cells.values()) == 2 * number > 600
    print(f"{number} cells: {read:.1f} s; of an empty benchmark: {took['cells.Empty.track_nothing']:.1f} s")
    assert read < 3 * took["cells.Empty.track_nothing"]


def blocks(language: str) -> list[str]:
    """What docs/how-to/asv.md shows."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "how-to" / "asv.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory, home: dict[str, str]) -> tuple[Path, list[str]]:
    """Somebody else's project, as the documentation has it, tracked."""
    folder = tmp_path_factory.mktemp("pixels")
    git(folder, home, "init", "--quiet", "--initial-branch", "main")
    (configuration,) = blocks("toml")
    (module,) = [text for text in blocks("python") if text.startswith("# pixels/__init__.py")]
    (before, after) = re.findall(r"^[-+](\s.*)$", "".join(blocks("diff")), re.MULTILINE)
    (folder / "pixels").mkdir()
    (folder / "pyproject.toml").write_text(configuration)
    (folder / "pixels" / "__init__.py").write_text(module)
    first = committed(folder, home, "normalize", 1)
    assert module.count(before) == 1
    (folder / "pixels" / "__init__.py").write_text(module.replace(before, after))
    second = committed(folder, home, "a copy that nobody sees", 2)
    commands = [
        line.split() for text in blocks("console") for line in text.splitlines() if line.startswith("$ copycost")
    ]
    (init,) = [words[2:] for words in commands if words[2] == "init"]
    (track,) = [words[2:] for words in commands if words[2] == "track"]
    run(folder, home, *init)
    assert (folder / "benchmarks" / "normalize.py").read_text() in blocks("python")
    third = committed(folder, home, "benchmarks", 3)
    run(folder, home, *track)
    return folder, [first, second, third]


def run(folder: Path, env: dict[str, str], *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "copycost", *words], cwd=folder, env=env,
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hidden_copy_is_a_step_of_exactly_its_bytes(pixels: tuple[Path, list[str]]) -> None:
    folder, commits = pixels
    table = load.read(folder / ".asv" / "results").set_index(["commit", "batch"])
    assert (table["status"] == "ok").all(), table["reason"].tolist()
    for batch in (1, 32):
        n = batch * 224 * 224 * 3 * 4
        allocated = [int(table.loc[(commit, batch), "allocated_bytes"]) for commit in commits]
        assert allocated == [n, 2 * n, 2 * n]
        assert [int(table.loc[(commit, batch), "allocations"]) for commit in commits] == [1, 2, 2]
    assert set(table["variant"]) == {"normalize"}


def test_asv_names_the_regression_and_fails(pixels: tuple[Path, list[str]], home: dict[str, str]) -> None:
    folder, commits = pixels
    done = asv(folder, home, "continuous", commits[0], commits[1], "--bench", "track_allocat", ok=(1,))
    rows = [line for line in done.stdout.splitlines() if line.startswith("| +") and ", 32)" in line]
    (row,) = [line for line in rows if "track_allocated_bytes" in line]
    assert "19.3M" in row
    assert "38.5M" in row
    assert "PERFORMANCE DECREASED" in done.stdout
    # And what is published says which commit it was.
    found = json.loads((folder / "reports" / "history" / "asv" / "regressions.json").read_text())["regressions"]
    steps = {row[0]: row[6] for row in found if "track_allocated_bytes" in row[0]}
    assert len(steps) == 2
    index = json.loads((folder / "reports" / "history" / "asv" / "index.json").read_text())
    for name, jumps in steps.items():
        ((_, revision, before, after),) = jumps
        assert index["revision_to_hash"][str(revision)] == commits[1], name
        assert after == 2 * before


def test_the_report_and_the_pages_lead_to_each_other(pixels: tuple[Path, list[str]]) -> None:
    folder, commits = pixels
    report = (folder / "reports" / "history" / "index.html").read_text()
    assert 'href="asv/index.html"' in report
    assert report.index(commits[2][:8]) < report.index(commits[0][:8])
    assert 'href="../index.html"' in (folder / "reports" / "history" / "asv" / "index.html").read_text()
