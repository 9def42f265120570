"""Check out two commits of a git repository into separate folders and prepare them for import."""

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

import copycost_meter
from copycost.catalog import import_context
from copycost.catalog.import_context import ImportContext
from copycost.machine.cache import cache

#: Suffixes of source files that must be compiled before use.
_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".cu", ".pyx", ".pxd", ".f", ".f90", ".rs", ".go"}

#: Number of builds to keep in the cache, newest first.
_BUILDS = 50

#: Packages that the engine's worker processes import in addition to the measured runtime.
_ENGINE_NEEDS = ("numpy", "memray")


class RepositoryError(ValueError):
    """Error raised if two commits of a repository cannot be measured; the message is one line."""


@dataclass(frozen=True)
class Commit:
    """A checked-out commit.

    Attributes
    ----------
    name : {"base", "head"}
    commit : str
        Full hash. If head has uncommitted changes, the hash of the commit that they modify.
    title : str
        Short hash and subject.
    changed : bool
        Whether the checked-out files include uncommitted changes.
    place : ImportContext
    """

    name: str
    commit: str
    title: str
    changed: bool
    place: ImportContext


def root(folder: Path) -> Path:
    """Return the root of the repository that contains a folder.

    Raises
    ------
    RepositoryError
    """
    return Path(git(folder, "rev-parse", "--show-toplevel", failure=f"{folder.absolute()} is not a git repository"))


def same_tree(repository: Path, ref: str) -> bool:
    """Return whether head, including uncommitted changes, has exactly the files of a commit."""
    head, _ = _head(repository)
    return _tree(repository, resolve(repository, ref)) == _tree(repository, head)


def ships_variants(folder: Path) -> bool:
    """Return whether a folder is the root of copycost's own repository, whose package contains the variants."""
    return _table(folder, "project").get("name") == "copycost" and (folder / _PACKAGE_FOLDER / "variants").is_dir()


def same_shipped(repository: Path, ref: str) -> bool:
    """Return whether head, including uncommitted changes, ships exactly the recipes and variants of a commit."""
    names = [name.partition(".")[2].replace(".", "/") for name in import_context.SHIPPED]
    paths = [f"{_PACKAGE_FOLDER}/{name}{end}" for name in names for end in ("", ".py")]
    head, _ = _head(repository)
    return not git(repository, "diff", "--name-only", resolve(repository, ref), head, "--", *paths)


