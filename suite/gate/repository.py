"""Two commits of a git repository, each in a folder of its own, with what it needs to be imported."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from suite.registry import Place

#: Sources that are of no use before they are compiled.
_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".cu", ".pyx", ".pxd", ".f", ".f90", ".rs", ".go"}

#: What a process of the engine imports, beside the runtime that it measures.
_ENGINE_NEEDS = ("numpy", "memray")


class RepositoryError(ValueError):
    """A repository of which two commits cannot be measured; the message is one line."""


@dataclass(frozen=True)
class Commit:
    """A commit that is checked out.

    Attributes
    ----------
    name : {"base", "head"}
    commit : str
        Its hash; of head with uncommitted changes, that of the commit they are made to.
    title : str
        Short hash and subject.
    changed : bool
        Whether uncommitted changes are part of it.
    place : Place
    """

    name: str
    commit: str
    title: str
    changed: bool
    place: Place


def root(folder: Path) -> Path:
    """The repository that a folder is in.

    Raises
    ------
    RepositoryError
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel", failure=f"{folder.absolute()} is not in a git repository"))


def same_tree(repository: Path, ref: str) -> bool:
    """Whether head, uncommitted changes included, holds the very files of a commit."""
    head, _ = _head(repository)
    return _tree(repository, _resolve(repository, ref)) == _tree(repository, head)


def untracked(repository: Path) -> list[str]:
    """Python files that git does not know, and that are therefore part of no commit."""
    return _git(repository, "ls-files", "--others", "--exclude-standard", "--", "*.py").splitlines()


@contextmanager
def checked_out(repository: Path, ref: str) -> Iterator[tuple[Commit, Commit]]:
    """Base and head of a repository as work trees that last as long as the body.

    Head is what is checked out, with the changes to files that git knows.

    Raises
    ------
    RepositoryError
        If there is no such commit, or what a commit needs cannot be built or installed.
    """
    base = _resolve(repository, ref)
    head, changed = _head(repository)
    # Names of one length: what depends on the length of a path is the same on both sides.
    folder = Path(tempfile.mkdtemp(prefix="copycost-gate-"))
    trees = {"base": base, "head": head}
    try:
        for name, commit in trees.items():
            _git(repository, "worktree", "add", "--detach", "--force", str(folder / name), commit)
        python = _interpreter(folder / "base", folder / "head")
        with ThreadPoolExecutor(2) as pool:
            paths = dict(zip(trees, pool.map(lambda name: _path(repository, folder / name), trees), strict=True))
        engine = None
        if python != sys.executable:  # it is to have this package, and not what lies beside it
            engine = str(folder / "engine")
            shutil.copytree(Path(__file__).parent.parent, folder / "engine" / "suite")
        at = Place(str(folder / "base"), paths["base"], python, engine)
        yield (
            Commit("base", base, _title(repository, base), False, at),
            Commit(
                "head",
                _resolve(repository, "HEAD"),
                _title(repository, "HEAD"),
                changed,
                Place(str(folder / "head"), paths["head"], sys.executable),
            ),
        )
    finally:
        for name in trees:
            with contextlib.suppress(RepositoryError):  # it was not made
                _git(repository, "worktree", "remove", "--force", str(folder / name))
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(RepositoryError):
            _git(repository, "worktree", "prune")


def _resolve(repository: Path, ref: str) -> str:
    shallow = (repository / ".git" / "shallow").exists()
    hint = ", and this clone is shallow: git fetch --unshallow, or fetch-depth: 0 in CI" if shallow else ""
    return _git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", failure=f"no commit '{ref}'{hint}")


def _head(repository: Path) -> tuple[str, bool]:
    """A commit of what is checked out, and whether there were changes to make it of; no branch is touched."""
    identity = ("-c", "user.name=copycost", "-c", "user.email=copycost@localhost")
    stash = _git(repository, *identity, "stash", "create")
    return stash or _resolve(repository, "HEAD"), bool(stash)


