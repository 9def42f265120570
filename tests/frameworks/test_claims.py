"""Claims: every verdict follows from its evidence, and turns with it."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from copycost.catalog import import_context
from copycost.studies.claims.claim import DEPENDS, HOLDS, REFUTED, NoEvidence
from copycost.studies.claims.run import Judged, check_claims, judged, load

CLAIMS = load()
DOCUMENTS = (
    "000_7797cfcd5e643e17.txt", "001_c67bb3ae6f98c16c.txt", "002_eb0676d81cff0efb.txt", "003_68b9e6b4347422cc.txt",
)  # fmt: skip

Evidence = dict[str, Any]


def calls(what: str, value: bool) -> Callable[[Evidence], None]:
    def turn(e: Evidence) -> None:
        for call in e["calls"]:
            if what in call:
                call[what] = value

    return turn


def every(name: str, value: Any) -> Callable[[Evidence], None]:
    """All of a mapping's values."""

    def turn(e: Evidence) -> None:
        e[name] = dict.fromkeys(e[name], value)

    return turn


def put(**values: Any) -> Callable[[Evidence], None]:
    return lambda e: e.update(values)


def ways(what: str, value: Any) -> Callable[[Evidence], None]:
    def turn(e: Evidence) -> None:
        for its in e["ways"].values():
            its[what] = value

    return turn


def formulas(graph: int) -> Callable[[Evidence], None]:
    return lambda e: e.update(formulas={name: {"eager": 3, "graph": graph} for name in e["formulas"]})


def seconds(**factors: float) -> Callable[[Evidence], None]:
    """Blocks that differ by one percent, times a factor for what is named; the others take a second."""

    def turn(e: Evidence) -> None:
        for name, blocks in e["seconds"].items():
            factor = next((f for part, f in factors.items() if name.startswith(part)), 1.0)
            e["seconds"][name] = [[factor * (1 + 0.01 * (i % 2))] * 4 for i in range(max(6, len(blocks)))]

    return turn


def both(*turns: Callable[[Evidence], None]) -> Callable[[Evidence], None]:
    def turn(e: Evidence) -> None:
        for one in turns:
            one(e)

    return turn


def noise(e: Evidence) -> None:
    """Blocks of which every other one is half as long again, at other times for each."""
    for k, name in enumerate(e["seconds"]):
        e["seconds"][name] = [[1.5 if (i >> k) % 2 else 1.0] * 4 for i in range(6)]


def gradients(in_place: str, functional: str = "passes") -> Callable[[Evidence], None]:
    return both(every("in place", in_place), every("functional", functional))


def peaks(loop: int) -> Callable[[Evidence], None]:
    def turn(e: Evidence) -> None:
        e["peaks"] = {name: 100 if name == "at once" else loop for name in e["peaks"]}

    return turn


