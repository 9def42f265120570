"""The asv plugin as asv's users meet it: wheels, environments that asv makes, commits, pages. It installs packages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import browser
import numpy as np
import pytest
from test_asv_run import asv, committed, git, home

ROOT = Path(__file__).parents[2]
PACKAGES = ("copycost_meter", "asv_bench_copycost")

__all__ = ["home"]  # a fixture

#: Elements of the image, and bytes.
K = 250_000
N = 4 * K

#: The library whose commits are compared. Its time is that of a sleep, so that a copy does not show.
SUBJECT = """\
import time


def scale(x):
    time.sleep(0.02)
    {before}
    return x * 2
"""

BENCHMARKS = f"""\
import numpy as np
import subject
{{also}}

{{decorator}}
class Scale:
    def setup(self):
        self.image = np.ones({K}, np.float32)

    def time_scale(self):
        return subject.scale(self.image)
"""

ALSO = "from copycost_meter import also\n"
DECORATOR = '@also("alloc", "allocbytes", "peakbytes", "keptbytes", "copies", "changed", "gpubytes")'

#: Copies the module, and installs what is not there yet.
INSTALL = """\
import shutil, subprocess, sys
build, environment, wheels = sys.argv[1:]
python = environment + "/bin/python"
(purelib,) = subprocess.run(
    [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True
).stdout.split()
shutil.copy(build + "/subject.py", purelib)
subprocess.run([python, "-m", "pip", "install", "--quiet", "--find-links", wheels, "asv_bench_copycost"], check=True)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of the meter and of the plugin, built with the tools that are here."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in PACKAGES:
        source = folder / "source" / name
        shutil.copytree(ROOT / "suite" / name, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder,
             source],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


def test_the_name_in_the_metadata_is_what_asv_imports(wheels: Path) -> None:
    (path,) = wheels.glob("asv_bench_copycost-*.whl")
    with zipfile.ZipFile(path) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        assert "\nName: asv_bench_copycost\n" in wheel.read(metadata).decode()
        modules = {name for name in wheel.namelist() if name.endswith(".py")}
    assert "asv_bench_copycost/benchmarks/counts.py" in modules
    (path,) = wheels.glob("copycost_meter-*.whl")
    with zipfile.ZipFile(path) as wheel:
        assert {name.partition("/")[0] for name in wheel.namelist() if name.endswith(".py")} == {"copycost_meter"}


#: Prints the result of each benchmark by its name, as asv's runner makes it in a process of its own.
RUN = """\
import json, sys
import asv_runner.discovery as discovery
from importlib.metadata import version
print(version("asv_runner"))
found = {}
for name in json.loads(sys.argv[1]):
    benchmark = discovery.get_benchmark_from_name("benchmarks", name)
    if not benchmark.do_setup():
        found[name] = [benchmark.do_run(), benchmark.unit, benchmark.type, benchmark.version[-10:]]
print(json.dumps(found))
"""

MORE = """
class Other:
    params = [1, 2]
    number = 1
    changed_writes = ("scratch",)

    def setup(self, n):
        self.x, self.scratch, self.left = np.ones(250_000), np.ones(250_000), list(range(n))

    def alloc_pops(self, n):
        return [self.x.copy() for _ in range(n) if self.left.pop() is not None]

    def changed_two(self, n):
        self.x += 1
        self.scratch += 1

    def changed_scratch(self, n):
        self.scratch += 1


def setup_image():
    global image
    image = np.ones(250_000)


def copies_function():
    return image.copy()


def gputime_function():
    return image.copy()


copies_function.setup = gputime_function.setup = setup_image
"""


@pytest.mark.parametrize("version", ["0.2.1", "0.2.5", "0.3.2"])
def test_each_runner_counts_the_same(version: str, wheels: Path, home: dict[str, str], tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", libraries, "--find-links", wheels,
         f"asv_runner=={version}", *PACKAGES],
        env=home, check=True, capture_output=True,
    )  # fmt: skip
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "scale.py").write_text(BENCHMARKS.format(also=ALSO, decorator=DECORATOR) + MORE)
    (tmp_path / "subject.py").write_text(SUBJECT.format(before="x = x.copy()"))
    kinds = re.findall(r'"(\w+)"', DECORATOR)
    names = [
        *(f"scale.Scale.{kind}_scale" for kind in kinds), "scale.Other.alloc_pops-1", "scale.Other.changed_two-0",
        "scale.Other.changed_scratch-0", "scale.copies_function", "scale.gputime_function",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(names)], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=home | {"PYTHONPATH": f"{libraries}:{tmp_path}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runner, line = done.stdout.splitlines()
    assert runner == version
    found = {name.rpartition(".")[2]: row for name, row in json.loads(line).items()}
    missing = {name: row[0] for name, row in found.items() if np.isnan(row[0])}
    assert set(missing) == {"gpubytes_scale", "gputime_function"}
    assert {name: row[:3] for name, row in found.items() if name not in missing} == {
        "alloc_scale": [2, "allocations", "alloc"],
        "allocbytes_scale": [2 * N, "bytes", "allocbytes"],
        "peakbytes_scale": [2 * N, "bytes", "peakbytes"],
        "keptbytes_scale": [0, "bytes", "keptbytes"],
        "copies_scale": [2, "copies", "copies"],
        "changed_scale": [0, "arrays", "changed"],
        "alloc_pops-1": [2, "allocations", "alloc"],
        "changed_two-0": [1, "arrays", "changed"],
        "changed_scratch-0": [0, "arrays", "changed"],
        "copies_function": [1, "copies", "copies"],
    }
    assert {row[3] for row in found.values()} == {"-copycost1"}
    assert "changes x\n" in done.stderr
    assert "gpubytes_scale is n/a: no array that the set-up made is on a CUDA device" in done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, home: dict[str, str], wheels: Path) -> tuple[Path, list[str]]:
    """A project of three commits: a hidden copy in the second, a changed input in the third."""
    folder = tmp_path_factory.mktemp("project")
    git(folder, home, "init", "--quiet", "--initial-branch", "main")
    (folder / "asv.conf.json").write_text(
        json.dumps({
            "version": 1, "project": "subject", "repo": ".", "branches": ["main"], "show_commit_url": "",
            "environment_type": "virtualenv", "env_dir": ".asv/env", "results_dir": ".asv/results",
            "html_dir": ".asv/html", "benchmark_dir": "benchmarks", "build_command": [], "uninstall_command": [],
            "pythons": [f"{sys.version_info[0]}.{sys.version_info[1]}"], "matrix": {"req": {"numpy": [np.__version__]}},
            "install_command": [f"python {folder}/install.py {{build_dir}} {{env_dir}} {wheels}"],
        })
    )  # fmt: skip
    (folder / "install.py").write_text(INSTALL)
    (folder / ".gitignore").write_text(".asv\n")
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").write_text("")
    (folder / "benchmarks" / "scale.py").write_text(BENCHMARKS.format(also=ALSO, decorator=DECORATOR))
    committed(folder, home, "before the first one", 1)  # a range leaves its beginning out
    commits = []
    for day, before in enumerate(("pass", "x = x.copy()", "x += 1; x = x.copy()"), 2):
        (folder / "subject.py").write_text(SUBJECT.format(before=before))
        commits.append(committed(folder, home, before, day))
    return folder, commits


