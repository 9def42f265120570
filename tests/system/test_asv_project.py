"""The machine's record, and what `init` writes into a project of somebody's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asv.machine import Machine as AsvMachine
from conftest import Command

from copycost.tracking import project
from copycost.tracking.project import ProjectError, Watched

SMI = """#!/bin/sh
case "$1" in
  --query*) echo "0, GPU-aaa, NVIDIA H200, 143771, 580.1, 9.0" ;;
  *) echo "| NVIDIA-SMI 580.1    Driver Version: 580.1    CUDA Version: 13.0 |" ;;
esac
"""


def machine(home: Path, *words: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=home, env=os.environ | {"HOME": str(home), "PATH": path, "COLUMNS": "120"}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_record_says_what_asv_does_not(tmp_path: Path) -> None:
    done = machine(tmp_path, "copycost", "machine", "--name", "bare")
    assert done.returncode == 0, done.stderr
    assert "cpu_features" in done.stdout
    path = tmp_path / ".asv-machine.json"
    record = json.loads(path.read_text())["bare"]
    assert {"machine", "os", "arch", "ram", "num_cpu", "gpu", "gpu_driver", "cuda"} <= set(record)
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    again = machine(tmp_path, "copycost", "machine", "--name", "gpu", path=f"{tmp_path}:{os.environ['PATH']}")
    assert "NVIDIA H200" in again.stdout
    records = json.loads(path.read_text())
    assert (records["gpu"]["gpu"], records["gpu"]["cuda"], records["gpu"]["gpu_driver"]) == (
        "NVIDIA H200",
        "13.0",
        "580.1",
    )
    assert records["bare"] == record  # and those of others stay
    # What somebody has written there stays; what is asked for without a name is the only record, as asv takes it.
    path.write_text(json.dumps({"bare": record | {"cpu": "ours", "gpu": "?"}, "version": 1}))
    assert machine(tmp_path, "copycost", "machine").returncode == 0
    mended = {key: value for key, value in json.loads(path.read_text()).items() if key != "version"}
    assert mended == {"bare": record | {"cpu": "ours"}}
    # And asv reads it.
    path.write_text(json.dumps(records))
    assert vars(AsvMachine.load(machine_name="gpu", _path=str(path))) == records["gpu"]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a function."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "trunk", tmp_path], check=True)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'theirs'\nversion = '1'\n")
    (tmp_path / "src" / "theirs").mkdir(parents=True)
    (tmp_path / "src" / "theirs" / "__init__.py").write_text("from theirs.images import scale_images as scale\n")
    (tmp_path / "src" / "theirs" / "images.py").write_text("def scale_images(x):\n    return x / 2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(folder: Path) -> subprocess.CompletedProcess[str]:
    """The parameters of the written class, in a process as asv starts one."""
    (name,) = [path.stem for path in (folder / "benchmarks").glob("[a-z]*.py")]
    code = f"import benchmarks.{name} as p; print([c.params for c in vars(p).values() if isinstance(c, type)])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("function", ["theirs.images:scale_images", "theirs:scale"])
def test_what_is_written_is_of_ten_lines_and_lists_its_cases(theirs: Path, function: str) -> None:
    project.write(theirs, Watched(function, None, "x / 2", "numpy", "new", ("uint8", "float32")))
    text = (theirs / "benchmarks" / f"{function.partition(':')[2]}.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 14
    label = function.partition(":")[2].replace("_", "-")
    done = listed(theirs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([[
        [f"theirs.{label}"], [label], ["cpu"], ["uint8", "float32"], ["channels_last"], [224], [224], [1, 32],
    ]])  # fmt: skip
    assert '"trunk"' in (theirs / "asv.conf.json").read_text()


def test_what_is_written_measures(theirs: Path, command: Command) -> None:
    """As asv's session does, with the package where it can be imported."""
    project.write(theirs, Watched("theirs.images:scale_images", None, "x / 2", "numpy", "new", ("float32",)))
    file = theirs / "benchmarks" / "scale_images.py"
    env = {"PYTHONPATH": str(theirs / "src")}
    done = command("run", "--with", file, "--variant", "scale-images", "--recipe", "theirs.*", "--batch", 1,
                   "--size", "32x32", "--dtype", "float32", "--blocks", 3, "--json", "-", env=env)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["measurements"]
    assert (row["status"], row["blocks"], row["stopped_by"]) == ("ok", 3, "blocks")


@pytest.mark.parametrize("name", ["minmax", "numpy_out"])
def test_a_function_may_be_called_as_what_ships(theirs: Path, command: Command, name: str) -> None:
    """And a formula may use NumPy."""
    (theirs / "src" / "theirs" / "images.py").write_text(
        f"def scale_images(x): ...\n\ndef {name}(x):\n    return (x / 2).clip(0, 9)\n"
    )
    project.write(theirs, Watched(f"theirs.images:{name}", None, "np.clip(x / 2, 0, 9)", "numpy", "new", ("float32",)))
    done = command("run", "--with", theirs / "benchmarks" / f"{name}.py", "--recipe", "theirs.*", "--batch", 1,
                   "--size", "8x8", "--dtype", "float32", "--blocks", 1, "--json", "-",
                   env={"PYTHONPATH": str(theirs / "src")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["measurements"]
    assert row["status"] == "ok"


def test_a_variant_that_ships_keeps_its_name(theirs: Path) -> None:
    (theirs / "src" / "theirs" / "images.py").write_text("def numpy_out(x, out): ...\n")
    project.write(theirs, Watched("theirs.images:numpy_out", "tf", None, "numpy", "out", ()))
    assert "'theirs-numpy-out'" in listed(theirs).stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("class Again(asv.Cases, batches=(64,)): pass", "only one recipe and one class per file"),
        (
            "class Fixed(asv.Cases, runtime='numpy', batches=(8,)): pass",
            "the profile sets batches, sizes, dtypes and layouts of shipped variants",
        ),
    ],
)
def test_classes_that_asv_could_not_tell_apart_are_refused(theirs: Path, more: str, words: str) -> None:
    project.write(theirs, Watched("theirs.images:scale_images", "tf", None, "numpy", "new", ()))
    with open(theirs / "benchmarks" / "scale_images.py", "a") as file:
        file.write(more + "\n")
    assert words in listed(theirs).stderr.splitlines()[-1]


