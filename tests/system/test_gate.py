"""`copycost gate` on a repository with hidden changes: every exit status, and what it is decided from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from copycost.gate import commits as repositories
from peers import tools

#: Every function, one small batch: what is exact takes four seconds.
SMALL = ("--batch", "1", "--size", "64x48", "--dtype", "float32")

Gate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The subject of the trials with one commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("imaging.py", "copycost_variants.py"):
        (folder / name).write_text((tools.SUBJECT / name).read_text())
    tools.git(folder, "init", "-q", "-b", "main")
    tools.commit(folder, "base")
    return folder


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    given = ("--with", "copycost_variants.py") if "--with" not in words else ()
    return subprocess.run(
        [sys.executable, "-m", "copycost", "gate", "--base", "main", *given, *SMALL, *words],
        cwd=folder, env=os.environ | {"COLUMNS": "120"} | (env or {}), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "imaging.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("copy", "peers.center center batch 1 64×48×3 float32 cpu: allocations"),
        ("mutation", "peers.center center batch 1 64×48×3 float32 cpu: input_changed no → yes"),
        ("value", "peers.center center batch 1 64×48×3 float32 cpu: status ok → wrong"),
    ],
)
def test_what_is_exact_is_found_without_a_clock(fault: str, says: str, repository: Path) -> None:
    change(repository, "] = {}", f"] = {{'center': '{fault}'}}")
    done = run(repository)
    assert done.returncode == 1, done.stderr
    assert says in done.stdout
    assert "not timed, because an exact figure is worse" in done.stdout
    worse = [line for line in done.stdout.splitlines() if line.startswith("worse ")]
    assert worse
    assert all("peers.center center" in line for line in worse)


def test_nothing_that_matters_changed(repository: Path) -> None:
    """Head is what is checked out, changes that are not committed included; both runs are kept, and no work tree is."""
    change(repository, "are here: 0", "are here: 1")
    done = run(repository, "--exact", "--out", "kept", "--json", "it.json")
    assert done.returncode == 0, done.stderr
    assert "Exact figures of 4 cases" in done.stdout
    assert "head" in done.stdout
    assert "and uncommitted changes" in done.stdout
    told = json.loads((repository / "it.json").read_text())
    assert (told["verdict"], told["stopped_by"], told["head"]["changed"]) == ("no worse", "untimed", True)
    assert {row["verdict"] for row in told["rows"]} == {"same"}
    assert len(tools.git(repository, "worktree", "list").splitlines()) == 1
    assert tools.git(repository, "stash", "list") == ""
    assert "are here: 1" in (repository / "imaging.py").read_text()
    again = subprocess.run(
        [sys.executable, "-m", "copycost", "compare", "kept/base", "kept/head"],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr


def test_a_slower_function_is_found_and_named(repository: Path) -> None:
    """Three times as long is more than any machine's noise; the others are not called slower."""
    change(repository, '"normalize": 1.0', '"normalize": 3.0')
    tools.git(repository, "checkout", "-q", "-b", "feature")
    tools.commit(repository, "slower")
    done = run(repository, "--budget", "20", "--json", "it.json", "--tolerance", "30", "--out", "kept")
    assert done.returncode == 1, done.stderr
    told = json.loads((repository / "it.json").read_text())
    times = {row["variant"]: row for row in told["rows"] if row["metric"] == "seconds"}
    assert [name for name, row in times.items() if row["verdict"] == "slower"] == ["normalize"]
    ratio = times["normalize"]["ratio"]
    assert ratio["value"] > 2  # other processes can stretch the wait beyond three times, and shorten nothing
    assert told["seconds"] < 60
    assert told["paired"]
    # The first calls of a sample are the slow ones, so both sides make as many.
    calls = []
    for side in ("base", "head"):
        rows = map(json.loads, (repository / "kept" / side / "measurements.jsonl").read_text().splitlines())
        (m,) = (row for row in rows if row["variant"] == "normalize")
        calls.append(m["calls"] / sum(map(len, m["samples"])))
    assert calls[0] == calls[1] > 1


