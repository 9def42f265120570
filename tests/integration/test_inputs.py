"""Command lines that nobody would write: each ends in one clear line, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import Command
from PIL import Image
from test_asv_results import BLOCKS
from test_asv_results import write as write_asv
from test_results import M

from copycost.catalog import discovery
from copycost.cli import app, options
from copycost.cli.options import one_line_message
from copycost.engine.plan import Plan
from copycost.results import load, store

#: Exit statuses that the documentation names.
STATUSES = (0, 1, 2, 3, 130)

#: What an error is at most, with the word before it and a warning's.
LONGEST = 520

#: Seconds that a line may take, on a machine that does something else besides.
PATIENCE = 20

NUMBERS = [
    "0", "1", "-1", "3", "7.5", "1e309", "-1e309", "nan", "inf", "-inf", "1_0", "0x10", " 5 ", "٣", "²", "１２",
    "5 000", "9" * 20, "9" * 4299, "9" * 5000, "-" + "9" * 5000, "1e-320", "99999999999", "4097", "101", "none",
    "50%", "%",
]  # fmt: skip

TEXTS = [
    "", " ", "\t", "\n", "one\ntwo", "\r\n", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x07\x08", "\x00", "a\x00b",
    "\u202egnp.exe", "\u2028", "é", "🙂", "\udcff\udcfe", "a\udc80b", "A" * 1000, "x" * 100_000, "\x1b[2J" * 500,
    "\udcff" * 30_000, "[red]", "[/red]", "[bold", "{0}", "{", "%s", "'", '"', "\\", "$(id)", "-", "-x", "--nope",
    "--jsno", "*", "[", "[!", "?" * 200, "<script>", "a.b:c", "package.module:function", ":", "a" * 5000 + ".b:c",
]  # fmt: skip

WORDS = [
    "caffe", "tf", "cafe", "caffee", "numpy-new", "numpy-ot", "keras-numpy", "cpu", "gpu", "gpu:0", "gpu:1", "tpu",
    "gpu:" + "9" * 5000, "gpu:-1", "gpu:1.5", "quick", "standard", "quik", "float32", "float31", "uint8", "int8",
    "channels_last", "channel_last", "new", "input", "inptu", "numpy", "tensorflow", "numpi", "recipes", "cases",
    "variant", "devices", "224x224", "32×24", "1x1", "x", "0x0", "224x", "99999x1", "9" * 5000 + "x1",
    "1x" + "9" * 5000, "8x32x24x3", "9" * 5000 + "x1x1x3", "8x32x24x4", "HEAD", "HEAD~1", "nosuchref",
    "HEAD~" + "9" * 5000, "-HEAD", "now", "ALL", "loop", "tf-data*", "nosuchclaim", "x / 127.5 - 1", "x /", "[",
]  # fmt: skip

PATHS = [
    "absent", "absent/file", "text.txt", "text.txt/file", "empty", "binary.bin", "folder", "folder/file", "run",
    "run.json", "asv", "asv@HEAD", "asv@", "@", "fifo", "loop", "dangling", "picture.png", "cut.png", "new.json", "new",
    "unreadable", "unreadable/file", "/dev/zero", "/dev/null", "/dev/full", "/proc/self/mem", "a" * 300, "b/" * 3000,
    ".", "text.py", "folder.py", "absent.py", "[/red]", "caf\udce9", "new\x1b[31m", "new\nline", "run/", "run//",
    "./run",
]  # fmt: skip

EVERY = [*NUMBERS, *TEXTS, *WORDS, *PATHS]

#: Of each command arguments that are right, to which wrong ones are added: else most lines would end at the first.
RIGHT = {
    "run": [["--recipe", "tf"], ["--out", "new", "--json", "new.json"], ["--resume", "--out", "run"]],
    "list": [["cases", "--recipe", "tf", "--batch", "1"], ["recipes"], ["variants", "--recipe", "tf"]],
    "report": [["run", "--html", "new"], ["run.json", "--markdown", "new.md"], ["asv", "run", "--html", "new"]],
    "show": [["run"], ["asv"]],
    "compare": [["run", "run.json"], ["asv", "asv"]],
    "judge": [["text.py::f", "text.py::f"], ["os.path:join", "text.py:f", "--input", "8:float32", "--exact"]],
    "lock": [["text.py::f", "--file", "new"], ["os.path:join", "--input", "8x3:uint8", "--json", "new.json"]],
    "bisect": [["numpy==1.26.4", "numpy==2.2.0", "text.py::f"], ["HEAD~1", "HEAD", "text.py::f"]],
    "gate": [["--base", "HEAD~1"], ["--base", "HEAD"], ["--base", "HEAD~1", "--with", "mine.py", "--out", "new"]],
    "profile": [["tf", "numpy-new"], ["tf", "numpy-new", "8x32x24x3"]],
    "merge": [["run", "--into", "new"], ["asv", "asv", "--into", "asv"]],
    "with-lock": [["--", "true"], ["--wait", "1", "--", "true"]],
    "worker": [["tcp://127.0.0.1:1"], ["tls://host:1"]],
    "init": [["package.module:function", "--recipe", "tf"]],
}


class Begun(BaseException):
    """All arguments are right: the work would begin here."""


class TooLong(BaseException):
    """A command has not ended in time."""


def late(*_: object) -> None:
    """Answer the alarm."""
    raise TooLong


def folder_of_inputs(folder: Path) -> None:
    """Make a git repository of two commits and a change, and what the paths name."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (folder / "mine.py").write_text("from copycost import variant\n")
    subprocess.run(["git", "-C", str(folder), "add", "mine.py"], check=True)
    for title in ("first", "second"):
        commit = ["commit", "--quiet", "--allow-empty", "-m", title]
        subprocess.run(["git", "-C", str(folder), *identity, *commit], check=True)
        (folder / "mine.py").write_text("from copycost import variant  # and nothing else\n")
    (folder / "text.txt").write_text("no pixels here\n")
    (folder / "empty").write_text("")
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 40)
    for name in ("folder", "folder.py", "unreadable"):
        (folder / name).mkdir()
    (folder / "unreadable").chmod(0)
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    (folder / os.fsdecode(b"caf\xe9")).write_text("a name that is no UTF-8")
    Image.new("RGB", (40, 40), (7, 8, 9)).save(folder / "picture.png")
    (folder / "cut.png").write_bytes((folder / "picture.png").read_bytes()[:60])
    with store.Run(folder / "run", resume=False) as run:
        run.begin({"engine": 2}, {}, 1)
        run.add(M)
        run.finish({}, finished=True)
    (folder / "run.json").write_text(json.dumps(store.document({"engine": 2}, [M])))
    write_asv(folder / "asv", {"seconds": [BLOCKS, BLOCKS]})


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder, with its size and time."""
    found = {}
    for where, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        for name in (*folders, *files):
            its = os.lstat(os.path.join(where, name))
            found[os.path.join(where, name)] = (its.st_size, its.st_mtime_ns)
    return found


def commands(
    group: click.Group = app.cli, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def likely(param: click.Parameter) -> list[str]:
    """Values of the kind that a parameter takes, right and wrong."""
    if isinstance(param.type, options.FilePath):
        return PATHS
    if isinstance(param.type, click.IntRange | options.Seconds) or param.name in ("batch", "tolerance"):
        return NUMBERS
    return WORDS


def command_lines(seed: int, number: int) -> list[list[str]]:
    """Command lines of every command in turn, the same for the same seed."""
    chance = random.Random(seed)
    every = list(commands())
    made = []
    for k in range(number):
        words, command = every[k % len(every)]
        right = RIGHT.get(words[-1], [[]]) if chance.random() < 0.6 else [[]]
        line = [*words, *chance.choice(right)]
        bare = len(line) == len(words)
        options = [param for param in command.params if isinstance(param, click.Option)]
        # Each option has its turn, and a few others beside it.
        first = options[k // len(every) % len(options) :][:1] if options else []
        for option in [*first, *(chance.choice(options) for _ in range(chance.randrange(3)) if options)]:
            name = chance.choice([*option.opts, *option.secondary_opts])
            if chance.random() < 0.03:
                name = name[:-1] + chance.choice("xyz")
            value = chance.choice(likely(option) if chance.random() < 0.6 else EVERY)
            if option.is_flag or chance.random() < 0.03:
                line.append(name)
            elif chance.random() < 0.3 and name.startswith("--"):
                line.append(f"{name}={value}")
            else:
                line += [name, value]
            if chance.random() < 0.1:
                line += [name, value]
        for argument in (param for param in command.params if isinstance(param, click.Argument)):
            usual = chance.choice((0, 1, 1, 1, 1, 2, 3)) if argument.nargs == -1 else chance.random() < 0.95
            for _ in range(usual if bare else chance.random() < 0.05):
                line.insert(len(words), chance.choice(likely(argument) if chance.random() < 0.6 else EVERY))
        if chance.random() < 0.02:
            line.append(chance.choice(("--help", "-h", "--version", "--", "surplus")))
        made.append(line)
    return made


def said_well(status: int | None, err: str) -> str | None:
    """What is wrong with an ending; None for nothing."""
    if status not in (*STATUSES, None):
        return f"status {status}"
    if "Traceback" in err:
        return "a traceback"
    lines = err.split("\n")[:-1]
    for line in lines:
        if line.startswith(("Error: ", "Warning: ")):
            if not line.isprintable():
                return "what cannot be printed"
            if len(line) > LONGEST:
                return f"{len(line)} characters"
    if status == 2 and (not lines or not lines[-1].startswith("Error: ") or len(lines[-1]) < 12):
        return "no error is named"
    if status == 2 and any(not line.startswith(("Error: ", "Warning: ")) for line in lines):
        return "more than one line"
    return None


def ended(arguments: list[str]) -> tuple[int | None, str]:
    """The exit status and standard error of the command in this process; None where its work would begin."""
    before = sys.argv, sys.stdout, sys.stderr
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    try:
        sys.argv, sys.stdout, sys.stderr = ["copycost", *arguments], out, err
        app.main()
    except SystemExit as end:
        status: int | None = end.code  # type: ignore[assignment]
    except Begun:
        status = None
    finally:
        err.flush()
        sys.argv, sys.stdout, sys.stderr = before
    return status, err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def faults(folder: Path, lines: list[list[str]]) -> list[str]:
    """What is wrong with the endings of command lines, run in that folder one after the other."""
    found = []
    inputs = folder / "inputs"
    folder_of_inputs(inputs)
    before = state(inputs)
    for line in lines:
        os.chdir(inputs)
        signal.alarm(PATIENCE)
        try:
            status, err = ended(line)
        except TooLong:
            status, err = None, ""
            wrong: str | None = f"not ended after {PATIENCE} s"
        else:
            wrong = said_well(status, err)
        signal.alarm(0)
        after = state(inputs)
        if after != before:
            # That a device is full shows as it is written to, after another file may have been.
            if status == 2 and not re.search("No space left on device|Input/output error", err):
                changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
                wrong = f"{', '.join(os.path.relpath(name, inputs) for name in changed)} changed"
            os.chdir(folder)
            shutil.rmtree(inputs)
            folder_of_inputs(inputs)
            before = state(inputs)
        if wrong:
            found.append(f"{wrong}: {[word if len(word) < 80 else word[:30] + '…' for word in line]!r}: {err[-600:]!r}")
    return found


@pytest.fixture
def nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Stop every command where its work would begin, and put back what a command changes of its process."""

    def begin(*_: Any, **__: Any) -> None:
        raise Begun

    for name in (
        "copycost.cli.run.Session", "copycost.cli.profile.Session", "copycost.cli.profile._call_here",
        "copycost.studies.pipelines.measure.measure",
        "copycost.cli.claims.check_claims", "copycost.studies.certify.run.certify",
        "copycost.studies.place.measure.measure",
        "copycost.gate.commits.checked_out", "copycost.tracking.track.run",
        "copycost.machine.doctor.examine", "copycost.cli.asv_plugin.examine",
        "copycost.studies.explain.explain.explain", "copycost.cli.judge.measure", "copycost.cli.judge.possible",
        "copycost.gate.lock.check", "copycost.gate.bisect.bisect", "copycost.gate.bisect.release_steps",
        "copycost.cli.mcp.find_spec",
        "copycost.machine.host_lock.take_for_good", "copycost.results.merge_asv.merge",
        "copycost.results.merge_runs.merge", "copycost.fleet.project.commits", "os.execv",
        "copycost.report.html.write_html", "copycost.report.html.write_folklore",
    ):  # fmt: skip
        monkeypatch.setattr(name, begin)
    # What other packages define is not what is looked into, and to look for it takes most of the time.
    monkeypatch.setattr(discovery, "plugins", lambda: ())
    monkeypatch.setattr("warnings.showwarning", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, late)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    with contextlib.suppress(OSError):
        (tmp_path / "inputs" / "unreadable").chmod(0o700)


