"""An asv project: its commits, environments and benchmarks, and the files with which another machine measures it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from copycost.results import documents
from copycost.results.asv_files import BENCHMARKS
from copycost.tracking.project import ProjectError

#: File name of the asv configuration.
CONFIGURATION = "asv.conf.json"

#: Kinds of asv's benchmarks that measure time (``asv_runner.benchmarks``).
TIMED = ("time", "timeraw")


@dataclass(frozen=True)
class Project:
    """An asv project.

    Attributes
    ----------
    root : Path
        Folder of the configuration.
    configuration : dict
        As asv reads it.
    repository : str
        Path or address of the repository, which every machine must reach.
    results : Path
        Folder of the results.
    environments : tuple of str
        Names of the environments, as in the names of result files.
    benchmarks : mapping of str to dict
        What ``benchmarks.json`` says of each benchmark. Empty if asv has not written it yet.
    """

    root: Path
    configuration: dict[str, Any]
    repository: str
    results: Path
    environments: tuple[str, ...]
    benchmarks: Mapping[str, dict[str, Any]]


def load(root: Path, repository: str | None = None) -> Project:
    """Read the project in a folder.

    Parameters
    ----------
    root : Path
    repository : str, optional
        Address of the repository, where that in the configuration is not one that other machines reach.

    Raises
    ------
    ProjectError
        If there is no configuration, or asv cannot use it.
    """
    from asv.config import Config
    from asv.environment import get_environments
    from asv.util import UserError, load_json

    path = root / CONFIGURATION
    if not path.is_file():
        raise ProjectError(f"there is no {CONFIGURATION} here: `copycost init` writes one")
    try:
        configuration = load_json(str(path), js_comments=True)
        conf = Config.load(str(path))
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            environments = [env.name for env in get_environments(conf, None, verbose=True)]
        where = repository or conf.repo
        if (root / where).is_dir():
            where = str((root / where).resolve())
        results = root / conf.results_dir
    except (UserError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ProjectError(f"{CONFIGURATION} cannot be read: {' '.join(str(error).split())}") from None
    if not environments:
        raise ProjectError(f"{CONFIGURATION} has no environment")
    if left_out := " ".join(said.getvalue().split()):
        warnings.warn(f"asv leaves out environments that cannot be made here: {left_out[:300]}", stacklevel=2)
    return Project(root, configuration, where, results, tuple(environments), _benchmarks(results / BENCHMARKS))


def _benchmarks(path: Path) -> dict[str, dict[str, Any]]:
    try:
        listed = documents.read(path, nan=True)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} cannot be read: {error}") from None
    if not isinstance(listed, dict):
        raise ProjectError(f"{path} is no list of benchmarks as asv writes it")
    return {name: entry for name, entry in listed.items() if isinstance(entry, dict)}


def commits(project: Project, revisions: str, parents: bool = True) -> list[str]:
    """Return the hashes of some commits, as Git lists them: usually newest first.

    Parameters
    ----------
    project : Project
    revisions : str
        As `asv run` takes them: a range, ``ALL``, ``NEW``, ``EXISTING``, ``HEAD``, or a commit with all before it.
    parents : bool, optional
        Whether the first parent of each is among them too: a change is a difference of the two. Not of ``EXISTING``.

    Raises
    ------
    ProjectError
        If there are no such commits.
    """
    from asv.repo import NoSuchNameError
    from asv.util import ProcessError, UserError

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):  # asv prints what git says
            hashes = _hashes(project, revisions, parents)
    except (NoSuchNameError, ProcessError, UserError):
        if "fetch" in said.getvalue():
            lines = said.getvalue().strip().splitlines()
            raise ProjectError(f"the repository cannot be fetched: {lines[-1] if lines else 'git failed'}") from None
        hashes = []
    if not hashes:
        raise ProjectError(f"no commits '{revisions}': expected a range, ALL, NEW, EXISTING, HEAD or a commit")
    return hashes


def _hashes(project: Project, revisions: str, parents: bool) -> list[str]:
    from asv.config import Config
    from asv.repo import get_repo
    from asv.results import get_existing_hashes

    conf = Config.load(str(project.root / CONFIGURATION))
    conf.results_dir = str(project.results)
    if (project.root / conf.repo).is_dir():
        conf.repo = str((project.root / conf.repo).resolve())
    repository = get_repo(conf)
    repository.pull()  # if it is a mirror of another one
    if revisions in ("ALL", "NEW"):
        known = get_existing_hashes(conf.results_dir) if revisions == "NEW" else []
        chosen = repository.get_new_branch_commits(conf.branches, known)
    elif revisions == "EXISTING":
        return list(dict.fromkeys(get_existing_hashes(conf.results_dir)))
    elif revisions == "HEAD":
        chosen = [repository.get_hash_from_name("HEAD")]
    else:
        chosen = repository.get_hashes_from_range(revisions)
    if not parents:
        return list(dict.fromkeys(chosen))
    # Git lists a commit, and then its first parent, if it has one.
    return list(dict.fromkeys(one for commit in chosen for one in repository.get_hashes_from_range(f"-n 2 {commit}")))


def reloaded(project: Project) -> Project:
    """Return a project with the list of benchmarks as it is now."""
    return replace(project, benchmarks=_benchmarks(project.results / BENCHMARKS))


def digest(project: Project, benchmarks: Sequence[str]) -> str:
    """Return a digest of the versions of some benchmarks: of all of them for an empty list."""
    names = benchmarks or sorted(project.benchmarks)
    text = json.dumps([[name, project.benchmarks.get(name, {}).get("version")] for name in names])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shards(project: Project, number: int, exact: bool) -> dict[str, tuple[str, ...]]:
    """Return the benchmarks of each shard.

    A class of benchmarks stays together, and so do the functions of one module: they are compared with each other.

    Parameters
    ----------
    project : Project
    number : int
        Number of shards. Some may be empty.
    exact : bool
        Whether to leave out what measures time.

    Returns
    -------
    dict of str to tuple of str
        An empty one stands for all benchmarks.

    Raises
    ------
    ProjectError
        If the benchmarks must be known, and are not.
    """
    if not project.benchmarks:
        if number > 1 or exact:
            raise ProjectError("asv has not listed the benchmarks yet: asv run --bench just-discover")
        return {"all": ()}
    groups: dict[str, list[str]] = {}
    for name, entry in sorted(project.benchmarks.items()):
        if not exact or not _measures_time(name, entry):
            groups.setdefault(name.rpartition(".")[0] or name, []).append(name)
    if not groups:
        raise ProjectError("no benchmark counts anything: all of them measure time")
    if number == 1:  # without names, asv also measures benchmarks that were added since it has listed them
        return {"all": tuple(name for names in groups.values() for name in names) if exact else ()}
    found: dict[str, list[str]] = {}
    for group, names in groups.items():  # by the name of the group: a new group does not move the others
        position = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) % number
        found.setdefault(f"{position + 1} of {number}", []).extend(names)
    return {shard: tuple(names) for shard, names in found.items()}


def _measures_time(name: str, entry: Mapping[str, Any]) -> bool:
    """Return whether a benchmark measures time: by its type, or as a figure of `copycost.asv.Cases`."""
    return entry.get("type") in TIMED or name.rpartition(".track_")[2].startswith("seconds")


def packed(project: Project) -> bytes:
    """Return the folder of the benchmarks as an archive, with its name in the configuration."""
    folder = project.root / str(project.configuration.get("benchmark_dir", "benchmarks"))
    if not folder.is_dir():
        raise ProjectError(f"there is no folder {folder.name} with benchmarks")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", dereference=True) as archive:
        archive.add(folder, "benchmarks", filter=_source)
    return buffer.getvalue()


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name.split("/") else member


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack what `packed` returns; nothing is written outside of the folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(folder, filter="data")


def written(configuration: Mapping[str, Any], repository: str, folder: Path) -> None:
    """Write a configuration for a folder of its own: its environments, results and benchmarks are there."""
    own = {
        **configuration, "repo": repository, "benchmark_dir": "benchmarks", "env_dir": "env", "results_dir": "results",
        "html_dir": "html",
    }  # fmt: skip
    (folder / CONFIGURATION).write_text(json.dumps(own, indent=1) + "\n")