def test_what_cannot_be_told_is_3_where_that_is_asked_for(repository: Path) -> None:
    """What is exact takes all of this budget, and no time is left for any block."""
    change(repository, "are here: 0", "are here: 1")
    for strict, status in ((("--strict",), 3), ((), 0)):
        done = run(repository, *strict, "--budget", "0.1", "--variant", "rescale")
        assert done.returncode == status, done.stderr
        assert "stopped by the budget" in done.stdout
        assert "unsure: time of 1 case: 1 unsure" in done.stdout


def test_a_commit_that_is_the_same_is_not_measured(repository: Path) -> None:
    done = run(repository)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no worse: the working tree is identical to main\n"
    done = run(repository, "--json", "-")
    assert json.loads(done.stdout)["verdict"] == "no worse"


def test_new_and_removed_variants_are_named_and_no_regression(repository: Path) -> None:
    path = repository / "copycost_variants.py"
    path.write_text(path.read_text().replace("def center(", "def centre("))
    done = run(repository, "--exact")
    assert done.returncode == 0, done.stderr
    assert "Only in base: 1 case of center." in done.stdout
    assert "Only in head: 1 case of centre." in done.stdout


def test_a_file_that_base_lacks_measures_both(repository: Path, tmp_path: Path) -> None:
    """One outside the repository, and one inside that git does not know."""
    text = (repository / "copycost_variants.py").read_text()
    change(repository, "] = {}", "] = {'rescale': 'mutation'}")
    for path in (tmp_path / "elsewhere.py", repository / "untracked.py"):
        path.write_text(text)
        done = run(repository, "--exact", "--with", str(path), "--variant", "rescale")
        assert done.returncode == 1, done.stderr
        assert "input_changed no → yes" in done.stdout


def test_benchmarks_that_define_variants_are_found(repository: Path) -> None:
    (repository / "benchmarks").mkdir()
    (repository / "copycost_variants.py").rename(repository / "benchmarks" / "variants.py")
    (repository / "benchmarks" / "other.py").write_text("raise SystemExit('is not of copycost')\n")
    tools.commit(repository, "benchmarks")
    change(repository, "] = {}", "] = {'rescale': 'mutation'}")
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "gate", "--base", "main", "--exact", *SMALL],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base", "nowhere"), "no commit 'nowhere'"),
        (("--with", "nothing.py"), "no file nothing.py"),
        (("--with", "imaging"), "imaging is not a .py file"),
        (("--with", "imaging.py"), "no variant is defined in imaging.py"),
        (("--variant", "rescael"), "unknown variant 'rescael'; did you mean rescale"),
        (("--tolerance", "-1"), "-1 percent is out of range: expected more than 0"),
        (("--budget", "soon"), "'soon' is not a number of seconds"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words: tuple[str, ...], message: str, repository: Path) -> None:
    change(repository, "are here: 0", "are here: 1")
    done = run(repository, *words)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_branch_that_only_the_origin_has_is_named(repository: Path, tmp_path: Path) -> None:
    """As in the checkout of a pull request."""
    tools.git(repository, "checkout", "-q", "-b", "feature")
    tools.git(tmp_path, "clone", "-q", str(repository), "clone")
    done = run(tmp_path / "clone")
    assert done.returncode == 2
    assert done.stderr == "Error: no commit 'main'; the clone has it as origin/main\n"


def test_outside_a_repository(tmp_path: Path) -> None:
    (tmp_path / "v.py").write_text("")
    done = run(tmp_path, "--with", "v.py")
    assert done.returncode == 2
    assert "is not a git repository: fatal: not a git repository" in done.stderr


def test_a_head_that_does_not_import_is_one_line(repository: Path) -> None:
    path = repository / "copycost_variants.py"
    path.write_text(path.read_text() + "\nimport nothing_of_that_name\n")
    done = run(repository)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: head: copycost_variants.py does not import: ModuleNotFoundError: No module named "
        "'nothing_of_that_name' (line 50)\n"
    )