#: Few and short samples: the time is that of a sleep.
SHORT = ("--attribute", "warmup_time=0", "--attribute", "repeat=5", "--attribute", "number=1")

Compare = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_hidden_copy_and_a_changed_input_are_found(project: tuple[Path, list[str]], home: dict[str, str]) -> None:
    folder, (first, second, third) = project
    counts = ("--bench", r"(allocbytes|changed)_")
    done = asv(folder, home, "continuous", *counts, first, second, ok=(1,))
    assert re.search(r"\| \+ [| ]+1M[| ]+2M[| ]+2[| ]+scale\.Scale\.allocbytes_scale", done.stdout), done.stdout
    assert "changed_scale" not in done.stdout.partition("Change")[2]
    done = asv(folder, home, "continuous", *counts, second, third, ok=(1,))
    assert re.search(r"\| \+ [| ]+0[| ]+1[| ]+(inf|n/a)[| ]+scale\.Scale\.changed_scale", done.stdout), done.stdout


def test_time_alone_finds_neither(project: tuple[Path, list[str]], home: dict[str, str]) -> None:
    folder, (first, second, third) = project
    time = ("--bench", "time_", "--factor", "1.5", *SHORT)
    asv(folder, home, "continuous", *time, first, second, ok=(0,))
    asv(folder, home, "continuous", *time, second, third, ok=(0,))


@pytest.mark.parametrize(("kind", "found"), [("allocbytes", 1), ("changed", 2)])
def test_find_names_the_commit(kind: str, found: int, project: tuple[Path, list[str]], home: dict[str, str]) -> None:
    folder, commits = project
    done = asv(folder, home, "find", f"{commits[0]}^..{commits[2]}", f"{kind}_scale")
    assert f"Greatest regression found: {commits[found][:8]}" in done.stdout, done.stdout


