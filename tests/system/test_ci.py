"""What a runner does: the workflows as GitHub will read them, and their shell steps, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from copycost.results import load

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def steps(of: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in of["jobs"].values() for step in job["steps"]]


def trigger(of: dict[str, Any]) -> Any:
    return of[True]  # YAML 1.1 takes "on" for true


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_more_rights_than_it_needs(path: Path) -> None:
    its = workflow(path.stem)
    writes = {
        right
        for given in (its.get("permissions", {}), *(job.get("permissions", {}) for job in its["jobs"].values()))
        for right, level in given.items()
        if level == "write"
    }
    assert "permissions" in its
    assert writes <= {"nightly": {"contents", "pages", "id-token"}, "comment": {"pull-requests"}}.get(path.stem, set())
    for step in steps(its):
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        # What a stranger chooses is given by the environment, and never becomes a part of a script.
        assert "${{" not in step.get("run", "")
    for job in its["jobs"].values():
        assert job["timeout-minutes"] <= 120


def test_strangers_code_never_meets_a_right() -> None:
    """Nothing runs on `pull_request_target`, and what may write checks nothing out."""
    for path in WORKFLOWS:
        assert "pull_request_target" not in trigger(workflow(path.stem))
    assert not [step for step in steps(workflow("comment")) if "checkout" in step.get("uses", "")]
    gpu = workflow("gpu")
    assert trigger(gpu) == {"pull_request": {"types": ["labeled"]}}
    measured = gpu["jobs"]["measure"]
    assert "self-hosted" in measured["runs-on"]
    assert measured["needs"] == "wheels"
    assert not [step for step in measured["steps"] if "checkout" in step.get("uses", "")]
    (docker,) = [step["run"] for step in measured["steps"] if "docker run" in step.get("run", "")]
    assert "--network none" in docker
    assert "--cap-drop ALL" in docker


def test_the_scripts_are_whole() -> None:
    for script in (ROOT / ".ci").iterdir():
        subprocess.run(["bash", "-n", script], check=True)


COMMENTS = """#!/usr/bin/env python3
# As gh does it, with what it was told in a file.
import json, os, sys
words = sys.argv[1:]
with open(os.environ["SAID"], "a") as said:
    said.write(json.dumps(words) + "\\n")
if words[:2] == ["run", "download"]:
    os.makedirs("out")
    for name in ("number", "comment.md"):
        with open(f"out/{name}", "w") as file:
            file.write(os.environ[name.partition(".")[0].upper()])
elif "--jq" in words and words[1].endswith(("pulls/7", "pulls/8")):
    print({"7": "abc", "8": "def"}[words[1][-1]])
elif "--paginate" in words:
    print(os.environ.get("EARLIER", ""))