def session(folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    code = "import benchmarks.scale_images as p; print(list(p.ScaleImages().setup_cache()['rows']))"
    env = os.environ | {"COPYCOST_OPTIONS": options, "PYTHONPATH": str(folder / "src")}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "skipped: this commit has no such function: raised ImportError: cannot import name"),
        (
            None,
            "skipped: this commit has no such function: raised ModuleNotFoundError: No module named 'theirs.images'",
        ),
        ("import not_there_at_all", "failed: raised ModuleNotFoundError: No module named 'not_there_at_all'"),
    ],
)
def test_what_a_commit_does_not_have_yet_is_na(theirs: Path, text: str | None, status: str) -> None:
    """And what does not import for another reason is failed."""
    project.write(theirs, Watched("theirs.images:scale_images", None, "x / 2", "numpy", "new", ("float32",)))
    (theirs / "src" / "theirs" / "__init__.py").write_text("")
    path = theirs / "src" / "theirs" / "images.py"
    path.write_text(text) if text is not None else path.unlink()
    code = (
        "import benchmarks.scale_images as p; rows = p.ScaleImages().setup_cache()['rows'];"
        "print([f\"{row['status']}: {row['reason']}\" for row in rows.values()][0])"
    )
    env = os.environ | {"COPYCOST_OPTIONS": "--batch 1", "PYTHONPATH": str(theirs / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=theirs, env=env, capture_output=True, text=True)
    assert done.stdout.startswith(status), done.stdout + done.stderr


def test_options_choose_among_the_cases_of_a_class(theirs: Path) -> None:
    project.write(theirs, Watched("theirs.images:scale_images", None, "x / 2", "numpy", "new", ("float32",)))
    path = theirs / "benchmarks" / "scale_images.py"
    path.write_text(path.read_text().replace('dtypes=("float32",))', 'dtypes=("float32",), sizes=((8, 8),))'))
    done = session(theirs, "--batch 32")
    case = ("theirs.scale-images", "scale-images", "cpu", "float32", "channels_last", 8, 8, 32)
    assert done.stdout.strip() == str([case]), done.stderr
    assert "size (224, 224) is not measured here" in session(theirs, "--size 224x224").stderr


@pytest.mark.parametrize(
    ("function", "formula", "words"),
    [
        ("theirs.images:rescale", "x", "has no function 'rescale'; it has scale_images"),
        ("theirs.pictures:scale", "x", "no module theirs.pictures found here or in src/"),
        ("theirs.images", "x", "invalid function 'theirs.images': expected package.module:function"),
        ("theirs.images:scale_images", "y / 2", "is not a valid expression of x: NameError"),
        ("theirs.images:scale_images", "'x'", "gives x: expected an array of floats"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(theirs: Path, function: str, formula: str, words: str) -> None:
    with pytest.raises(ProjectError) as error:
        project.write(theirs, Watched(function, None, formula, "numpy", "new", ()))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (theirs / "benchmarks").exists()
    assert not (theirs / "asv.conf.json").exists()


def test_what_is_there_is_left_as_it_is(theirs: Path) -> None:
    """A configuration, other benchmarks, and what was written before."""
    (theirs / "checks").mkdir()
    (theirs / "checks" / "__init__.py").write_text("# theirs")
    text = '{"version": 1, "project": "theirs", "repo": ".", /* ours */ "benchmark_dir": "checks"}'
    (theirs / "asv.conf.json").write_text(text)
    watched = Watched("theirs.images:scale_images", "tf", None, "numpy", "new", ())
    assert project.write(theirs, watched) == [theirs / "checks" / "scale_images.py"]
    assert (theirs / "asv.conf.json").read_text() == text
    assert (theirs / "checks" / "__init__.py").read_text() == "# theirs"
    with pytest.raises(ProjectError, match=r"checks/scale_images\.py already exists"):
        project.write(theirs, watched)
    assert project.write(theirs, Watched("theirs:scale", "tf", None, "numpy", "new", ())) == [
        theirs / "checks" / "scale.py"
    ]


def test_where_there_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="not a git repository"):
        project.write(tmp_path, Watched("theirs.images:scale_images", "tf", None, "numpy", "new", ()))


def test_the_command_says_what_is_missing(command: Command) -> None:
    assert "expected either --recipe or --formula" in command("init", "a:b").stderr
    assert "did you mean tf" in command("init", "a:b", "--recipe", "tff").stderr
    assert "copycost init" in command("track").stderr
