"""Files of results that were damaged: each is refused in one line, or what is read of it is what was written."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_asv_results import BLOCKS
from test_asv_results import write as write_asv
from test_cli import schema
from test_inputs import TooLong, ended, late, said_well

from copycost.cli.claims import claims_of
from copycost.model.measurement import FIELDS, Measurement
from copycost.results import documents, load, store, table

#: A run that was measured, of which a few lines are enough.
SAMPLE = Path(__file__).parents[2] / "reports" / "sample" / "run"
ROWS = (0, 1, 5, 60, 200, 390)

#: Seconds that reading one file, and showing it, may take.
PATIENCE = 20

#: Bytes that the process may grow by, however a file is damaged.
MEMORY = 700 * 2**20

#: What a value is replaced by. A word in @ stands for itself without quotes: JSON has no such number, or Python none.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**25, 0.0, -0.0, 0.5, -1.5, 5e-324, 1e-300, 1e300, 1.0,
    "@NaN@", "@Infinity@", "@-Infinity@", "@1e999@", "@-1e999@", f"@{'9' * 400}@", f"@{'9' * 5000}@", "", " ", "text",
    "1.5", "0", "ok", "\x1b[31m", "a\nb", "\u202e", "\ud800", "x" * 10_000, [], [[]], [None], [1], [[1.0]], [[0.0]],
    [["a"]], {}, {"a": 1}, {"": None}, [{}], "@" + "[" * 500 + "]" * 500 + "@",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """End what hangs, and see that no file takes the memory."""

    before, most = signal.signal(signal.SIGALRM, late), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * 1024 < MEMORY


def written(document: Any) -> str:
    """JSON, in which what stands in @ is as it is."""
    text = json.dumps(document)
    while (start := text.find('"@')) >= 0:
        end = text.index('@"', start)
        text = text[:start] + text[start + 2 : end] + text[end + 2 :]
    return text


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a document stands, but of long lists the first ones only."""
    items = document.items() if isinstance(document, dict) else enumerate(document[:3])
    for name, value in items:
        yield (*before, name)
        if isinstance(value, dict | list):
            yield from places(value, (*before, name))


def replaced(document: Any, chance: random.Random) -> str:
    """A document in which one value is another, gone, or there twice."""
    copy = json.loads(json.dumps(document))
    # Each field of the document is as likely as all that is within another.
    top = chance.choice(sorted({place[:4] for place in places(copy)}, key=repr))
    *way, last = chance.choice([place for place in places(copy) if place[: len(top)] == top])
    at = copy
    for name in way:
        at = at[name]
    how = chance.random()
    if how < 0.08:
        del at[last]
    elif how < 0.16 and isinstance(last, str):
        text = written(copy)
        return text.replace(f'"{last}": ', f'"{last}": {written(chance.choice(VALUES))}, "{last}": ', 1)
    elif how < 0.2 and isinstance(last, str):
        at[last + "x"] = at.pop(last)
    else:
        at[last] = chance.choice(VALUES)
    return written(copy)


def broken(data: bytes, chance: random.Random) -> bytes:
    """A file that was cut off, of which bits have changed, or bytes were lost, written over or put in between."""
    at = chance.randrange(len(data))
    how = chance.randrange(9)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + data[at + chance.randrange(1, 200) :]
    if how == 2:
        return data[:at] + bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20))) + data[at:]
    if how == 3:
        return data[:at] + bytes(len(data) - at)  # as a file system leaves it whose machine lost its power
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


WHOLE: list[bytes] = [
    b"", b"\n", b"{", b"null", b"5", b"[]", b"{}", b'"text"', bytes(range(256)) * 50,
    b"\xff\xfe" + "{}".encode("utf-16"), b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"-" * 100_000,
    b"9" * 100_000, b"NaN", b"\x00" * 100_000, b'{"schema": 1, "schema": 1}', b'"' + b"\\ud800" * 50_000 + b'"',
]  # fmt: skip


def properties() -> dict[str, jsonschema.Draft202012Validator]:
    """Field → what checks its value, by the package that JSON Schema is checked with everywhere else."""
    its = schema().schema["$defs"]["measurement"]["properties"]
    return {name: jsonschema.Draft202012Validator(one) for name, one in its.items()}


