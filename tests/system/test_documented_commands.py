"""Every command and every block of code in README.md and docs/, run as it is written there, page by page.

A block of the pages is run unless it is listed here, and a command as it is written, to exit status 0, unless it is
listed here. What is listed and no longer written fails too.

* `NARROWED`: a command that takes minutes, and what is appended to it, so that it does the same with fewer cases.
* `MEASURED`: a command whose exit status tells how the machine's speed changed, and the statuses that it may have.
* `NOT_RUN`: what needs a GPU, Docker or a package index, or takes minutes whatever is appended. Its options are parsed.
* `PLACEHOLDERS`: names that stand for the reader's own files, and what makes them here.

The pages are those of a repository made of the files that git knows here, with a few commits. What was run, with its
exit status, is written to build/documented-commands.txt.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib
import pytest
import yaml
from asv.commands import make_argparser

from copycost.cli.app import cli
from peers import tools

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]

#: One recipe, one variant, one small image, a second of timing.
FEW = "--recipe tf --device cpu --variant numpy-new --batch 1 --size 32x48 --dtype float32 --budget 1"

#: One small batch on the CPU, and in a model.
PLACED = "--variant numpy-new --batch 2 --size 32x48 --budget 1"

#: Command → what is appended. All options are those that `--help` and the pages have.
NARROWED = {
    # A quick profile is timed for 45 s, and audits 168 cases.
    "make bench": f"OPTIONS='{FEW}'",
    # asv reads every figure of 400 cases by a process of its own.
    "make track": "OPTIONS='-- --bench NumPy.track_[as].*tf.*numpy-new' "
        "COPYCOST_OPTIONS='--recipe tf --device cpu --variant numpy-new --batch 1 --dtype float32'",
    "copycost run --recipe tf --batch 8 --dtype float32 --device cpu": "--variant numpy-new --size 32x48 --budget 1",
    "copycost run --with my_variants.py": f"{FEW} --variant lookup --dtype uint8",
    "copycost run --with my_variants.py --recipe tf": "--variant lookup --batch 1 --size 32x48 --budget 1",
    "copycost run --image photographs/ --json other.json": FEW,
    "copycost run --recipe resize_scale --batch 8 --batch none": "--variant numpy-new --size 32x48 --blocks 1",
    "copycost run --with mine.py --recipe mine": "--variant numpy-* --batch 1 --size 64x80 --budget 1",
    "copycost run --with files.py --recipe decode": "--batch 2 --size 32x48 --blocks 1",
    "copycost run --out reports/before": FEW,
    "copycost run --out reports/after": FEW,
    "copycost run --profile standard --batch 32 --batch 128 --device cpu --budget 200 --variant 'numpy-[notbi]*' "
    "--variant numba-out --variant numexpr-out --variant keras-numpy --variant tf-xla --variant tf-variable-xla":
        "--recipe tf --dtype float32 --size 16x16 --blocks 0",
    "copycost run --with docs/examples/empty.py --recipe identity --batch 1 --size 8x8 --dtype float32 --device cpu":
        "--blocks 1",
    # A verdict takes up to 30 s.
    "copycost judge docs/examples/rewritten.py::before docs/examples/rewritten.py::after": "--exact",
    # The exact figures of every variant take minutes.
    "copycost gate --base main": f"{FEW.removesuffix('--budget 1')} --exact",
    # Every claim takes a minute, every way from files to batches two.
    "copycost claims": "arrays-are-immutable",
    "copycost claims --json claims.json": "arrays-are-immutable",
    "TF_ENABLE_ONEDNN_OPTS=0 copycost claims --json off.json": "arrays-are-immutable",
    "TF_ENABLE_ONEDNN_OPTS=1 copycost claims --json on.json": "arrays-are-immutable",
    # Of images of 224×224 a batch of 32.
    "copycost profile tf tf-eager": "1×32×48×3",
    "copycost profile tf tf-xla --run reports/latest": "1×32×48×3",
    "copycost pipelines": "loop --files 8 --batch 4 --blocks 2",
    # Each case takes a few seconds, and each model.
    "copycost place tf": f"{PLACED} --dtype uint8",
    "copycost place tf --batch 64 --dtype uint8": PLACED,
    "copycost place tf --picture place.svg --json place.json": f"{PLACED} --dtype uint8",
}  # fmt: skip

#: Command → its exit statuses. Two runs of a busy machine can differ by more than `compare` assumes.
MEASURED = {
    "copycost compare reports/before reports/after": {0, 1},
    "copycost fleet plan HEAD": {1},  # nothing is measured yet
}

#: Command, or first line of a block of another language → why it is not run.
NOT_RUN = {
    "copycost certify": "takes minutes; tests/frameworks/test_certify.py runs its steps",
    "copycost certify --device gpu": "needs a GPU",
    "copycost track HEAD~3..HEAD": "makes the environments of asv.conf.json from a package index",
    "copycost track NEW -- --steps 5": "makes the environments of asv.conf.json from a package index",
    "copycost track 'HEAD^!'": "makes the environments of asv.conf.json from a package index",
    "copycost track ALL": "makes the environment of the project from a package index",
    "asv continuous HEAD~2 HEAD~1": "makes the environment of the project from a package index",
    "make fleet-demo": "makes environments of asv from a package index; test_fleet.py runs its script",
    "docker compose --file docs/examples/fleet/compose.yaml up --build": "needs Docker and a package index",
    "docker build --tag copycost-gpu .": "needs Docker and a package index",
    "docker run --rm --gpus all --entrypoint nvidia-smi copycost-gpu -L": "needs Docker and a GPU",
    "pip install -e suite/copycost_meter -e '.[gpu]'": "installs from a package index",
    "pip install -e suite/copycost_meter -e '.[cupy]'": "installs from a package index",
    "pip install -e suite/copycost_meter -e '.[gpu13]'": "installs from a package index",
    "- uses: actions/checkout@v4": "needs GitHub; its commands are parsed",
    "# notebook.py": "is docs/examples/notebook.py, which test_docs.py runs",
    "# test_preprocessing.py": "is docs/examples/test_preprocessing.py, which test_docs.py runs",
}


def my_variants(clone: Path, made: Path) -> None:
    """The file that docs/how-to/add-a-variant.md begins with."""
    (block,) = [b for b in blocks("docs/how-to/add-a-variant.md") if b.text.startswith("# my_variants.py\n")]
    (clone / "my_variants.py").write_text(block.text)


def photographs(clone: Path, made: Path) -> None:
    """A folder of images."""
    (clone / "photographs").mkdir()
    shutil.copy(ROOT / "suite" / "copycost" / "cases" / "photograph.jpg", clone / "photographs")


def runs(*names: str) -> Callable[[Path, Path], None]:
    """One run of a few cases, where `make bench` and `copycost run --out` write runs."""

    def make(clone: Path, made: Path) -> None:
        if not (made / "run").exists():
            command = f"copycost run {FEW} --out {shlex.quote(str(made / 'run'))}"
            expect(run(clone, command), command)
        for name in names:
            shutil.copytree(made / "run", clone / name)

    return make


def asv_results(clone: Path, made: Path) -> None:
    """What `make track` writes."""
    if not (made / ".asv").exists():
        command = f"make track {NARROWED['make track']}"
        expect(run(clone, command), command)
        shutil.copytree(clone / ".asv", made / ".asv")
    shutil.copytree(made / ".asv", clone / ".asv", dirs_exist_ok=True)


def feature(clone: Path, made: Path) -> None:
    """A branch on which a variant that ships was changed."""
    tools.git(clone, "checkout", "-q", "-b", "feature")
    path = clone / "suite" / "copycost" / "variants" / "numpy.py"
    path.write_text(path.read_text() + "\n# A comment.\n")
    tools.git(clone, "commit", "-q", "-a", "-m", "a comment")


#: What a page takes for granted → what makes it, once for all pages, in the folder `made`.
PLACEHOLDERS: dict[str, list[Callable[[Path, Path], None]]] = {
    "README.md": [my_variants, photographs, feature],
    "docs/how-to/asv.md": [runs("reports/latest"), asv_results],
    "docs/reference/columns.md": [runs("reports/latest")],
    "docs/results/folklore.md": [runs("reports/latest")],
    "docs/how-to/report.md": [runs("reports/latest", "reports/before"), asv_results],
    "docs/explanation/regression-testing.md": [runs("RUN-1", "RUN-2"), feature],
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Those of a block of shell, without comments; of a console what follows the prompt."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        plain = (re.sub(r"(^|\s+)# .*$", "", line) for line in lines)
        return [" ".join(line.split()) for line in plain if line]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order, without the directives of Sphinx."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^( *)```(\w*|\{.*?)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(page, text[: m.start()].count("\n") + 1, m[2], re.sub(rf"^{m[1]}", "", m[3], flags=re.MULTILINE))
        for m in found
        if not m[2].startswith("{")
    ]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files that git knows here, four commits, and the commands on its path."""
    folder = tmp_path_factory.mktemp("documented")
    clone = folder / "clone"
    for name in tools.git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    tools.git(clone, "init", "-q", "-b", "main")
    tools.commit(clone, "one")
    for message in ("two", "three", "four"):
        tools.git(clone, "commit", "-q", "--allow-empty", "-m", message)
    # What `make` installs stands in .venv, and is up to date.
    commands = clone / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, words in {"python": "", "copycost": "-P -m copycost", "asv": "-m asv"}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (commands / name).chmod(0o755)
    (clone / ".venv" / "measures").touch()
    return clone


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what several pages take for granted."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def succeeded() -> dict[str, str]:
    """Return command, with what was appended → where it was run: what pages have in common is run on the first."""
    return {}