#: Claim → evidence the other way, and the verdict that it must then have.
TURNED: dict[str, list[tuple[Callable[[Evidence], None], str]]] = {
    "arrays-are-left-as-they-were": [(calls("changed", False), HOLDS), (calls("changed", True), REFUTED)],
    "the-result-is-a-new-array": [(calls("shares", False), HOLDS), (calls("shares", True), REFUTED)],
    "unequal-means-unchanged": [(calls("changed", False), HOLDS), (calls("looks_equal", True), HOLDS)],
    "tensors-are-left-as-they-were": [(calls("changed", True), REFUTED)],
    "arrays-and-tensors-are-alike": [
        (every("dtypes", {"off": 0.0, "raised": 0}), HOLDS), (every("dtypes", {"off": 0.0, "raised": 1}), REFUTED),
    ],
    "arrays-are-immutable": [(every("writeable", False), HOLDS)],
    "slice-assignment-takes-no-memory": [(put(slice=0), HOLDS)],
    "inplace-gives-the-same": [(every("off", 0.0), HOLDS), (every("off", 1.0), REFUTED)],
    "inplace-returns-another-array": [(put(same_object=False), HOLDS)],
    "only-out-changes-an-array": [(every("changed", False), HOLDS)],
    "there-is-no-central-function": [(put(shared={}), HOLDS)],
    "the-function-of-vgg16-is-wrong-for-resnet50": [(put(alike=False), HOLDS)],
    "every-model-has-a-function-of-its-own": [
        (put(modules=2, kinds={"a": ["a"], "b": ["b"]}), HOLDS),
    ],
    "every-function-does-something": [(put(unchanged=[]), HOLDS)],
    "the-custom-function-gives-minus-one-to-one": [(put(high=1.1), REFUTED)],
    "layers-do-what-a-function-does": [(every("off", 0.5), REFUTED)],
    "py-function-has-no-seam": [
        (both(put(shape=[8, 8, 3]), seconds()), HOLDS),
        (both(put(shape=[8, 8, 3]), seconds(**{"tf-py-function": 2.0})), REFUTED),
        (both(put(shape=[8, 8, 3]), noise), DEPENDS),
    ],
    "tf-data-is-the-efficient-way": [
        (seconds(loop=4.0), HOLDS), (seconds(loop=0.25), REFUTED), (noise, DEPENDS),
    ],
    "the-formula-is-what-is-computed": [(every("off", 0.1), REFUTED)],
    "importing-tensorflow-changes-numpy": [(put(imported=["sum, float32"]), HOLDS)],
    "tensorflow-intercepts-np-max": [
        (lambda e: e["given a tensor"].update({"np.max": "TensorFlow"}), HOLDS),
    ],
    "np-max-makes-a-graph": [(put(eager="SymbolicTensor"), HOLDS)],
    "numpy-on-tensors-differs": [(every("off", 0.0), REFUTED), (every("off", 0.1), HOLDS)],
    "mixing-raises-without-eager": [(every("calls", "returns float32"), REFUTED)],
    "tensorflow-computes-later": [(every("at_once", False), HOLDS), (every("at_once", True), REFUTED)],
    "conversion-costs-nothing": [(ways("bytes", [0]), HOLDS), (ways("bytes", [1]), REFUTED)],
    "numpy-gives-an-array": [(put(type="EagerTensor", of_sum="EagerTensor", alone=False), REFUTED)],
    "type-hints-change-nothing": [(put(same_code=False), REFUTED)],
    "numpy-code-takes-tensors": [
        (every("calls", "returns float32"), HOLDS), (every("calls", "raises TypeError"), REFUTED),
    ],
    "out-allocates-nothing": [(every("bytes", 0), HOLDS), (every("bytes", 4096), REFUTED)],
    "an-expression-makes-an-array-an-operation": [(every("bytes", 0), REFUTED), (every("bytes", 1 << 40), HOLDS)],
    "tensorflow-has-no-out": [(every("bytes", 4096), HOLDS)],
    "assign-saves-no-memory": [(ways("assigned", 1 << 40), HOLDS), (ways("assigned", 0), REFUTED)],
    "assign-makes-copies": [(ways("assigned", 1 << 40), HOLDS)],
    "assignments-never-write-in-place": [(every("kept", False), HOLDS), (every("kept", True), REFUTED)],
    "shared-variables-change-under-readers": [
        (put(held_unchanged=False), HOLDS), (put(later_changed=False), DEPENDS),
    ],
    "tensors-are-immutable": [(every("changed", False), HOLDS), (every("changed", True), REFUTED)],
    "graphs-allocate-fewer-temporaries": [(formulas(graph=1), HOLDS), (formulas(graph=3), REFUTED)],
    "while-loops-take-less-memory": [(peaks(50), HOLDS), (peaks(200), REFUTED)],
    "custom-operations-work-in-place": [(every("bytes", 0), HOLDS), (every("bytes", 4096), REFUTED)],
    "custom-operations-are-faster": [
        (seconds(own=0.5), HOLDS), (seconds(own=1.5), REFUTED), (noise, DEPENDS),
    ],
    "in-place-breaks-gradients": [(gradients("None"), HOLDS), (gradients("passes"), REFUTED)],
    "the-session-program-runs": [(put(as_written="runs"), HOLDS)],
    "the-functional-way-takes-more-memory": [(every("functional", 0), REFUTED)],
    "graphs-are-never-slower": [
        (seconds(graph=0.5), HOLDS), (seconds(graph=2.0), REFUTED), (noise, DEPENDS),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Judged]:
    """Every claim, looked into."""
    return {one.claim.id: one for one in check_claims(list(CLAIMS.values()))}


def test_every_claim_has_a_verdict_with_numbers(found: dict[str, Judged]) -> None:
    without = {name: one.because for name, one in found.items() if one.verdict is None}
    assert not without
    assert len(found) >= 30
    for one in found.values():
        assert one.evidence, one.claim.id
        assert "\n" not in one.because
        json.dumps(one.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_verdict_turns_with_the_evidence(name: str, found: dict[str, Judged]) -> None:
    one = found[name]
    verdicts = {one.verdict}
    for turn, expected in TURNED[name]:
        evidence = copy.deepcopy(dict(one.evidence))
        turn(evidence)
        turned = judged(one.claim, evidence)
        assert turned.verdict == expected, turned.because
        verdicts.add(turned.verdict)
    assert len(verdicts) > 1


#: The claims of TensorFlow that are judged by bytes and requests.
COUNTED = (
    "conversion-costs-nothing", "tensorflow-has-no-out", "assign-saves-no-memory", "assign-makes-copies",
    "shared-variables-change-under-readers", "graphs-allocate-fewer-temporaries", "while-loops-take-less-memory",
    "custom-operations-work-in-place", "the-functional-way-takes-more-memory",
)  # fmt: skip


def test_allocations_are_judged_alike_with_and_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With oneDNN TensorFlow's profiler sees what memray sees without it."""
    found = {}
    for setting in ("0", "1"):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
        found[setting] = {one.claim.id: one for one in check_claims([CLAIMS[name] for name in COUNTED])}
    for name in COUNTED:
        without, with_it = found["0"][name], found["1"][name]
        assert without.verdict is not None, without.because
        assert without.verdict == with_it.verdict, (without.because, with_it.because)
        # One copy or two, by where NumPy's lies in the heap; and a peak that is up to the threads' schedule.
        if name not in ("conversion-costs-nothing", "while-loops-take-less-memory"):
            assert without.evidence == with_it.evidence, name


def test_where_memory_cannot_be_seen_there_is_no_verdict(command: Command, tmp_path: Path) -> None:
    """Without memray what needs a count has the reason instead of a verdict, and what does not is judged."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['memray'] = None\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = command("claims", "out-allocates-nothing", "type-hints-*", env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "no verdict  np.add(a, b, out=c) allocates nothing.\n  memray is not installed" in done.stdout
    assert "holds  Type hints" in done.stdout


def test_nothing_seen_is_no_verdict() -> None:
    with pytest.raises(NoEvidence, match="every call raised"):
        judged(CLAIMS["tensors-are-left-as-they-were"], {"calls": [{"module": "vgg16", "raised": "TypeError"}]})


def test_what_was_known_before_is_found(found: dict[str, Judged]) -> None:
    """The verdicts that do not depend on a machine's speed or a library's version, as far as these are pinned."""
    expected = {
        REFUTED: (
            "the-function-of-vgg16-is-wrong-for-resnet50", "there-is-no-central-function", "tensorflow-has-no-out",
            "slice-assignment-takes-no-memory", "unequal-means-unchanged", "importing-tensorflow-changes-numpy",
            "tensorflow-intercepts-np-max", "np-max-makes-a-graph", "the-session-program-runs", "assign-makes-copies",
            "shared-variables-change-under-readers", "inplace-returns-another-array", "py-function-has-no-seam",
        ),
        HOLDS: (
            "tensors-are-left-as-they-were", "the-custom-function-gives-minus-one-to-one", "type-hints-change-nothing",
            "mixing-raises-without-eager", "numpy-gives-an-array", "layers-do-what-a-function-does",
        ),
        DEPENDS: (
            "arrays-are-left-as-they-were", "the-result-is-a-new-array", "inplace-gives-the-same",
            "assign-saves-no-memory", "an-expression-makes-an-array-an-operation", "conversion-costs-nothing",
            "every-function-does-something", "while-loops-take-less-memory", "custom-operations-work-in-place",
        ),
    }  # fmt: skip
    for verdict, names in expected.items():
        for name in names:
            assert found[name].verdict == verdict, (name, found[name].because)


def test_the_ledger() -> None:
    assert set(TURNED) == set(CLAIMS)
    assert {claim.document for claim in CLAIMS.values()} == set(DOCUMENTS)
    for claim in CLAIMS.values():
        assert len(claim.reproduce.splitlines()) <= 5, claim.id
        compile(claim.reproduce, claim.id, "exec")


#: What a line of a snippet says that it prints, where that is nothing but numbers and truths.
PLAIN = re.compile(r"[\[\](),.\s\d−+e-]*|(True|False)(,? (True|False))*")


def test_the_snippets_show_what_they_say() -> None:
    """Each is run in a fork of one process that has imported the libraries, and prints what its comments say."""
    snippets = {c.id: c.reproduce for c in CLAIMS.values() if "subprocess" not in c.reproduce}
    program = """
import contextlib, io, json, os, sys
import numpy, tensorflow, keras.applications
for name, snippet in json.load(sys.stdin).items():
    read, write = os.pipe()
    if not os.fork():
        said, raised = io.StringIO(), None
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(snippet, name, "exec"), {})
            except Exception as error:
                raised = type(error).__name__
        os.write(write, json.dumps([name, said.getvalue(), raised]).encode())
        os._exit(0)
    os.close(write)
    print(os.read(read, 65536).decode())
    os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(snippets), capture_output=True, text=True, timeout=300,
        env=import_context.child_environment(), check=True,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [name for name, *_ in results] == list(snippets)
    for name, said, raised in results:
        comments = [line.split("  # ") for line in snippets[name].splitlines() if "  # " in line]
        errors = [comment for _, comment in comments if comment.endswith("Error")]
        assert raised == (errors[0] if errors else None), (name, raised)
        said_to_print = [comment for line, comment in comments if "print(" in line]
        for comment, line in zip(said_to_print, said.splitlines(), strict=False):
            expected = comment.partition(":")[0]
            if PLAIN.fullmatch(expected):
                assert "".join(line.split()) == "".join(expected.split()), name


def test_the_command_says_it_all(command: Command, tmp_path: Path) -> None:
    done = command("claims", "slice-*", "type-hints-change-nothing", "--json", "claims.json")
    assert done.returncode == 0, done.stderr
    assert "refuted  image[:] = image / 255.0 works in place and takes no memory." in done.stdout
    assert "2 claims: 1 refuted, 1 holds" in done.stdout
    document = json.loads((tmp_path / "claims.json").read_text())
    assert document["schema"] == 1
    (one, _) = document["claims"]
    assert list(one) == ["id", "document", "claim", "verdict", "because", "evidence", "reproduce"]
    assert one["evidence"]["slice"] == one["evidence"]["image"]
    done = command("report", "claims.json", "--html", "page")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "folklore.html").read_text()
    assert "image[:] = image / 255.0 works in place" in page
    assert one["because"] in page.replace("&#34;", '"')