CHECKS = properties()


def told_right(found: Measurement, original: dict[str, Any] | None, says: dict[str, Any] | None) -> str | None:
    """What is wrong with a measurement that was read; None for nothing.

    Parameters
    ----------
    found : Measurement
    original : dict or None
        The case as it was written; None where no such case was.
    says : dict or None
        What the damaged file literally says of the case, read without any check. Damage that leaves the file whole and
        every value right by the schema, as one digit in place of another, cannot be told from what was measured.
    """
    for name, value in found.to_dict().items():
        if original is not None and value == original[name] and type(value) is type(original[name]):
            continue
        if value is None and name not in ("batch", "status"):
            continue
        said = says.get(name) if says is not None else None
        if isinstance(value, float) and type(said) is int:
            said = float(said)
        # Reasons are kept in another form, and what a terminal would obey in them is escaped.
        literally = value == said or (says is not None and name in ("missing", "reason", "known"))
        if not literally or not CHECKS[name].is_valid(value):
            return f"{name} is {value!r:.80}, and was {original and original[name]!r:.80}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is {value}"
    return None


def loosely(text: str) -> Any:
    """What a text says, without any check but that half a character stands for one."""
    try:
        pairs = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-16", "surrogatepass")
        return json.loads(pairs.decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        return None


def looked_at(path: Path, other: Path, lines: Sequence[int] = range(4)) -> list[Measurement] | str:
    """The measurements that are read from a path, which commands then show; or how it was refused.

    `lines` are the numbers of the command lines; the last, 4, draws a page, which takes long.
    """
    signal.alarm(PATIENCE)
    found: list[Measurement] | str
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load.load_all(path)
            found = [m for *_, its in loaded for m in its]
            assert len(table.joined(loaded)) == len(found)
        except store.RunError as error:
            found = str(error)
            assert "\n" not in found
            assert str(path) in found, found
    every = (
        ["show", str(path)],
        ["compare", str(path), str(other)],
        ["compare", str(other), str(path), "--json", "-"],
        ["report", str(path), "--markdown", "-"],
        ["report", str(path), "--html", "page"],
    )
    for line in [every[k] for k in lines]:
        status, err = ended(line)
        assert said_well(status, err) is None, (line, said_well(status, err), err)
        assert status == 2 if isinstance(found, str) else True, (line, status, err)
    signal.alarm(0)
    return found


def of_turn(k: int) -> tuple[int, ...]:
    """The command line that the file of that number is shown by: each in turn, and a page now and then."""
    return (4,) if k % 400 == 1 else (k % 4,)


def sample() -> tuple[dict[str, Any], list[str]]:
    """The environment file and a few lines of the measured run."""
    lines = (SAMPLE / store.MEASUREMENTS).read_text().splitlines(keepends=True)
    header = json.loads((SAMPLE / store.ENVIRONMENT).read_text())
    return header | {"cases": len(ROWS)}, [lines[k] for k in ROWS]


def a_run(folder: Path) -> Path:
    header, lines = sample()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / store.ENVIRONMENT).write_text(json.dumps(header))
    (folder / store.MEASUREMENTS).write_text("".join(lines))
    return folder


