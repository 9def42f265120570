"""Two commits of a git repository, each in a folder of its own, with what it needs to be imported."""

from __future__ import annotations

import ast
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from copycost.catalog import import_context
from copycost.catalog.import_context import ImportContext
from copycost.machine.cache import cache

#: Sources that are of no use before they are compiled.
_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".cu", ".pyx", ".pxd", ".f", ".f90", ".rs", ".go"}

#: Builds that are kept, the newest ones.
_BUILDS = 50

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
    place : ImportContext
    """

    name: str
    commit: str
    title: str
    changed: bool
    place: ImportContext


def root(folder: Path) -> Path:
    """The repository that a folder is in.

    Raises
    ------
    RepositoryError
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel", failure=f"{folder.absolute()} is no git repository"))


def same_tree(repository: Path, ref: str) -> bool:
    """Whether head, uncommitted changes included, holds the very files of a commit."""
    head, _ = _head(repository)
    return _tree(repository, _resolve(repository, ref)) == _tree(repository, head)


def ships_variants(folder: Path) -> bool:
    """Whether a folder is the root of copycost's own repository, whose variants are a part of the package."""
    return _table(folder, "project").get("name") == "copycost" and (folder / _PACKAGE_FOLDER / "variants").is_dir()


def same_shipped(repository: Path, ref: str) -> bool:
    """Whether head, uncommitted changes included, ships the very recipes and variants of a commit."""
    names = [name.partition(".")[2].replace(".", "/") for name in import_context.SHIPPED]
    paths = [f"{_PACKAGE_FOLDER}/{name}{end}" for name in names for end in ("", ".py")]
    head, _ = _head(repository)
    return not _git(repository, "diff", "--name-only", _resolve(repository, ref), head, "--", *paths)


def untracked(repository: Path, but: Sequence[Path]) -> list[str]:
    """Python files that git does not know, and that are therefore part of no commit, but for those that are given."""
    names = _git(repository, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py").split("\0")
    return [name for name in names if name and (repository / name).resolve() not in but]


@contextmanager
def checked_out(repository: Path, ref: str) -> Iterator[tuple[Commit, Commit]]:
    """Base and head of a repository as work trees that last as long as the body.

    Head is what is checked out, with the changes to files that git knows.

    Raises
    ------
    RepositoryError
        If there is no such commit, or what a commit needs cannot be built or installed, or only head is of copycost.
    """
    base = _resolve(repository, ref)
    head, changed = _head(repository)
    _clear(repository)
    # Names of one length: what depends on the length of a path is the same on both sides.
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-")).resolve()
    trees = {"base": base, "head": head}
    try:
        for name, commit in trees.items():
            # Hooks are for what the user checks out.
            quiet = ("-c", "core.hooksPath=/dev/null")
            _git(repository, *quiet, "worktree", "add", "--detach", "--force", str(folder / name), commit)
            if (folder / name / ".gitmodules").exists():
                _git(folder / name, "submodule", "update", "--quiet", "--init", "--recursive")
        if ships_variants(folder / "head") and not ships_variants(folder / "base"):
            renamed = ": it is from before the package was renamed" if (folder / "base/suite/variants").is_dir() else ""
            raise RepositoryError(f"{ref} has no {_PACKAGE_FOLDER}/variants to compare with those of head{renamed}")
        python = _interpreter(folder / "base", folder / "head")
        with ThreadPoolExecutor(2) as pool:
            paths = dict(zip(trees, pool.map(lambda name: _path(folder / name), trees), strict=True))
        engine = None
        if python != sys.executable:  # it is to have this package, and not what lies beside it
            engine = str(folder / "engine")
            shutil.copytree(Path(__file__).parent.parent, folder / "engine" / _PACKAGE)
        names = {name: _names(folder / name) for name in trees}
        shipped = {
            name: str(folder / name / _PACKAGE_FOLDER) if ships_variants(folder / name) else None for name in trees
        }
        before = ImportContext(str(folder / "base"), paths["base"], names["base"], python, engine, shipped["base"])
        after = ImportContext(str(folder / "head"), paths["head"], names["head"], sys.executable, None, shipped["head"])
        yield (
            Commit("base", base, _title(repository, base), False, before),
            Commit("head", _resolve(repository, "HEAD"), _title(repository, "HEAD"), changed, after),
        )
    finally:
        _remove(repository, folder)


def _remove(repository: Path, folder: Path) -> None:
    """Remove both work trees, and what git has noted of them; locked ones too, as they are while git makes them."""
    for name in ("base", "head"):
        with contextlib.suppress(RepositoryError):  # it was not made
            _git(repository, "worktree", "remove", "--force", "--force", str(folder / name))
    shutil.rmtree(folder, ignore_errors=True)


def _clear(repository: Path) -> None:
    """Remove what gates have left of this repository that were killed."""
    for line in _git(repository, "worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if folder.name.startswith(_FOLDER) and not Path("/proc", process).exists():
            _remove(repository, folder)


#: Where a repository keeps packages that are not its own, or not to be imported.
_ASIDE = {
    "tests", "test", "testing", "docs", "doc", "examples", "vendor", "_vendor", "third_party", "external", "extern",
}  # fmt: skip

#: What the folder of a gate is called, before the number of its process.
_FOLDER = "copycost-gate-"

#: This package, and its folder in its own repository.
_PACKAGE, _PACKAGE_FOLDER = "copycost", "suite/copycost"


def _names(folder: Path) -> tuple[str, ...]:
    """The packages of a commit, wherever they are, and the modules in its root and in src/."""
    files = [Path(name) for name in _git(folder, "ls-files", "-z", "--", "*.py").split("\0") if name]
    packages = {path.parent for path in files if path.name == "__init__.py" and not _ASIDE & set(path.parts)}
    found = {path.name for path in packages if path.parent not in packages and path != Path()}
    found |= {path.stem for path in files if path.parent in (Path(), Path("src"))} - {"__init__"}
    # Both sides are measured by the engine that runs, and not by their own.
    return tuple(sorted(found - {_PACKAGE} if ships_variants(folder) else found))


def _resolve(repository: Path, ref: str) -> str:
    shallow = _git(repository, "rev-parse", "--is-shallow-repository") == "true"
    hint = ", and this clone is shallow: git fetch --unshallow, or fetch-depth: 0 in CI" if shallow else ""
    if _git(repository, "branch", "--remotes", "--list", f"origin/{ref}"):
        hint = f"; the clone has it as origin/{ref}"
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


#: What git tells its hooks of the repository that they run for, which need not be the one in question.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")


def _git(folder: Path, *arguments: str, failure: str | None = None) -> str:
    """What git prints; RepositoryError where it fails, with its last line, after `failure`."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            # A name of a file need not be UTF-8.
            capture_output=True, text=True, errors="surrogateescape", env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise RepositoryError("git is not installed") from None
    except (OSError, ValueError) as error:  # an argument that is too long, or has a null character
        raise RepositoryError(f"{failure or 'git'}: {error}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        named = next(word for word in arguments if word != "-c" and "=" not in word)
        told = " ".join(said) if said else "failed"
        raise RepositoryError(failure if failure and not said else f"{failure or f'git {named}'}: {told}")
    return done.stdout.strip()


def _path(folder: Path) -> tuple[str, ...]:
    """What to put on ``sys.path`` so that a commit's packages are imported: its own folders, or what is built of it."""
    if not _needs_building(folder):
        return tuple(str(part) for part in (folder / "src", folder) if part.is_dir())
    tree = _git(folder, "rev-parse", "HEAD^{tree}")
    built = cache() / "builds" / f"{tree[:16]}-{sys.implementation.cache_tag}"
    if not built.is_dir():
        built.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=built.parent))
        try:
            _pip(sys.executable, f"building {folder.name}", folder, "--no-deps", "--target", str(part), str(folder))
            with contextlib.suppress(OSError):  # another gate has been faster
                part.rename(built)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for old in sorted(built.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-_BUILDS]:
            shutil.rmtree(old, ignore_errors=True)
    return (str(built),)