@pytest.mark.usefixtures("nothing_begins")
def test_every_command_line_ends_in_a_documented_status_and_one_line(tmp_path: Path) -> None:
    assert not faults(tmp_path, command_lines(seed=1, number=2000))


def test_a_command_line_in_a_process_of_its_own_ends_as_well(command: Command, tmp_path: Path) -> None:
    """As the shell gives it: bytes that are no UTF-8, and no null characters."""
    folder_of_inputs(tmp_path / "inputs")
    before = state(tmp_path)
    chance = random.Random(2)
    wrong = []
    every = [its for its in commands() if its[0] != ("doctor",)]
    for k in range(24):
        words, its = every[k % len(every)]
        options = [param for param in its.params if isinstance(param, click.Option) and not param.is_flag]
        value = chance.choice([one for one in (*TEXTS, *NUMBERS) if "\x00" not in one])
        given = [f"{chance.choice(options).opts[0]}={value}"] if options else []
        # The second stops what the first lets pass.
        line = [*words, *given, "--no\x1b[31msuch", value]
        done = subprocess.run(
            [sys.executable, "-m", "copycost", *line],
            cwd=tmp_path / "inputs", capture_output=True, timeout=60, env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip
        fault = said_well(done.returncode, done.stderr.decode())
        if fault or done.returncode != 2:
            wrong.append(f"{fault}, status {done.returncode}: {line!r:.200}: {done.stderr[-300:]!r}")
    assert not wrong
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    "message",
    ["x" * 100_000, "unknown 'A\x1b[31m\n\r\t\x00\u202e\udcff'; did you mean caffe?", "\udcff" * 5000, "", "\n\n"],
)
def test_a_message_is_one_short_line_that_can_be_printed(message: str) -> None:
    line = one_line_message(message)
    assert line.isprintable()
    assert len(line) <= 500


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    line = one_line_message(f"unknown variant '{'v' * 50_000}'; did you mean numpy-out?")
    assert line.startswith("unknown variant 'vvv")
    assert line.endswith("'; did you mean numpy-out?")
    assert one_line_message("as it is") == "as it is"