def test_a_page_shows_the_unit(project: tuple[Path, list[str]], home: dict[str, str], tmp_path: Path) -> None:
    folder, commits = project
    asv(folder, home, "run", "--bench", "_scale", *SHORT, f"{commits[1]}^!")
    asv(folder, home, "publish", "--no-pull")
    index = json.loads((folder / ".asv" / "html" / "index.json").read_text())
    units = {name.rpartition(".")[2]: row["unit"] for name, row in index["benchmarks"].items()}
    assert units["allocbytes_scale"] == "bytes"
    assert units["copies_scale"] == "copies"
    scripts = browser.scripts(tmp_path / "scripts")
    with browser.serve(folder / ".asv" / "html", scripts) as base:
        page = browser.visit(f"{base}/#/summarylist", tmp_path / "list.png", height=2000)
    cells = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr.*?</tr>", page.dom, re.DOTALL)]
    values = {kind: row for row in cells for kind in ("allocbytes_", "copies_", "alloc_", "changed_") if kind in row}
    assert "2.000M" in values["allocbytes_"], values
    assert "2.00 copies" in values["copies_"]
    assert "2.00 allocations" in values["alloc_"]
    assert "1.00 arrays" in values["changed_"]


def test_without_the_plugin_the_suite_runs_as_before(
    project: tuple[Path, list[str]], home: dict[str, str], tmp_path: Path
) -> None:
    """What `also` has defined is then no benchmark."""
    folder, commits = project
    copy = tmp_path / "project"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".asv"))
    configuration = copy / "asv.conf.json"
    configuration.write_text(configuration.read_text().replace(f"{folder}/install.py", f"{copy}/install.py"))
    (copy / "install.py").write_text(INSTALL.replace('"asv_bench_copycost"]', '"copycost-meter"]'))
    done = asv(copy, home, "run", *SHORT, "--bench", "scale", f"{commits[0]}^!")
    assert "scale.Scale.time_scale" in done.stdout
    assert "allocbytes" not in done.stdout


def test_the_command_says_what_asv_finds(project: tuple[Path, list[str]], home: dict[str, str]) -> None:
    folder, commits = project
    asv(folder, home, "run", "--bench", "alloc_scale", f"{commits[0]}^!")
    (python,) = (folder / ".asv" / "env").glob("*/bin/python")
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "asv-plugin", "--python", python], env=home, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[:5] for line in done.stdout.splitlines()] == ["ok   "] * 4
    assert "asv has registered 11 types: alloc_, allocbytes_," in done.stdout
    assert "bytes of a known 1,000,000" in done.stdout


#: What a process of asv does, and what it prints: the result, and whether all benchmarks of the suite were sought.
PROCESS = """
import sys
root, name = sys.argv[1:]
sys.argv = ["/any/benchmark.py", "run", root, name + "-1", "{}", "None", "result"]
import asv_runner.discovery as discovery
sought = []
found = discovery.disc_benchmarks
discovery.disc_benchmarks = lambda *arguments, **options: sought.append(1) or found(*arguments, **options)
benchmark = discovery.get_benchmark_from_name(root, name + "-1")
benchmark.do_setup()
print(benchmark.do_run(), bool(sought))
"""


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("deep.inner.Case.changed_written", "1 False"), ("deep.inner.Case.allocbytes_new", "80000 False"),
        ("whole.allocbytes_function", "160000 False"), ("deep.inner.Case.changed_own", "1 False"),
        ("deep.inner.Case.track_own", "7 False"),
    ],
)  # fmt: skip
def test_a_process_looks_for_its_benchmark_only(name: str, printed: str, tmp_path: Path) -> None:
    """The rest of the suite is neither imported nor made into objects, which takes longer than the benchmark."""
    suite = tmp_path / "suite"
    (suite / "deep").mkdir(parents=True)
    (suite / "__init__.py").touch()
    (suite / "deep" / "__init__.py").touch()
    (suite / "a_counts.py").write_text(
        "from copycost_meter import also_in\nalso_in(__package__, 'allocbytes', 'changed')\n"
    )
    (suite / "deep" / "inner.py").write_text(
        "import numpy as np\n\n\nclass Case:\n"
        "    params = [1_000, 10_000]\n"
        "    def setup(self, n):\n        self.x = np.ones(n)\n"
        "    def time_written(self, n):\n        self.x += 1\n"
        "    def time_new(self, n):\n        return self.x + 1\n"
        "    def time_own(self, n):\n        self.x += 1\n"
        "    def changed_own(self, n):\n        self.x += 1\n"
        "    def track_own(self, n):\n        return 7\n"
    )
    (suite / "whole.py").write_text(
        "import numpy as np\n\n\ndef time_function(n):\n    return np.ones(n) + 0\n\n\n"
        "time_function.params = [10, 10_000]\n"
    )
    done = subprocess.run([sys.executable, "-c", PROCESS, str(suite), name], capture_output=True, text=True)
    assert done.stdout.strip() == printed, done.stderr