def untracked(repository: Path, but: Sequence[Path]) -> list[str]:
    """Return the untracked Python files, which belong to no commit, except the files in `but`."""
    names = git(repository, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py").split("\0")
    return [name for name in names if name and (repository / name).resolve() not in but]


@contextmanager
def checked_out(repository: Path, ref: str) -> Iterator[tuple[Commit, Commit]]:
    """Create work trees of base and head that are removed when the context exits.

    Head is the current checkout, including uncommitted changes to tracked files.

    Raises
    ------
    RepositoryError
        If the commit does not exist, if a commit's packages or dependencies cannot be built or installed, or if head
        ships copycost's variants and base does not.
    """
    base = resolve(repository, ref)
    head, changed = _head(repository)
    # The names "base" and "head" are equally long, so that effects of path length are the same on both sides.
    folder = new_folder(repository)
    trees = {"base": base, "head": head}
    try:
        for name, commit in trees.items():
            # Disable hooks: they are meant for the user's own checkouts.
            quiet = ("-c", "core.hooksPath=/dev/null")
            git(repository, *quiet, "worktree", "add", "--detach", "--force", str(folder / name), commit)
            if (folder / name / ".gitmodules").exists():
                git(folder / name, "submodule", "update", "--quiet", "--init", "--recursive")
        if ships_variants(folder / "head") and not ships_variants(folder / "base"):
            renamed = ": it is from before the package was renamed" if (folder / "base/suite/variants").is_dir() else ""
            raise RepositoryError(f"{ref} has no {_PACKAGE_FOLDER}/variants to compare with those of head{renamed}")
        if ships_variants(folder / "base") and (folder / "base" / _OWN_METER).exists():
            raise RepositoryError(
                f"{ref} is from before copycost_meter: its runtimes need modules that have moved there"
            )
        python = _interpreter(folder / "base", folder / "head")
        with ThreadPoolExecutor(2) as pool:
            paths = dict(zip(trees, pool.map(lambda name: import_path(folder / name), trees), strict=True))
        engine = None
        if python != sys.executable:  # base's interpreter must find this package, but not the packages next to it
            engine = str(folder / "engine")
            for package in (copycost_meter, sys.modules[_PACKAGE]):
                shutil.copytree(Path(str(package.__file__)).parent, folder / "engine" / package.__name__)
        names = {name: _names(folder / name) for name in trees}
        shipped = {
            name: str(folder / name / _PACKAGE_FOLDER) if ships_variants(folder / name) else None for name in trees
        }
        before = ImportContext(str(folder / "base"), paths["base"], names["base"], python, engine, shipped["base"])
        after = ImportContext(str(folder / "head"), paths["head"], names["head"], sys.executable, None, shipped["head"])
        yield (
            Commit("base", base, title(repository, base), False, before),
            Commit("head", resolve(repository, "HEAD"), title(repository, "HEAD"), changed, after),
        )
    finally:
        remove_folder(repository, folder)


def new_folder(repository: Path) -> Path:
    """Return a new folder for work trees of a repository, after those are removed that killed processes have left."""
    for tree in _trees(repository):
        process = tree.parent.name.removeprefix(_FOLDER).partition("-")[0]
        if tree.parent.name.startswith(_FOLDER) and not Path("/proc", process).exists():
            remove_folder(repository, tree.parent)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-")).resolve()


def remove_folder(repository: Path, folder: Path) -> None:
    """Remove a folder, its work trees and git's records of them, even if locked (git locks what it creates)."""
    for tree in _trees(repository):
        if tree.parent == folder:
            with contextlib.suppress(RepositoryError):  # git has begun to create it
                git(repository, "worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(folder, ignore_errors=True)


def _trees(repository: Path) -> list[Path]:
    lines = git(repository, "worktree", "list", "--porcelain").splitlines()
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]


#: Folders of packages that are third-party or not meant for import.
_ASIDE = {
    "tests", "test", "testing", "docs", "doc", "examples", "vendor", "_vendor", "third_party", "external", "extern",
}  # fmt: skip

#: Prefix of a temporary folder with work trees; the process id follows.
_FOLDER = "copycost-trees-"

#: Name of this package, and its folder in its own repository.
_PACKAGE, _PACKAGE_FOLDER = "copycost", "suite/copycost"

#: Packages of copycost's repository, which the engine has imported already.
_OWN_PACKAGES = {_PACKAGE, "copycost_meter", "asv_bench_copycost"}

#: A file that only commits of copycost have whose runtimes do not use `copycost_meter`.
_OWN_METER = f"{_PACKAGE_FOLDER}/model/allocation.py"


def _names(folder: Path) -> tuple[str, ...]:
    """Return the names of a commit's packages in any folder, and of the modules in its root and in src/."""
    files = [Path(name) for name in git(folder, "ls-files", "-z", "--", "*.py").split("\0") if name]
    packages = {path.parent for path in files if path.name == "__init__.py" and not _ASIDE & set(path.parts)}
    names = {path.name for path in packages if path.parent not in packages and path != Path()}
    names |= {path.stem for path in files if path.parent in (Path(), Path("src"))} - {"__init__"}
    # The running engine measures both sides, not the engine of either commit.
    return tuple(sorted(names - _OWN_PACKAGES if ships_variants(folder) else names))


def resolve(repository: Path, ref: str) -> str:
    """Return the full hash of a revision, or raise RepositoryError."""
    shallow = git(repository, "rev-parse", "--is-shallow-repository") == "true"
    hint = ", and this clone is shallow: git fetch --unshallow, or fetch-depth: 0 in CI" if shallow else ""
    if git(repository, "branch", "--remotes", "--list", f"origin/{ref}"):
        hint = f"; the clone has it as origin/{ref}"
    return git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", failure=f"no commit '{ref}'{hint}")


def _head(repository: Path) -> tuple[str, bool]:
    """Return a commit of the current checkout and whether it has uncommitted changes, without touching a branch."""
    identity = ("-c", "user.name=copycost", "-c", "user.email=copycost@localhost")
    stash = git(repository, *identity, "stash", "create")
    return stash or resolve(repository, "HEAD"), bool(stash)


def _tree(repository: Path, commit: str) -> str:
    return git(repository, "rev-parse", f"{commit}^{{tree}}")


def title(repository: Path, commit: str) -> str:
    """Return the short hash and the subject of a commit."""
    return git(repository, "log", "-1", "--format=%h %s", commit)


#: Variables that git sets for its hooks. They name the hook's repository, which may differ from the one to measure.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")


def git(folder: Path, *arguments: str, failure: str | None = None) -> str:
    """Run git and return its output, or raise RepositoryError with `failure` followed by git's error output."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            # File names may not be valid UTF-8.
            capture_output=True, text=True, errors="surrogateescape", env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise RepositoryError("git is not installed") from None
    except (OSError, ValueError) as error:  # an argument is too long or contains a null character
        raise RepositoryError(f"{failure or 'git'}: {error}") from None
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        command = next(word for word in arguments if word != "-c" and "=" not in word)
        message = " ".join(lines) if lines else "failed"
        raise RepositoryError(failure if failure and not lines else f"{failure or f'git {command}'}: {message}")
    return process.stdout.strip()


def import_path(folder: Path) -> tuple[str, ...]:
    """Return the ``sys.path`` entries that import a commit's packages: its source folders, or its build."""
    if not _needs_building(folder):
        return tuple(str(part) for part in (folder / "src", folder) if part.is_dir())
    tree = git(folder, "rev-parse", "HEAD^{tree}")
    built = cache() / "builds" / f"{tree[:16]}-{sys.implementation.cache_tag}"
    if not built.is_dir():
        built.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=built.parent))
        try:
            _pip(sys.executable, f"cannot build {folder.name}", folder, "--no-deps", "--target", str(part), str(folder))
            with contextlib.suppress(OSError):  # another gate finished the same build first
                part.rename(built)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for old in sorted(built.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-_BUILDS]:
            shutil.rmtree(old, ignore_errors=True)
    return (str(built),)