"""


@pytest.mark.parametrize(
    ("number", "earlier", "status", "method"),
    [
        ("7", "", 0, "POST"),
        ("7", "31", 0, "PATCH"),
        ("8", "", 1, None),
        ("7; rm -rf /", "", 1, None),
        ("", "", 1, None),
    ],
)
def test_the_comment(tmp_path: Path, number: str, earlier: str, status: int, method: str | None) -> None:
    """A comment is written once, and then over; and only to the pull request that the run was of."""
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(COMMENTS.replace("\\\\n", "\\n"))
    gh.chmod(0o755)
    (script,) = [step["run"] for step in steps(workflow("comment"))]
    environment = {
        "PATH": f"{gh.parent}:{os.environ['PATH']}", "SAID": str(tmp_path / "said"), "NUMBER": number,
        "COMMENT": "slower", "EARLIER": earlier, "REPOSITORY": "a/b", "COMMIT": "abc", "RUN": "1", "WHAT": "gpu",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    said = (tmp_path / "said").read_text()
    assert ("--method" in said) == (method is not None)
    if method:
        assert f'"{method}"' in said
        assert (tmp_path / "body.md").read_text() == "<!-- copycost: gpu -->\nslower"


def test_a_runner_without_a_gpu_says_so(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nexit 0\n")
    smi.chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "gpu", tmp_path, tmp_path],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "no GPU here: nvidia-smi -L lists none\n")


#: Of a variant that divides into a buffer.
INTO = "    def into(x, out):\n        np.divide(x, scale, out=out)\n"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def two_commits(tree: Path, changed: str) -> tuple[str, dict[str, str]]:
    """This repository in a folder, with `INTO` changed by its newest commit; give the one before, and an environment.

    The processes of that environment see the libraries that are here, and pip fetches none.
    """
    left = (".git", ".venv*", ".asv", "build", "*.egg-info", "reports", "tests", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left))

    def git(*words: str) -> str:
        command = ["git", "-C", str(tree), "-c", "user.name=x", "-c", "user.email=x@x", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "base")
    base = git("rev-parse", "HEAD")
    numpy = tree / "suite" / "copycost" / "variants" / "numpy.py"
    text = numpy.read_text()
    assert INTO in text
    numpy.write_text(text.replace(INTO, changed, 1))
    git("commit", "--quiet", "--all", "--message", "head")
    libraries = sysconfig.get_paths()["purelib"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return base, os.environ | {"EXTRAS": "", "PYTHONPATH": libraries, "PIP_NO_DEPS": "1", "PATH": path}


@needs_git
def test_compare_of_a_commit_that_copies_its_input_is_worse(tmp_path: Path) -> None:
    """The step of the exact comparison."""
    tree = tmp_path / "tree"
    base, environment = two_commits(tree, INTO.replace("divide(x,", "divide(x.copy(),"))
    (step,) = [step["run"] for step in steps(workflow("exact")) if ".ci/compare" in step.get("run", "")]
    few = "--recipe tf --variant 'numpy-*' --batch 2 --dtype float32"
    done = subprocess.run(
        ["bash", "-e", "-c", f"{step} {few}"],
        cwd=tree, env=environment | {"BASE": base}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    comment = (tree / "out" / "comment.md").read_text()
    assert "numpy-out" in comment
    assert "worse" in comment
    # It asks no clock, whatever it is told.
    for side in ("base", "head"):
        _, measured = load.load(tree / "out" / side)
        assert {m.seconds for m in measured} == {None}


@needs_git
def test_measure_of_a_slower_commit_is_one_session_of_pairs(tmp_path: Path) -> None:
    """What the GPU runner measures, here on a CPU: head waits for 0.2 ms in a call of microseconds."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    base, environment = two_commits(tree, f"{INTO}        __import__('time').sleep(0.0002)\n")
    subprocess.run(["bash", ".ci/wheels", base, tmp_path / "wheels"], cwd=tree, env=environment, check=True)
    subprocess.run([sys.executable, "-m", "venv", out / "head-environment"], check=True)
    wheels = sorted((tmp_path / "wheels" / "head").glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["copycost", "copycost_meter"]
    pip = [out / "head-environment" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *wheels], env=environment, check=True)
    few = ["--device", "cpu", "--recipe", "tf", "--variant", "numpy-out", "--variant", "numpy-copy"]
    done = subprocess.run(
        ["bash", tree / ".ci" / "measure", tmp_path / "wheels", out, *few, "--batch", "1", "--size", "32x24",
         "--dtype", "float32", "--budget", "400", "--tolerance", "50"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    comment = (out / "comment.md").read_text()
    assert re.search(r"\| numpy-out \|.*\*\*slower\*\*", comment), comment
    assert not re.search(r"\| numpy-copy \|.*slower", comment)
    assert "The sides were measured in interleaved samples." in comment
    (one, before), (other, after) = (load.load(out / side) for side in ("base", "head"))
    assert one["session"] == other["session"]
    assert one["commit"] != other["commit"]
    for m, same in zip(before, after, strict=True):
        assert (m.recipe, m.variant) == (same.recipe, same.variant)
        assert [len(block) for block in m.samples or []] == [len(block) for block in same.samples or []]