def test_a_package_that_is_installed_elsewhere_is_not_mistaken_for_a_commit(repository: Path, tmp_path: Path) -> None:
    """One that is found before the path is searched, as some editable installs are, imported as a call is prepared."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import importlib.abc, importlib.util, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        at = {str(repository / 'imaging.py')!r}\n"
        "        return importlib.util.spec_from_file_location(name, at) if name == 'imaging' else None\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    change(repository, "are here: 0", "are here: 1")
    path = os.pathsep.join(filter(None, [str(tmp_path / "hook"), os.environ.get("PYTHONPATH")]))
    done = run(repository, "--exact", env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert f"imaging was imported from {repository}, and not from the commit" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_package_in_a_folder_of_its_own_is_found_in_src_and_missed_elsewhere(repository: Path) -> None:
    (repository / "src").mkdir()
    (repository / "imaging.py").rename(repository / "src" / "imaging.py")
    tools.commit(repository, "moved")
    path = repository / "src" / "imaging.py"
    path.write_text(path.read_text().replace("] = {}", "] = {'rescale': 'mutation'}"))
    done = run(repository, "--exact", "--variant", "rescale")
    assert done.returncode == 1, done.stderr
    (repository / "src").rename(repository / "python")
    tools.commit(repository, "moved again")
    path = repository / "python" / "imaging.py"
    path.write_text(path.read_text() + "\n")
    done = run(repository, "--exact", "--variant", "rescale")
    assert done.returncode == 2
    assert "No module named 'imaging'" in done.stderr


def test_a_new_function_with_its_benchmark_is_no_mistake(repository: Path) -> None:
    """Base lacks both: the cases are head's alone."""
    path = repository / "imaging.py"
    path.write_text(path.read_text() + "\n\ndef twice(x):\n    return x / np.float32(127.5) - np.float32(1)\n")
    (repository / "new.py").write_text(
        "from imaging import twice\nfrom copycost import variant\n\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\ndef doubled(example):\n    return twice\n"
    )
    done = run(repository, "--exact", "--with", "new.py", "--with", "copycost_variants.py")
    assert done.returncode == 0, done.stderr
    assert "Only in head: 1 case of doubled." in done.stdout
    assert "not part of head" not in done.stdout


def test_what_cannot_be_measured_at_all_is_no_success(repository: Path) -> None:
    """On both sides: what a job that is green would hide."""
    path = repository / "copycost_variants.py"
    path.write_text(path.read_text().replace("import imaging\n", "import imagine as imaging\n"))
    tools.commit(repository, "broken")
    change(repository, "are here: 0", "are here: 1")
    done = run(repository)
    assert done.returncode == 2
    assert "no case was measured on both sides: rescale of head: failed: " in done.stderr
    assert "No module named 'imagine'" in done.stderr


def test_files_that_git_does_not_know_are_named(repository: Path) -> None:
    change(repository, "are here: 0", "are here: 1")
    (repository / "more.py").write_text("")
    done = run(repository, "--exact")
    assert done.returncode == 0, done.stderr
    assert "not part of head, because git does not track them: more.py" in done.stdout


def test_a_subfolder_and_a_name_with_a_space(repository: Path) -> None:
    """And a work tree of a work tree, whose head is on no branch."""
    (repository / "a folder").mkdir()
    (repository / "copycost_variants.py").rename(repository / "a folder" / "some variants.py")
    tools.commit(repository, "moved")
    linked = repository.parent / "linked"
    tools.git(repository, "worktree", "add", "--detach", str(linked))
    change(linked, "] = {}", "] = {'rescale': 'mutation'}")
    done = run(linked / "a folder", "--exact", "--with", "some variants.py", "--variant", "rescale")
    assert done.returncode == 1, done.stderr
    assert len(tools.git(repository, "worktree", "list").splitlines()) == 2