def by_key(measurements: list[Measurement]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {store.key(m): m.to_dict() for m in measurements}


def damage_folders(tmp_path: Path, seed: int, number: int) -> list[str]:
    """What is wrong with the reading of so many damaged folders of a run."""
    chance = random.Random(seed)
    good = a_run(tmp_path / "good")
    originals = by_key(load.load(good)[1])
    header, lines = sample()
    wrong = []
    for k in range(number):
        folder = a_run(tmp_path / "bad")
        text = "".join(lines)
        name = store.MEASUREMENTS
        if chance.random() < 0.3:
            name, text = store.ENVIRONMENT, json.dumps(header)
        how = chance.random()
        if how < 0.05:
            data = chance.choice(WHOLE)
        elif how < 0.4:
            data = broken(text.encode(), chance)
        elif name == store.ENVIRONMENT:
            data = replaced(header, chance).encode(errors="surrogatepass")
        else:
            at = chance.randrange(len(lines))
            changed = [*lines[:at], replaced(json.loads(lines[at]), chance) + "\n", *lines[at + 1 :]]
            data = "".join(changed).encode(errors="surrogatepass")
        (folder / name).write_bytes(data)
        try:
            found = looked_at(folder, good, of_turn(k))
        except (Exception, TooLong) as error:
            wrong.append(f"{k}: {type(error).__name__}: {error!s:.600}")
            continue
        if isinstance(found, str):
            continue
        said = (
            [loosely(line) for line in data.decode(errors="replace").split("\n")] if name != store.ENVIRONMENT else []
        )
        for m in found:
            case = store.key(m)
            its = [one for one in said if isinstance(one, dict) and tuple(map(one.get, store.KEY)) == case]
            if fault := told_right(m, originals.get(case), its[-1] if its else None):
                wrong.append(f"{k}: {fault}")
    return wrong


def damage_documents(tmp_path: Path, seed: int, number: int) -> list[str]:
    """What is wrong with the reading of so many damaged documents of ``--json``."""
    chance = random.Random(seed)
    good = a_run(tmp_path / "good")
    environment, measurements = load.load(good)
    originals, document = by_key(measurements), store.document(environment, measurements)
    text, path, wrong = json.dumps(document), tmp_path / "bad.json", []
    for k in range(number):
        how = chance.random()
        if how < 0.05:
            data = chance.choice(WHOLE)
        elif how < 0.4:
            data = broken(text.encode(), chance)
        else:
            data = replaced(document, chance).encode(errors="surrogatepass")
        path.write_bytes(data)
        try:
            found = looked_at(path, good, of_turn(k))
        except (Exception, TooLong) as error:
            wrong.append(f"{k}: {type(error).__name__}: {error!s:.600}")
            continue
        if isinstance(found, str):
            continue
        said = loosely(data.decode())["measurements"]
        for m, its in zip(found, said, strict=True):
            if fault := told_right(m, originals.get(store.key(m)), its):
                wrong.append(f"{k}: {fault}")
    return wrong


def damage_histories(tmp_path: Path, seed: int, number: int) -> list[str]:
    """What is wrong with the reading of so many damaged files of asv's results."""
    chance = random.Random(seed)
    figures: dict[str, list[Any]] = {
        "seconds": [BLOCKS, BLOCKS], "allocations": [2, 0], "allocated_bytes": [38535168, 0], "input_changed": [0, 0],
    }  # fmt: skip
    good = write_asv(tmp_path / "good", figures)
    (path,) = (good / "here").glob("aaaa*.json")
    document = json.loads(path.read_text())
    originals = by_key([m for *_, its in load.load_all(good) for m in its])
    wrong = []
    for k in range(number):
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        how = chance.random()
        name = chance.choice((path.name, path.name, path.name, path.name, "machine.json", "../benchmarks.json"))
        if how < 0.05:
            data = chance.choice(WHOLE)
        elif how < 0.4:
            data = broken(path.read_bytes(), chance)
        else:
            data = replaced(document, chance).encode(errors="surrogatepass")
        (bad / "here" / name).write_bytes(data)
        try:
            found = looked_at(bad, good, of_turn(k))
        except (Exception, TooLong) as error:
            wrong.append(f"{k}: {type(error).__name__}: {error!s:.600}")
            continue
        if isinstance(found, str):
            continue
        text = data.decode(errors="replace")
        for m in found:
            was = originals.get(store.key(m))
            its = m.to_dict()
            for name, value in its.items():
                if (value is None and name in FIELDS) or (was and value == was[name]):
                    continue
                # A number of the file as it stands there, or what follows from it.
                follows = ("seconds_low", "seconds_high", "least_change", "images_per_second", "blocks", "status",
                           "reason", "known", "missing", "input_changed", "samples")  # fmt: skip
                if not (name in follows or json.dumps(value).strip('"') in text or str(int(value or 0)) in text):
                    wrong.append(f"{k}: {name} is {value!r:.80}, and was {was and was[name]!r:.80}")
                if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                    wrong.append(f"{k}: {name} is {value}")
                if value is not None and not CHECKS[name].is_valid(value):
                    wrong.append(f"{k}: {name} is {value!r:.80}")
    return wrong


@pytest.mark.parametrize(
    ("damage", "number"), [(damage_folders, 800), (damage_documents, 700), (damage_histories, 500)]
)
def test_a_damaged_file_is_refused_or_read_as_it_was_written(
    tmp_path: Path, damage: Callable[[Path, int, int], list[str]], number: int
) -> None:
    assert not damage(tmp_path, 3, number)


@pytest.mark.parametrize("name", [store.ENVIRONMENT, store.MEASUREMENTS])
@pytest.mark.parametrize("instead", ["nothing", "folder", "pipe", "zeros", "loop", "dangling"])
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str, instead: str) -> None:
    """A pipe that nobody writes to is not waited for, and a device that never ends is not read to its end."""
    good, bad = a_run(tmp_path / "good"), a_run(tmp_path / "bad")
    (bad / name).unlink()
    put_there(bad / name, instead)
    found = looked_at(bad, good)
    assert isinstance(found, str) or (instead == "pipe" and name == store.MEASUREMENTS and not found)


