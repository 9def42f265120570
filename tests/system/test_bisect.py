"""`copycost bisect`: a copy that was planted in a history is found in as few looks as there can be."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from copycost.gate import bisect as study
from copycost.gate.bisect import NothingToBisect, Step
from copycost.gate.counted import CountError
from copycost_meter.call_count import CallCount
from peers import tools

CODE = """\
import numpy as np

NUMBER = {number}


def scale(x):
    y = x / np.float32(127.5)
    y -= 1
    return {result}
"""


def count(nbytes: int) -> CallCount:
    return CallCount("f", 8, 1, nbytes, nbytes, nbytes, 0, nbytes // 4096, (), (), ("memray",))


def history(folder: Path, number: int, first_bad: int, broken: tuple[int, ...] = ()) -> list[str]:
    """Make a repository of so many commits: from one on, a function copies its result; some do not import."""
    folder.mkdir()
    tools.git(folder, "init", "-q", "-b", "main")
    hashes = []
    for i in range(number):
        text = CODE.format(number=i, result="y.copy()" if i >= first_bad else "y")
        (folder / "scale.py").write_text("import nothing_that_exists\n" if i in broken else text)
        hashes.append(tools.commit(folder, f"commit {i}"))
    return hashes


def bisect(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "copycost", "bisect", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_a_planted_copy_is_found_in_seven_looks(tmp_path: Path) -> None:
    hashes = history(tmp_path / "project", 101, 58)
    shape = ("--input", "2x96x128x3:float32", "--json", "it.json")
    done = bisect(tmp_path / "project", hashes[0], "main", "--", "scale.py::scale", *shape)
    assert done.returncode == 2  # after --, everything is an argument
    done = bisect(tmp_path / "project", *shape, hashes[0], "main", "--", "scale.py::scale")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "project" / "it.json").read_text())
    assert document["first_bad"]["step"] == hashes[58]
    assert document["last_good"]["step"] == hashes[57]
    assert len(document["looks"]) - 2 <= 7
    assert "first bad: " in done.stdout
    assert "commit 58" in done.stdout
    assert "return y.copy()" in done.stdout
    listed = tools.git(tmp_path / "project", "worktree", "list")
    assert len(listed.splitlines()) == 1


def test_commits_that_do_not_import_are_skipped(tmp_path: Path) -> None:
    hashes = history(tmp_path / "project", 12, 6, broken=(4, 5, 8))
    done = bisect(tmp_path / "project", "--input", "2x96x128x3:float32", hashes[0], hashes[-1], "--", "scale.py::scale")
    assert done.returncode == 0, done.stderr
    assert "first bad: " in done.stdout
    assert "commit 6" in done.stdout
    assert "or one of those that cannot be counted" in done.stdout
    assert "commit 4" in done.stdout
    assert "commit 5" in done.stdout


@pytest.mark.parametrize(
    ("good", "bad", "status", "says"),
    [
        ("main", "main~2", 2, "main~2 does not descend from main"),
        ("main~2", "nosuchref", 2, "no commit 'nosuchref'"),
        ("main~2", "main", 1, "is no worse than"),
        ("numpy==1.26.4", "main", 1, "are not two releases of one package"),
    ],
)
def test_nothing_to_find_is_said_in_one_line(tmp_path: Path, good: str, bad: str, status: int, says: str) -> None:
    history(tmp_path / "project", 4, 9)
    done = bisect(tmp_path / "project", "--input", "2x96x128x3:float32", good, bad, "--", "scale.py::scale")
    assert done.returncode == status
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("seed", range(40))
def test_every_first_bad_step_is_found(seed: int) -> None:
    order = random.Random(seed)
    number = order.randrange(2, 130)
    first = order.randrange(1, number)
    steps = [Step(str(i), str(i)) for i in range(number)]
    looks = []

    def counted(step: Step) -> CallCount:
        looks.append(step)
        return count(8192 if int(step.name) >= first else 4096)

    found = study.bisect(steps, counted)
    assert found.first_bad.step.name == str(first)
    assert found.last_good.step.name == str(first - 1)
    assert len(looks) - 2 <= max(1, (number - 2).bit_length())
    assert not found.skipped


def test_a_figure_that_is_better_at_the_end_does_not_decide() -> None:
    """At the third step the peak is higher, but bytes are what is worse at the end."""
    figures = [(4096, 4096), (4096, 4096), (4096, 9000), (8192, 4096)]

    def counted(step: Step) -> CallCount:
        nbytes, peak = figures[int(step.name)]
        return CallCount("f", 8, 1, nbytes, peak, nbytes, 0, 1, (), (), ("memray",))

    found = study.bisect([Step(str(i), str(i)) for i in range(4)], counted)
    assert found.first_bad.step.name == "3"


def test_an_end_that_cannot_be_counted_is_an_error() -> None:
    def counted(step: Step) -> CallCount:
        raise CountError("scale.py::scale does not import")

    with pytest.raises(NothingToBisect, match=r"0: scale\.py::scale does not import"):
        study.bisect([Step("0", "0"), Step("1", "1")], counted)


def test_a_module_that_a_commit_does_not_have_is_not_imported_from_elsewhere(tmp_path: Path) -> None:
    """Of an installed package with its name, for example of an editable install of the repository itself."""
    hashes = history(tmp_path / "project", 4, 2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "project" / "scale.py").rename(elsewhere / "later.py")
    tools.commit(tmp_path / "project", "without the module")
    process = subprocess.run(
        [sys.executable, "-m", "copycost", "bisect", "--input", "2x96x128x3:float32", hashes[0], "main", "--",
         "later:scale"],
        cwd=tmp_path / "project", capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": f"{elsewhere}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert process.returncode == 1
    assert "later is not in this commit" in process.stderr
    assert process.stderr.count("\n") == 1


def test_what_a_killed_bisection_has_left_is_cleared_away(tmp_path: Path) -> None:
    hashes = history(tmp_path / "project", 4, 2)
    left = tmp_path / "copycost-trees-999999999-abc" / "tree"
    tools.git(tmp_path / "project", "worktree", "add", "--detach", str(left))
    done = bisect(tmp_path / "project", "--input", "2x96x128x3:float32", hashes[0], "main", "--", "scale:scale")
    assert done.returncode == 0, done.stderr
    assert "commit 2" in done.stdout
    assert not left.parent.exists()
    assert len(tools.git(tmp_path / "project", "worktree", "list").splitlines()) == 1