@pytest.mark.parametrize(
    "line",
    [
        ["gate", "--base", "nosuchref", "--json", "OUT"],
        ["gate", "--base", "nosuchref", "--markdown", "OUT"],
        ["gate", "--base", "HEAD", "--batch", "0", "--json", "OUT"],
        ["pipelines", "nosuchway", "--json", "OUT"],
        ["pipelines", "--image", "absent", "--json", "OUT"],
        ["claims", "nosuchclaim", "--json", "OUT"],
        ["compare", "run", "absent", "--json", "OUT", "--markdown", "also"],
        ["compare", "absent", "run", "--json", "also", "--markdown", "OUT"],
        ["report", "absent", "--html", "new", "--markdown", "OUT"],
        ["report", "run", "--html", "text.txt", "--markdown", "OUT"],
        ["report", "run", "--baseline", "numpy-ot", "--html", "new", "--markdown", "OUT"],
        ["run", "--recipe", "cafe", "--json", "OUT", "--out", "new"],
        ["run", "--image", "absent", "--json", "OUT", "--out", "new"],
        ["run", "--resume", "--out", "new", "--json", "OUT"],
        ["run", "--resume", "--out", "folder", "--json", "OUT"],
        ["run", "--out", "run", "--json", "OUT"],
        ["run", "--out", "text.txt/new", "--json", "OUT"],
        ["profile", "tf", "numpy-ot", "--trace", "OUT"],
        ["profile", "tf", "numpy-new", "--trace", "OUT", "--run", "absent"],
        ["profile", "tf", "numpy-new", "--trace", "folder"],
        ["track", "--html", "text.txt"],
        ["init", "no.module:here", "--recipe", "tf"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("held", [None, "what was there\n"])
@pytest.mark.usefixtures("nothing_begins")
def test_nothing_is_created_or_emptied_before_all_arguments_are_right(
    tmp_path: Path, line: list[str], held: str | None
) -> None:
    inputs = tmp_path / "inputs"
    folder_of_inputs(inputs)
    os.chdir(inputs)
    if held:
        Path("out.json").write_text(held)
    before = state(inputs)
    status, err = ended([word.replace("OUT", "out.json") for word in line])
    assert status == 2, err
    assert said_well(status, err) is None
    assert state(inputs) == before


@pytest.mark.usefixtures("nothing_begins")
def test_a_file_that_cannot_be_written_is_found_before_the_work_begins(tmp_path: Path) -> None:
    folder_of_inputs(tmp_path / "inputs")
    os.chdir(tmp_path / "inputs")
    for line in (
        ["run", "--json", "absent/out.json"],
        ["run", "--json", "folder"],
        ["pipelines", "--json", "text.txt/out.json"],
        ["claims", "--json", "folder"],
        ["certify", "--json", "folder"],
        ["place", "tf", "--json", "folder"],
        ["place", "tf", "--picture", "absent/out.svg"],
        ["compare", "run", "run.json", "--markdown", "absent/out.md"],
        ["report", "run", "--markdown", "absent/out.md"],
        ["profile", "tf", "numpy-new", "--trace", "text.txt/trace.json"],
    ):
        status, err = ended(line)
        assert (status, "cannot be written to" in err) == (2, True), (line, err)


def test_a_folder_that_holds_something_else_keeps_it_when_a_gate_ends_early(tmp_path: Path) -> None:
    """Only what the command has made itself is removed."""
    from copycost.cli.gate import _RunFolder

    (tmp_path / "kept" / "base").mkdir(parents=True)
    (tmp_path / "kept" / "base" / "notes.txt").write_text("mine")
    with _RunFolder({"out": str(tmp_path / "kept")}):
        pass
    assert (tmp_path / "kept" / "base" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "kept" / "head").exists()
    with _RunFolder({"out": str(tmp_path / "new" / "kept")}):
        assert (tmp_path / "new" / "kept" / "base").is_dir()
    assert not (tmp_path / "new").exists()


def test_a_path_is_no_markup(command: Command, tmp_path: Path) -> None:
    small = ["--recipe", "tf", "--variant", "numpy-out", "--device", "cpu", "--batch", "none", "--size", "32x24"]
    done = command("run", *small, "--dtype", "float32", "--blocks", 0, "--out", "[/red]")
    assert done.returncode == 0, done.stderr
    assert "All cases: copycost show '[/red]'" in done.stdout
    done = command("report", "[/red]", "--html", "[bold]\x1b[31m")
    assert done.returncode == 0, done.stderr
    assert "Wrote [bold]\\x1b[31m/index.html" in done.stdout
    # The one image without a batch axis, too, is read back.
    assert load.load(tmp_path / "[" / "red]")[1][0].batch is None


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("exit()", "SystemExit|ends the process"),
        ("__import__('os')._exit(0)", "ends the process"),
        ("9 ** 9 ** 9 ** 9", "takes more than"),
        ("'text'", "gives text: expected an array of floats"),
        ("print('x') or x / 2", None),
        ("'\udcff'", "is not a valid expression of x: UnicodeEncodeError"),
        ("x /", "is not a valid expression of x: SyntaxError"),
        ("(" * 5000, "is not a valid expression of x"),
    ],
)
def test_a_formula_is_tried_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, formula: str, said: str | None
) -> None:
    from copycost.tracking import project

    monkeypatch.setattr(project, "_PATIENCE", 8)
    if said is None:
        project._try(formula)
        return
    with pytest.raises(project.ProjectError) as raised:
        project._try(formula)
    assert re.search(said, one_line_message(str(raised.value)))


def test_options_of_a_run_reach_its_plan() -> None:
    from copycost.cli.run import _prepare, parsed

    def plan(*words: str) -> Plan:
        return _prepare(parsed(["--recipe", "tf", "--variant", "numpy-out", *words])[0]).plan

    usual = plan()
    assert (usual.share, usual.decide, usual.budget, usual.blocks) == ("shipped", 0, 60, 9)
    assert usual.audits is not None
    assert plan("--fresh").audits is None
    assert plan("--share", "none").share == "none"
    longer = plan("--until-decided")
    assert (longer.decide, longer.budget) == (240, 60)
    assert longer.blocks > usual.blocks
    assert plan("--until-decided", "--budget", "5").decide == 20
    assert plan("--until-decided", "--budget", "5", "--blocks", "7").blocks == 7
    assert plan("--until-decided", "--budget", "5", "--blocks", "0").blocks == 0
    # With a number of blocks and no budget, there is nothing to go beyond.
    fixed = plan("--until-decided", "--blocks", "4")
    assert (fixed.decide, fixed.blocks) == (0, 4)