@pytest.mark.parametrize("instead", ["nothing", "pipe", "zeros", "loop", "dangling"])
def test_a_document_that_is_no_file_is_not_read(tmp_path: Path, instead: str) -> None:
    put_there(tmp_path / "bad.json", instead)
    assert isinstance(looked_at(tmp_path / "bad.json", a_run(tmp_path / "good")), str)


def put_there(path: Path, instead: str) -> None:
    if instead == "folder":
        path.mkdir()
    elif instead == "pipe":
        os.mkfifo(path)
    elif instead != "nothing":
        path.symlink_to({"zeros": "/dev/zero", "loop": path.name, "dangling": "nowhere"}[instead])


def test_a_pipe_that_is_written_to_is_read(tmp_path: Path) -> None:
    """As of ``copycost show <(…)``."""
    environment, measurements = load.load(a_run(tmp_path / "good"))
    read, write = os.pipe()
    if not os.fork():
        os.close(read)
        with open(write, "w") as file:
            json.dump(store.document(environment, measurements), file)
        os._exit(0)
    os.close(write)
    assert load.load(Path(f"/dev/fd/{read}"))[1] == measurements
    os.close(read)
    os.wait()


@pytest.mark.parametrize("seconds", [0, 0.0, -0.0, -1e-3, -5, True, "0.001", [0.001], 1e999, "@NaN@"])
@pytest.mark.parametrize("field", ["seconds", "seconds_low", "samples", "seconds_first", "device_seconds"])
def test_a_time_that_is_none_is_refused_and_its_field_is_named(tmp_path: Path, field: str, seconds: Any) -> None:
    environment, (m, *_) = load.load(a_run(tmp_path / "good"))
    value = [[0.001, 0.001], [0.001, seconds]] if field == "samples" else seconds
    path = tmp_path / "bad.json"
    path.write_text(written(store.document(environment, []) | {"measurements": [m.to_dict() | {field: value}]}))
    with pytest.raises(store.RunError, match=f"bad.json is not a run: (measurement 1: {field} is|NaN|Infinity)"):
        load.load(path)


@pytest.mark.parametrize("least", [5e-324, 1e-300, 1e-9])
@pytest.mark.parametrize("most", [1.7e308, 1e300, 1e9])
def test_times_that_the_schema_allows_are_shown_however_far_apart(tmp_path: Path, least: float, most: float) -> None:
    environment, (m, *_) = load.load(a_run(tmp_path / "good"))
    rows = []
    for variant, seconds in (("numpy-new", least), ("numpy-out", most), ("numpy-copy", (least * most) ** 0.5)):
        blocks = [[seconds, seconds]] * 3
        times = {"seconds": seconds, "seconds_low": seconds, "seconds_high": seconds, "samples": blocks}
        rows.append(m.to_dict() | times | {"variant": variant, "device": "cpu", "batch": 8})
    paths = tmp_path / "one.json", tmp_path / "other.json"
    for path, other in zip(paths, (0, 1), strict=True):
        its = [row | {"samples": rows[(k + other) % 3]["samples"]} for k, row in enumerate(rows)]
        path.write_text(json.dumps(store.document(environment | {"session": "one"}, []) | {"measurements": its}))
    assert not isinstance(looked_at(*paths, range(5)), str)