def _tree(repository: Path, commit: str) -> str:
    return _git(repository, "rev-parse", f"{commit}^{{tree}}")


def _title(repository: Path, commit: str) -> str:
    return _git(repository, "log", "-1", "--format=%h %s", commit)


def _git(folder: Path, *arguments: str, failure: str | None = None) -> str:
    """What git prints; RepositoryError where it fails, with its last line or `failure`."""
    # What a hook's environment says of the repository is not about this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise RepositoryError("git is not installed") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RepositoryError(failure or f"git {arguments[0]}: {said[-1] if said else 'failed'}")
    return done.stdout.strip()


def _path(repository: Path, folder: Path) -> tuple[str, ...]:
    """What to put on ``sys.path`` so that a commit's packages are imported: its own folders, or what is built of it."""
    if not _needs_building(folder):
        return tuple(str(part) for part in (folder / "src", folder) if part.is_dir())
    tree = _git(folder, "rev-parse", "HEAD^{tree}")
    built = cache() / "builds" / f"{tree[:16]}-{sys.implementation.cache_tag}"
    if not built.is_dir():
        built.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=built.parent))
        try:
            _pip(sys.executable, f"building {folder.name}", "--no-deps", "--target", str(part), str(folder))
            with contextlib.suppress(OSError):  # another gate has been faster
                part.rename(built)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return (str(built),)


def _needs_building(folder: Path) -> bool:
    """Whether a project's packages are there only after a build: compiled sources, or a version made by it."""
    if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return False
    if "version" in _table(folder, "project").get("dynamic", ()):
        return True
    return any(Path(name).suffix in _COMPILED for name in _git(folder, "ls-files").splitlines())


def _interpreter(base: Path, head: Path) -> str:
    """The interpreter for base: this one where it needs what head needs, else that of an environment of its own."""
    needs = _dependencies(base)
    if needs == _dependencies(head):
        return sys.executable
    wanted = [need for need in metadata.requires("copycost") or () if need.startswith(_ENGINE_NEEDS)]
    told = json.dumps([needs, sorted(wanted), platform.python_version(), sys.prefix], sort_keys=True)
    made = cache() / "environments" / hashlib.sha256(told.encode()).hexdigest()[:16]
    python = made / "bin" / "python"
    if not (made / "complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, "-m", "venv", str(made)], capture_output=True, text=True)
        if done.returncode:
            raise RepositoryError(f"an environment for base: {_last(done)}")
        files = [word for name in sorted(base.glob("requirements*.txt")) for word in ("-r", str(name))]
        project = [str(base)] if any((base / name).is_file() for name in ("pyproject.toml", "setup.py")) else []
        _pip(str(python), "an environment for base", *project, *files, *wanted)
        (made / "complete").touch()
    return str(python)


def _dependencies(folder: Path) -> dict[str, Any]:
    """Everything that says what a project needs to run."""
    project = _table(folder, "project")
    found: dict[str, Any] = {name: project.get(name) for name in ("dependencies", "optional-dependencies")}
    setup = configparser.ConfigParser()
    with contextlib.suppress(configparser.Error, OSError):
        setup.read(folder / "setup.cfg")
    found["setup.cfg"] = setup.get("options", "install_requires", fallback=None)
    for path in [*sorted(folder.glob("requirements*.txt")), folder / "setup.py"]:
        if path.is_file():
            found[path.name] = path.read_text(errors="replace")
    return found


def _table(folder: Path, name: str) -> Mapping[str, Any]:
    """A table of pyproject.toml, empty where there is none."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text()).get(name, {})
    except (OSError, ValueError):
        return {}


def cache() -> Path:
    """Where builds and environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "copycost"


def _pip(python: str, what: str, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RepositoryError(f"{what}: {_last(done)}")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says what went wrong."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["failed"])[0].strip()