def test_a_count_that_differs_from_process_to_process_is_not_called_worse(repository: Path, tmp_path: Path) -> None:
    """In the first process of head one allocation more, in the second none."""
    path = repository / "imaging.py"
    path.write_text(
        path.read_text()
        + f"""

def sometimes(x):
    return x / np.float32(127.5) - np.float32(1)


def prepared():
    with open({str(tmp_path / "count")!r}, "a+") as file:
        file.write(".")
        file.seek(0)
        odd = len(file.read()) % 2

    def call(x):
        kept = [np.empty(100_000) for _ in range(odd)]
        return sometimes(x)

    return call
"""
    )
    (tmp_path / "v.py").write_text(
        "from copycost import variant\n\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def steady(example):\n    import imaging\n    return getattr(imaging, 'prepared', lambda: base)()\n\n"
        "def base(x):\n    import numpy as np\n    return x / np.float32(127.5) - np.float32(1)\n"
    )
    done = run(repository, "--exact", "--with", str(tmp_path / "v.py"), "--variant", "steady")
    assert (tmp_path / "count").read_text() == ".."
    assert done.returncode == 0, done.stdout
    assert "unsure  tf steady batch 1 64×48×3 float32 cpu: allocations" in done.stdout


def test_where_nothing_can_be_written_nothing_is_measured(repository: Path) -> None:
    change(repository, "are here: 0", "are here: 1")
    (repository / "file").write_text("")
    done = run(repository, "--out", "file")
    assert done.returncode == 2
    assert "file/base cannot be written to" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_killed_gate_has_left_is_cleared_away(repository: Path, tmp_path: Path) -> None:
    """Its work tree may be locked, as it is while git makes it; those of others stay."""
    left = tmp_path / "copycost-trees-999999999-abc" / "base"
    other = tmp_path / "copycost-gates" / "mine"
    for folder in (left, other):
        tools.git(repository, "worktree", "add", "--detach", str(folder))
    tools.git(repository, "worktree", "lock", str(left))
    change(repository, "are here: 0", "are here: 1")
    assert run(repository, "--exact", "--variant", "rescale").returncode == 0
    assert not left.parent.exists()
    assert other.exists()
    assert len(tools.git(repository, "worktree", "list").splitlines()) == 2