def test_a_case_that_stands_twice_is_refused(tmp_path: Path) -> None:
    environment, measurements = load.load(a_run(tmp_path / "good"))
    text = json.dumps(store.document(environment, [*measurements, measurements[1]]))
    (tmp_path / "bad.json").write_text(text)
    said = looked_at(tmp_path / "bad.json", tmp_path / "good")
    assert f"measurements 2 and {len(ROWS) + 1} are of the same case" in str(said)


def test_a_case_of_two_benchmarks_of_asv_is_refused(tmp_path: Path) -> None:
    """Of which nothing says which one its figures are of."""
    figures: dict[str, list[Any]] = {"seconds": [BLOCKS, BLOCKS], "allocations": [2, 0]}
    good, bad = write_asv(tmp_path / "good", figures), write_asv(tmp_path / "bad", figures)
    (path,) = (bad / "here").glob("aaaa*.json")
    path.write_text(path.read_text().replace("NumPy.track_seconds", "Other.track_seconds"))
    with pytest.warns(UserWarning, match="it contains a case twice, and is left out"), pytest.raises(store.RunError):
        load.load_all(bad)
    assert isinstance(looked_at(bad, good), str)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    environment, measurements = load.load(a_run(tmp_path / "good"))
    text = json.dumps(store.document(environment, measurements))
    (tmp_path / "bad.json").write_text(text.replace('"seconds": ', '"seconds": 1e-9, "seconds": ', 1))
    with pytest.raises(store.RunError, match="an object has a duplicate key"):
        load.load(tmp_path / "bad.json")


def test_a_damaged_line_is_named_with_what_is_wrong_and_the_others_are_read(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    path = folder / store.MEASUREMENTS
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = json.dumps(json.loads(lines[1]) | {"allocations": "2"}) + "\n"
    path.write_text("".join(lines))
    with pytest.warns(UserWarning, match='line 2 is not a measurement, and is left out: allocations is "2"'):
        _, measurements = load.load(folder)
    assert len(measurements) == len(ROWS) - 1


def test_a_check_says_of_a_value_what_json_schema_says_of_it() -> None:
    """But for what is told in its docstring: 1.0 is an integer there, and numbers may be of any size."""
    plain = [one for one in VALUES if not (isinstance(one, str) and one.startswith("@"))]

    def stricter(value: Any, one: dict[str, Any]) -> bool:
        if isinstance(value, float):
            return value.is_integer() and "integer" in one.get("type", ())
        return type(value) is int and not -(2**63) <= value < 2**63

    for name, one in schema().schema["$defs"]["measurement"]["properties"].items():
        check, valid = documents.checker(one), CHECKS[name]
        for value in [*plain, "cpu", "float32", "nothing", ["waited"], [["waited"]], {"peak_bytes": [1, 2]}]:
            if not stricter(value, one):
                assert check(value) == valid.is_valid(value), (name, value)
    assert {f.name for f in fields(Measurement)} == set(CHECKS)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_claims_are_refused_or_make_a_page(tmp_path: Path, seed: int) -> None:
    taken_in = {"libraries": {"numpy": "2.4.6"}, "python": "3.11.7", "cpu": None, "cpus": 2, "time": "2026-11-22"}
    claim = {
        "id": "one", "document": "a.md", "claim": "It is so.", "verdict": "holds", "because": "1 of 1",
        "evidence": {"seconds": {"a": [0.1]}}, "reproduce": "print(1)",
    }  # fmt: skip
    document = {"schema": 1, "environment": taken_in, "claims": [claim, claim | {"id": "other", "verdict": None}]}
    path, chance = tmp_path / "claims.json", random.Random(seed)
    path.write_text(json.dumps(document))
    assert claims_of(path) == document
    for _ in range(80):
        path.write_bytes(replaced(document, chance).encode(errors="surrogatepass"))
        signal.alarm(PATIENCE)
        status, err = ended(["report", str(path), "--html", "page"])
        assert status in (0, 2), err
        assert said_well(status, err) is None, err