def test_words_that_name_no_claim(command: Command) -> None:
    done = command("claims", "slice")
    assert done.returncode == 2
    assert done.stderr == "Error: unknown claim 'slice'; did you mean slice-assignment-takes-no-memory?\n"


def test_the_list_looks_into_nothing(command: Command) -> None:
    done = command("claims", "--list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(CLAIMS)


def test_where_a_library_is_missing_there_is_no_verdict(command: Command, tmp_path: Path) -> None:
    """A module of TensorFlow's name that cannot be found: what needs it says so, and what does not is judged."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name in ('tensorflow', 'keras') else find(name, *more)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = command("claims", "tensors-are-immutable", "type-hints-*", env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "no verdict  Tensors are immutable.\n  tensorflow is not installed: pip install" in done.stdout
    assert "holds  Type hints" in done.stdout


def test_asv_has_a_series_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    from copycost.asv.claims import Claims

    assert Claims.params == [list(CLAIMS)]
    session = {"a": ["holds", ""], "b": ["depends", ""], "c": ["refuted", ""], "d": [None, "no compiler"]}
    assert [Claims().track_verdict(session, name) for name in "abc"] == [1.0, 0.5, 0.0]
    assert all(math.isnan(Claims().track_verdict(session, name)) for name in "de")
    assert capsys.readouterr().err == "n/a: no compiler\nn/a: this commit does not have this claim\n"


def test_asv_imports_no_framework_for_it() -> None:
    """It imports every benchmark in every process."""
    heavy = ("tensorflow", "keras", "cupy", "torch", "jax", "pandas", "matplotlib", "memray")
    code = f"import sys, benchmarks.claims; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