@pytest.fixture
def clone(fresh: Path, tmp_path: Path) -> Path:
    """A copy of that repository, for one page."""
    return Path(shutil.copytree(fresh, tmp_path / "clone", symlinks=True))


def run(clone: Path, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell in the repository, or in another folder, by the code of the repository."""
    environment = os.environ | {
        "PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(clone / "suite"), "COLUMNS": "120",
        "HOME": str(clone.parent), "MPLCONFIGDIR": matplotlib.get_cachedir(), "MPLBACKEND": "agg",
        **{f"GIT_{who}_{what}": "a@b.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-c", command], cwd=folder or clone, env=environment, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def log() -> Iterator[Callable[..., None]]:
    """Where it is kept what was run, and what came of it."""
    path = ROOT / "build" / "documented-commands.txt"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w") as file:

        def write(*words: object) -> None:
            print(*words, sep="\t", file=file, flush=True)

        yield write


def check_options(command: str) -> None:
    """Parse the options of a command, where this Python knows them."""
    name, *words = shlex.split(command)
    if name == "copycost" and words:
        found = cli.commands.get(words[0])
        assert found is not None, f"{command}: there is no such command"
        found.make_context(words[0], words[1:], resilient_parsing=len(words) == 1)
    elif name == "asv":
        (its,) = [action.choices for action in make_argparser()[0]._actions if isinstance(action.choices, dict)]
        options = its[words[0]].format_help()
        assert all(word.partition("=")[0] in options for word in words if word.startswith("--")), command


def expect(done: subprocess.CompletedProcess[str], what: str, *statuses: int) -> None:
    assert done.returncode in (statuses or (0,)), f"{what}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback (most recent call last)" not in done.stdout + done.stderr, f"{what}\n{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_a_page_does_what_it_says(
    page: str, clone: Path, made: Path, succeeded: dict[str, str], log: Callable[..., None]
) -> None:
    for make in PLACEHOLDERS.get(page, []):
        make(clone, made)
    folder = clone
    for block in blocks(page):
        at = f"{page}:{block.line}"
        if block.language in ("", "console"):
            assert block.commands, f"{at} is a block of shell without a command: name its language"
            for command in block.commands:
                if reason := NOT_RUN.get(command):
                    subprocess.run(["bash", "-n", "-c", command], check=True)
                    check_options(command)
                    log(at, command, f"parsed: {reason}")
                    continue
                narrowing = NARROWED.get(command, "")
                whole = f"{command} {narrowing}".rstrip()
                if not succeeded.get(whole, page).startswith(page):
                    log(at, command, f"run at {succeeded[whole]}")
                    continue
                begun = time.monotonic()
                done = run(clone, whole, folder)
                seconds = f"{time.monotonic() - begun:.1f} s"
                log(at, command, f"… {narrowing}" if narrowing else "", done.returncode, seconds)
                expect(done, f"{at}: {whole}", *MEASURED.get(command, ()))
                succeeded[whole] = at
                if command == "make track" and not (made / ".asv").exists():
                    shutil.copytree(clone / ".asv", made / ".asv")
        elif block.language == "python" and (reason := NOT_RUN.get(block.text.splitlines()[0])):
            name = block.text.splitlines()[0].removeprefix("# ")
            assert block.text == f"# {name}\n" + (ROOT / "docs" / "examples" / name).read_text()
            log(at, block.text.splitlines()[0], "python", reason)
        elif block.language == "python":
            status = run_python(block, clone, folder)
            log(at, block.text.splitlines()[0], "python", status)
        elif block.language == "toml":
            folder = use_toml(block, clone)
            log(at, block.text.splitlines()[0], "toml", "parsed")
        elif block.language == "diff":
            apply(block, folder)
            log(at, block.text.splitlines()[0].strip(), "diff", "applied")
        elif block.language == "yaml":
            for step in yaml.safe_load(block.text):
                if command := step.get("run"):
                    command = re.sub(r"\$\{\{.*?\}\}", "main", command)
                    subprocess.run(["bash", "-n", "-c", command], check=True)
                    check_options(command.partition(" >> ")[0])
            log(at, block.text.splitlines()[0], "yaml", f"parsed: {NOT_RUN[block.text.splitlines()[0]]}")
        else:
            assert block.language == "text", f"{at}: nothing is known of {block.language}"


def run_python(block: Block, clone: Path, folder: Path) -> int:
    """Run a block as a file of the name that its first line has; or as a script."""
    at = f"{block.page}:{block.line}"
    ast.parse(block.text)
    name = re.match(r"# ([\w/]+\.py)\n", block.text)
    path = folder / (name[1] if name else "block.py")
    if "asv.Cases" in block.text:
        # What `copycost init` has written, two commands before.
        assert block.text == (folder / "benchmarks" / "normalize.py").read_text()
        return 0
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        done = run(clone, f"python {path.relative_to(folder)}", folder)
    status = -signal.SIGABRT if block.text.endswith("# Aborted\n") else 0
    expect(done, at, status)
    if "catalogue" in path.parts:
        expect(run(clone, "copycost claims bytes-become-float32"), at)
    return status


def use_toml(block: Block, clone: Path) -> Path:
    """A project of its own, whose pyproject.toml the block is; or entry points, which are only read."""
    found = tomllib.loads(block.text)
    if "build-system" not in found:
        return clone
    folder = clone.parent / found["project"]["name"]
    folder.mkdir()
    (folder / "pyproject.toml").write_text(block.text)
    tools.git(folder, "init", "-q", "-b", "main")
    return folder


def apply(block: Block, folder: Path) -> None:
    """Commit what there is, and then the change of one line."""
    tools.commit(folder, "before")
    old, new = (line[1:] for line in block.text.splitlines())
    (path,) = folder.glob("*/__init__.py")
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    tools.commit(folder, "after")


def test_what_is_listed_is_written() -> None:
    shell = {c for page in PAGES for b in blocks(page) if b.language in ("", "console") for c in b.commands}
    first = {b.text.splitlines()[0] for page in PAGES for b in blocks(page)}
    assert NARROWED.keys() | MEASURED.keys() <= shell
    assert NOT_RUN.keys() <= shell | first
    assert PLACEHOLDERS.keys() <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_the_text_of_a_page_have_the_options_that_they_name(page: str) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"`((?:copycost|asv|make|python3?) [^`]*)`", text):
        if command.endswith("…"):
            continue
        name, *words = shlex.split(command)
        if name == "make":
            assert words[0] in targets, command
        elif name.startswith("python") and words[0].endswith(".py"):
            assert (ROOT / words[0]).exists(), command
        elif name.startswith("python"):
            assert words[0] == "-m", command
            module = f"{words[1].replace('.', '/')}.py"
            there = any((root / module).exists() for root in (ROOT, ROOT / "suite"))
            assert there or words[1] in ("pytest", "copycost"), command
        else:
            try:
                check_options(shlex.join([name, *words]))
            except click.UsageError as error:
                pytest.fail(f"{command}: {error.format_message()}")