def _needs_building(folder: Path) -> bool:
    """Whether a project's packages are there only after a build: compiled sources, or a version made by it."""
    if ships_variants(folder):
        return False
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
    try:
        wanted = [need for need in metadata.requires("copycost") or () if need.startswith(_ENGINE_NEEDS)]
    except metadata.PackageNotFoundError:  # it runs from where it is written
        wanted = list(_ENGINE_NEEDS)
    told = json.dumps([needs, sorted(wanted), platform.python_version(), sys.prefix], sort_keys=True)
    made = cache() / "environments" / hashlib.sha256(told.encode()).hexdigest()[:16]
    python = made / "bin" / "python"
    if not (made / "complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, "-m", "venv", str(made)], capture_output=True, text=True)
        if done.returncode:
            raise RepositoryError(f"an environment for base: {_last(done)}")
        files = ["-r", _REQUIREMENTS] if (base / _REQUIREMENTS).is_file() else []
        project = [str(base)] if any((base / name).is_file() for name in ("pyproject.toml", "setup.py")) else []
        _pip(str(python), "an environment for base", base, *project, *files, *wanted)
        (made / "complete").touch()
    return str(python)


def _dependencies(folder: Path) -> dict[str, Any]:
    """What says what a project needs to run, as pip and most projects have it; what is for developers does not."""
    found: dict[str, Any] = {"pyproject.toml": _table(folder, "project").get("dependencies")}
    setup = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        setup.read(folder / "setup.cfg")
    found["setup.cfg"] = setup.get("options", "install_requires", fallback=None)
    with contextlib.suppress(OSError):
        found[_REQUIREMENTS] = (folder / _REQUIREMENTS).read_text(errors="replace")
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse((folder / "setup.py").read_text())):
            if isinstance(node, ast.keyword) and node.arg == "install_requires":
                found["setup.py"] = ast.unparse(node.value)
    return found


#: Beside pyproject.toml, setup.cfg and setup.py, the one file of which it is agreed what it is for.
_REQUIREMENTS = "requirements.txt"


def libraries(commit: Commit) -> dict[str, str]:
    """The libraries of a commit's interpreter."""
    done = subprocess.run(
        [commit.place.python, "-c", "import json, copycost.machine.environment as e; print(json.dumps(e.versions()))"],
        capture_output=True, text=True, env=import_context.child_environment(commit.place), cwd=commit.place.folder,
    )  # fmt: skip
    return json.loads(done.stdout)


def _table(folder: Path, name: str) -> Mapping[str, Any]:
    """A table of pyproject.toml, empty where there is none."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text()).get(name, {})
    except (OSError, ValueError):
        return {}


def _pip(python: str, what: str, folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RepositoryError(f"{what}: {_last(done)}")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says what went wrong."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["failed"])[0].strip()
