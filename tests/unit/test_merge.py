"""Merging results: whatever the order of the folders and their grouping, the same files come of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from copycost.results import merge_asv
from copycost.results.store import RunError

COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "samples", "profile"]
BENCHMARKS = [f"suite.time_{name}" for name in ("copy", "crop", "flip", "grey", "scale")]


def row(order: random.Random, version: str, started: int) -> list[Any]:
    value = order.random()
    full = [[value], [["1", "2"][: order.randrange(1, 2)]], version, started, value, None, None, None]
    while full[-1] is None:
        full.pop()
    return full


def history(order: random.Random) -> dict[str, dict[str, Any]]:
    """Return the files of a made-up history: two machines, commits and environments, and their benchmarks."""
    files: dict[str, dict[str, Any]] = {"benchmarks.json": {"version": 2}}
    for name in BENCHMARKS:
        files["benchmarks.json"][name] = {"version": f"v-{name}", "name": name, "params": [], "unit": "seconds"}
    for machine in ("left", "right"):
        files[f"{machine}/machine.json"] = {"version": 1, "machine": machine, "ram": "8"}
        for number in range(3):
            commit = f"{number}" * 40
            for environment in ("py3.11", "py3.12-numpy2"):
                started = 1_000_000 * number
                results = {}
                for name in BENCHMARKS:
                    started += order.randrange(1, 1000)
                    results[name] = row(order, f"v-{name}", started)
                files[f"{machine}/{commit[:8]}-{environment}.json"] = {
                    "commit_hash": commit, "env_name": environment, "date": number, "params": {"machine": machine},
                    "python": "3.11", "requirements": {}, "env_vars": {}, "result_columns": COLUMNS,
                    "results": results, "durations": {"<build>": 3.25}, "version": 2,
                }  # fmt: skip
    return files


def write(folder: Path, files: dict[str, dict[str, Any]]) -> Path:
    for name, document in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_result = path.name not in ("benchmarks.json", "machine.json")
        path.write_text(json.dumps(document) if is_result else json.dumps(document, indent=4, sort_keys=True))
    return folder


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.json"))}


def shards(order: random.Random, files: dict[str, dict[str, Any]], number: int) -> list[dict[str, dict[str, Any]]]:
    """Return parts of a history: some of the results of some of the files each, some of them in several parts."""
    parts: list[dict[str, dict[str, Any]]] = [{} for _ in range(number)]
    for name, document in files.items():
        if "results" not in document:
            continue
        for benchmark, its_row in document["results"].items():
            for part in order.sample(parts, order.choice((1, 1, 2))):
                own = part.setdefault(name, {**document, "results": {}})
                own["results"][benchmark] = its_row
                machine = f"{name.partition('/')[0]}/machine.json"
                part[machine] = files[machine]
                part.setdefault("benchmarks.json", {"version": 2})[benchmark] = files["benchmarks.json"][benchmark]
    for part in parts:
        for name, document in part.items():
            if "results" in document:
                shuffled = list(document["results"].items())
                order.shuffle(shuffled)
                part[name] = {**document, "results": dict(shuffled)}
    return [part for part in parts if part]


def merged(target: Path, *folders: Path, newest: bool = False) -> Path:
    found = merge_asv.merge(folders, newest)
    assert not found.conflicts
    for name, text in found.texts.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    return target


@pytest.mark.parametrize("seed", range(20))
def test_shards_of_a_history_give_the_history(tmp_path: Path, seed: int) -> None:
    """In any order, grouped in any way, and merged again."""
    order = random.Random(seed)
    files = history(order)
    whole = write(tmp_path / "whole", files)
    folders = [
        write(tmp_path / f"shard{number}", part)
        for number, part in enumerate(shards(order, files, order.randrange(2, 7)))
    ]
    order.shuffle(folders)
    assert read(merged(tmp_path / "once", *folders)) == read(whole)
    cut = order.randrange(1, len(folders)) if len(folders) > 1 else 1
    first, second = merged(tmp_path / "a", *folders[:cut]), folders[cut:]
    grouped = merged(tmp_path / "b", *second) if second else first
    assert read(merged(tmp_path / "grouped", grouped, first)) == read(whole)
    assert read(merged(tmp_path / "again", tmp_path / "grouped", *folders)) == read(whole)


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_results_are_taken_whatever_the_order(tmp_path: Path, seed: int) -> None:
    """Several runs of one benchmark, of several versions."""
    order = random.Random(seed)
    name = "left/00000000-py3.11.json"
    folders, newest = [], {}
    for number in range(order.randrange(2, 6)):
        files = history(random.Random(0))
        part = {key: files[key] for key in ("benchmarks.json", "left/machine.json", name)}
        for benchmark in order.sample(BENCHMARKS, 3):
            version, started = order.choice(["v1", "v2"]), order.randrange(10**9)
            part[name]["results"][benchmark] = row(order, version, started)
            part["benchmarks.json"][benchmark]["version"] = version
            newest[benchmark] = max(newest.get(benchmark, (0, "")), (started, version))
        folders.append(write(tmp_path / f"part{number}", part))
    once = merged(tmp_path / "once", *folders)
    document, listed = (json.loads((once / path).read_text()) for path in (name, "benchmarks.json"))
    for benchmark, (started, version) in newest.items():
        values = dict(zip(COLUMNS, document["results"][benchmark], strict=False))
        assert (values["started_at"], values["version"], listed[benchmark]["version"]) == (started, version, version)
    order.shuffle(folders)
    left, right = merged(tmp_path / "l", *folders[:1]), merged(tmp_path / "r", *folders[1:])
    assert read(merged(tmp_path / "lr", left, right)) == read(merged(tmp_path / "rl", right, left)) == read(once)


def two(tmp_path: Path, **changes: Any) -> list[Path]:
    """Return two folders with one result file, of which the second has other values."""
    name = "left/00000000-py3.11.json"
    folders = []
    for number in range(2):
        files = history(random.Random(0))
        part = {key: files[key] for key in ("benchmarks.json", "left/machine.json", name)}
        if number:
            row_of = dict(zip(COLUMNS, part[name]["results"][BENCHMARKS[0]], strict=False))
            for key, value in changes.items():
                if key == "machine":
                    part["left/machine.json"]["ram"] = value
                elif key == "header":
                    part[name]["params"] = value
                elif key == "listed":
                    part["benchmarks.json"][BENCHMARKS[0]]["params"] = value
                else:
                    row_of[key] = value
            part[name]["results"][BENCHMARKS[0]] = list(row_of.values())
        folders.append(write(tmp_path / str(number), part))
    return folders


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"machine": "16"}, 'left/machine.json: ram is "16" and "8": two machines under one name?'),
        ({"header": {"machine": "left", "ram": "16"}}, "left/00000000-py3.11.json: params is"),
        ({"params": [["3"]], "started_at": 1}, "suite.time_copy has other parameters, but the same version"),
        ({"result": [7.0]}, "suite.time_copy has two results of the same time"),
        ({"listed": [["3"]]}, "benchmarks.json: suite.time_copy has other parameters, but the same version"),
    ],
)
def test_what_contradicts_itself_is_a_conflict(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    folders = two(tmp_path, **changes)
    for given in (folders, folders[::-1]):
        assert any(says in conflict for conflict in merge_asv.merge(given).conflicts)
    texts = merge_asv.merge(folders, newest=True).texts
    assert texts == merge_asv.merge(folders[::-1], newest=True).texts
    assert not merge_asv.merge(folders, newest=True).conflicts


def test_a_run_that_failed_replaces_no_result(tmp_path: Path) -> None:
    folders = two(tmp_path, result=None, started_at=10**9)
    for given in (folders, folders[::-1]):
        found = merge_asv.merge(given)
        assert not found.conflicts
        document = json.loads(found.texts["left/00000000-py3.11.json"])
        assert document["results"][BENCHMARKS[0]][0] is not None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"results": []}', '{"results": {}, "result_columns": ["result"]}', "1"]
)
def test_a_file_that_is_not_asvs_is_an_error(tmp_path: Path, text: str) -> None:
    folder, _ = two(tmp_path)
    (folder / "left" / "11111111-py3.11.json").write_text(text)
    with pytest.raises(RunError, match="11111111"):
        merge_asv.merge([folder])