def _needs_building(folder: Path) -> bool:
    """Return whether a project must be built before import: it has compiled sources or a dynamic version."""
    if ships_variants(folder):
        return False
    if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return False
    if "version" in _table(folder, "project").get("dynamic", ()):
        return True
    return any(Path(name).suffix in _COMPILED for name in git(folder, "ls-files").splitlines())


def _interpreter(base: Path, head: Path) -> str:
    """Return base's interpreter: this one if base and head have equal dependencies, else one of a new environment."""
    needs = _dependencies(base)
    if needs == _dependencies(head):
        return sys.executable
    try:
        required = [need for name in ("copycost", "copycost-meter") for need in metadata.requires(name) or ()]
        requirements = [need.partition(";")[0] for need in required if need.startswith(_ENGINE_NEEDS)]
    except metadata.PackageNotFoundError:  # copycost runs from its source tree
        requirements = list(_ENGINE_NEEDS)
    files = ["-r", _REQUIREMENTS] if (base / _REQUIREMENTS).is_file() else []
    project = [str(base)] if any((base / name).is_file() for name in ("pyproject.toml", "setup.py")) else []
    failure = "cannot install the dependencies of base"
    return _environment([needs, sorted(requirements)], [*project, *files, *requirements], base, failure)


def environment(requirements: Sequence[str], failure: str) -> str:
    """Return the interpreter of a new environment with some requirements, which is kept for the next time.

    Only wheels are installed: a release that has none for this Python is not built.

    Raises
    ------
    RepositoryError
        If the environment cannot be made. `failure` begins its message.
    """
    arguments = ["--only-binary", ":all:", *requirements]
    return _environment(arguments, arguments, Path(tempfile.gettempdir()), failure)


def _environment(key: Any, arguments: Sequence[str], folder: Path, failure: str) -> str:
    """Return the interpreter of an environment, made with pip's arguments unless the key is that of a kept one."""
    text = json.dumps([key, platform.python_version(), sys.prefix], sort_keys=True)
    home = cache() / "environments" / hashlib.sha256(text.encode()).hexdigest()[:16]
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, text=True)
        if process.returncode:
            raise RepositoryError(f"cannot create an environment: {_last(process)}")
        _pip(str(python), failure, folder, *arguments)
        (home / "complete").touch()
    return str(python)


def _dependencies(folder: Path) -> dict[str, Any]:
    """Return a project's runtime dependencies by file name, as pip reads them, without development dependencies."""
    dependencies: dict[str, Any] = {"pyproject.toml": _table(folder, "project").get("dependencies")}
    setup = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        setup.read(folder / "setup.cfg")
    dependencies["setup.cfg"] = setup.get("options", "install_requires", fallback=None)
    with contextlib.suppress(OSError):
        dependencies[_REQUIREMENTS] = (folder / _REQUIREMENTS).read_text(errors="replace")
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse((folder / "setup.py").read_text())):
            if isinstance(node, ast.keyword) and node.arg == "install_requires":
                dependencies["setup.py"] = ast.unparse(node.value)
    return dependencies


#: The only dependency file with an agreed meaning besides pyproject.toml, setup.cfg and setup.py.
_REQUIREMENTS = "requirements.txt"


def libraries(commit: Commit) -> dict[str, str]:
    """Return the library versions of a commit's interpreter."""
    process = subprocess.run(
        [commit.place.python, "-c", "import json, copycost.machine.environment as e; print(json.dumps(e.versions()))"],
        capture_output=True, text=True, env=import_context.child_environment(commit.place), cwd=commit.place.folder,
    )  # fmt: skip
    return json.loads(process.stdout)


def _table(folder: Path, name: str) -> Mapping[str, Any]:
    """Return a table of pyproject.toml, or an empty mapping if it is missing."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text()).get(name, {})
    except (OSError, ValueError):
        return {}


def _pip(python: str, what: str, folder: Path, *arguments: str) -> None:
    process = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if process.returncode:
        raise RepositoryError(f"{what}: {_last(process)}")


def _last(process: subprocess.CompletedProcess[str]) -> str:
    """Return the first line of the error output that starts with "error", or else its first line."""
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["failed"])[0].strip()