def test_ctrl_c_tells_what_there_is(repository: Path) -> None:
    change(repository, "are here: 0", "are here: 1")
    process = subprocess.Popen(
        [sys.executable, "-m", "copycost", "gate", "--base", "main", "--with", "copycost_variants.py", *SMALL,
         "--budget", "100", "--tolerance", "0.001", "--out", "kept"],
        cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # As long as exact figures take, and a while of timing.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(12)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "stopped by the user" in out
    assert (repository / "kept" / "head" / "measurements.jsonl").exists()
    assert len(tools.git(repository, "worktree", "list").splitlines()) == 1


def test_what_says_that_an_environment_is_needed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nname = "it"\nversion = "1"\ndependencies = ["numpy"]\n')
    needs = repositories._dependencies
    (other / "pyproject.toml").write_text(
        '[project]\nname = "it"\nversion = "2"\ndependencies = ["numpy"]\noptional-dependencies.dev = ["ruff"]\n'
    )
    (other / "requirements-dev.txt").write_text("ruff\n")
    assert needs(one) == needs(other)
    (other / "pyproject.toml").write_text('[project]\nname = "it"\nversion = "2"\ndependencies = ["numpy>=2"]\n')
    assert needs(one) != needs(other)
    (one / "requirements.txt").write_text("numpy\n")
    assert needs(one)["requirements.txt"] == "numpy\n"
    (one / "setup.cfg").write_text("[options]\ninstall_requires =\n  numpy<2\n")
    assert needs(one)["setup.cfg"] == "\nnumpy<2"
    (one / "setup.py").write_text("from setuptools import setup\nsetup(version='1', install_requires=['numpy'])\n")
    assert needs(one)["setup.py"] == "['numpy']"


def test_a_project_that_is_built_is_imported_as_built(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that the build makes stands for all that is not in the tree."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(repository.parent / "cache"))
    (repository / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "imaging"\ndynamic = ["version"]\n'
        '[tool.setuptools]\npy-modules = ["imaging"]\n[tool.setuptools.dynamic]\nversion = {file = "VERSION"}\n'
    )
    (repository / "VERSION").write_text("1.0\n")
    tools.commit(repository, "built")
    change(repository, "] = {}", "] = {'rescale': 'mutation'}")
    done = run(repository, "--exact", "--variant", "rescale")
    assert done.returncode == 1, done.stderr
    assert "input_changed no → yes" in done.stdout
    assert len(list((repository.parent / "cache" / "copycost" / "builds").iterdir())) == 2


ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """copycost's own repository with one commit."""
    folder = tmp_path / "copycost"
    for name in ("suite", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "asv.conf.json", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    tools.git(folder, "init", "-q", "-b", "main")
    tools.commit(folder, "base")
    return folder


def run_own(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """By the engine that the tests have, as an installed command does it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "copycost", "gate", "--base", "main", *words],
        cwd=folder, env=os.environ | {"COLUMNS": "120", "PYTHONPATH": str(ROOT / "suite")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_gate_in_its_own_repository_compares_the_variants_that_ship(own: Path) -> None:
    path = own / "suite" / "copycost" / "variants" / "numpy.py"
    assert "return quotient - offset\n" in path.read_text()
    path.write_text(path.read_text().replace("return quotient - offset\n", "return (quotient - offset).copy()\n"))
    done = run_own(
        own, "--recipe", "tf", "--recipe", "scale", "--variant", "numpy-new", "--variant", "divide-new", *SMALL
    )
    assert done.returncode == 1, done.stderr
    assert "worse   tf numpy-new batch 1 64×48×3 float32 cpu: allocations 2 → 3" in done.stdout
    assert all("tf numpy-new" in line for line in done.stdout.splitlines() if line.startswith("worse  "))
    assert "Exact figures of 2 cases" in done.stdout
    assert len(tools.git(own, "worktree", "list").splitlines()) == 1


def test_gate_in_its_own_repository_measures_nothing_where_only_the_engine_changed(own: Path) -> None:
    path = own / "suite" / "copycost" / "cli" / "app.py"
    path.write_text(path.read_text() + "# A comment.\n")
    (own / "more.py").write_text("")
    done = run_own(own)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "not part of head, because git does not track them: more.py",
        "no worse: recipes and variants are identical to those of main",
    ]


def test_gate_in_its_own_repository_measures_a_file_of_variants(own: Path) -> None:
    """It imports what the commit ships, and not what the engine does."""
    (own / "mine.py").write_text(
        "from copycost import variant\nfrom copycost.recipes import HALF\n\n"
        "@variant(recipe='tf', runtime='numpy', writes='new', accepts='float32')\n"
        "def mine(example):\n    return lambda x: x / (255 * HALF) - 2 * HALF\n"
    )
    path = own / "suite" / "copycost" / "recipes.py"
    path.write_text(path.read_text() + "\nHALF = np.float32(0.5)\n")
    tools.commit(own, "a constant")
    path.write_text(path.read_text().replace("np.float32(0.5)", "np.float64(0.5)"))
    done = run_own(own, "--with", "mine.py", *SMALL)
    assert done.returncode == 1, done.stderr
    assert "tf mine batch 1 64×48×3 float32 cpu: status ok → wrong" in done.stdout


def test_gate_says_that_base_is_from_before_the_package_was_renamed(own: Path) -> None:
    (own / "suite" / "copycost" / "variants").rename(own / "suite" / "variants")
    tools.commit(own, "moved")
    (own / "suite" / "variants").rename(own / "suite" / "copycost" / "variants")
    tools.git(own, "add", "--all")
    done = run_own(own)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: main has no suite/copycost/variants to compare with those of head: it is from before the package was "
        "renamed\n"
    )
