"""Implement `copycost init`: write asv's configuration and a benchmark of one function into a project."""

from __future__ import annotations

import ast
import json
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from copycost import registry
from copycost._version import __version__
from copycost_meter._version import __version__ as METER_VERSION


class ProjectError(ValueError):
    """Error raised if a project cannot be set up for asv; the message is one line."""


@dataclass(frozen=True)
class Watched:
    """Function to benchmark, and what it must compute.

    Attributes
    ----------
    function : str
        ``package.module:function``.
    recipe : str or None
        Name of a shipped recipe.
    formula : str or None
        NumPy expression of ``x`` in float64, used instead of a shipped recipe.
    runtime, writes : str
    dtypes : tuple of str
        Dtypes of the inputs that the function accepts. If empty, the profile's dtypes.
    """

    function: str
    recipe: str | None
    formula: str | None
    runtime: str
    writes: str
    dtypes: tuple[str, ...]


def write(root: Path, watched: Watched) -> list[Path]:
    """Write asv's configuration and a benchmark into a git repository, and return the paths of the new files.

    Existing files are not changed.

    Raises
    ------
    ProjectError
        If `root` is not a repository that asv can measure, lacks the function, or already has a benchmark of it.
    """
    branch = _branch(root)
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise ProjectError("no pyproject.toml or setup.py here: asv builds and installs the project at every commit")
    module, _, name = watched.function.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ProjectError(f"invalid function '{watched.function}': expected package.module:function")
    _look_for(root, module, name)
    if watched.formula is not None:
        _try(watched.formula)
    configuration, folder = root / "asv.conf.json", benchmarks(root)
    benchmark = folder / f"{name}.py"
    if benchmark.exists():
        raise ProjectError(f"{benchmark.relative_to(root)} already exists: remove or rename it first")
    from jinja2 import Environment, PackageLoader, StrictUndefined  # imported here, as only this command needs it

    jinja = Environment(
        loader=PackageLoader("copycost.tracking", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    label, title = name.strip("_").replace("_", "-"), "".join(part.capitalize() for part in name.split("_"))
    recipe = watched.recipe or f"{module.partition('.')[0]}.{label}"  # no shipped recipe has such a name
    if (recipe, label) in registry.variants:
        label = f"{module.partition('.')[0]}-{label}"
    dtypes = ", ".join(f'"{dtype}"' for dtype in watched.dtypes)
    install = f"in-dir={{env_dir}} python -m pip install --quiet {{wheel_file}} {shlex.join(requirements())}"
    texts = {
        configuration: jinja.get_template("asv.conf.json.jinja").render(
            project=json.dumps(_distribution(root)), branch=json.dumps(branch),
            python=json.dumps(".".join(platform.python_version_tuple()[:2])), install=json.dumps(install),
        ),
        folder / "__init__.py": "",
        benchmark: jinja.get_template("benchmark.py.jinja").render(
            watched=watched, module=module, name=name, label=label, title=title, recipe=recipe,
            dtypes=f"({dtypes},)" if dtypes else None,
        ),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    new_files = [path for path in texts if not path.exists()]
    for path in new_files:
        path.write_text(texts[path])
    return new_files


def benchmarks(root: Path) -> Path:
    """Return asv's benchmark folder, as configured in asv.conf.json if it exists."""
    configuration = root / "asv.conf.json"
    if not configuration.exists():
        return root / "benchmarks"
    from asv.config import Config
    from asv.util import UserError

    try:
        return root / Config.load(str(configuration)).benchmark_dir
    except (UserError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ProjectError(f"asv.conf.json cannot be read: {' '.join(str(error).split())}") from None


def requirements() -> list[str]:
    """Return the pip requirements that install the running copycost, and what it counts with, from their origins."""
    return [_origin("copycost-meter", METER_VERSION), _origin("copycost", __version__)]


def _origin(name: str, version: str) -> str:
    """Return the pip requirement that installs a distribution from where it came."""
    # PEP 610 records the origin. A source tree on the path has separate metadata, which does not record it.
    for distribution in metadata.distributions(name=name):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        folder = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
        if "vcs_info" in origin:
            info = origin["vcs_info"]
            return f"{name} @ {info['vcs']}+{origin['url']}@{info['commit_id']}{folder}"
        if "url" in origin:
            return f"{name} @ {origin['url']}{folder}"
    return f"{name}=={version}"


def _distribution(root: Path) -> str:
    """Return the project's distribution name, which asv uninstalls before it installs a commit."""
    try:
        return tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return root.resolve().name


def _branch(root: Path) -> str:
    """Return the name of the branch that is checked out."""
    process = subprocess.run(["git", "rev-parse", "--show-toplevel"], cwd=root, capture_output=True, text=True)
    if process.returncode:
        raise ProjectError("not a git repository: asv measures commits, so run this command in a repository")
    top = Path(process.stdout.strip())
    if top.resolve() != root.resolve():
        raise ProjectError(f"not the root of the repository: run this command in {top}")
    process = subprocess.run(["git", "symbolic-ref", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    if process.returncode:
        raise ProjectError("no branch is checked out: asv follows a branch, so check one out first")
    return process.stdout.strip()


def _look_for(root: Path, module: str, name: str) -> None:
    """Raise ProjectError unless the source defines the function; the source is parsed, not imported."""
    parts = module.split(".")
    places = [
        base.joinpath(*parts[:-1], tail)
        for base in (root, root / "src")
        for tail in (f"{parts[-1]}.py", str(Path(parts[-1], "__init__.py")))
    ]
    source = next((place for place in places if os.path.isfile(place)), None)
    if source is None:
        raise ProjectError(f"no module {module} found here or in src/")
    try:
        tree = ast.parse(source.read_text())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        raise ProjectError(f"{source.relative_to(root)} cannot be read: {error}") from None
    names: list[str] = []
    for node in ast.walk(tree):  # includes conditional definitions
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    if "*" in names:
        return  # the function may come from a star import
    if name not in names:
        public_names = ", ".join(n for n in names if not n.startswith("_")) or "nothing"
        raise ProjectError(f"{source.relative_to(root)} has no function '{name}'; it has {public_names}")


#: Program that evaluates a formula from standard input and prints the outcome as its last line.
_TRIAL = """
import json, sys
import numpy as np
formula = json.loads(sys.stdin.read())
x = np.full((1, 224, 224, 3), 128.0)
try:
    result = np.asarray(eval(formula, {"np": np, "x": x}))
    outcome = [None, result.dtype.kind == "f" and result.size > 0, str(result)[:2000]]
except Exception as error:
    outcome = [f"{type(error).__name__}: {error}"[:2000], False, ""]
print("\\n" + json.dumps(outcome))
"""

#: Time limit for a formula, in seconds.
_PATIENCE = 20


def _try(formula: str) -> None:
    """Raise ProjectError unless the formula maps an array to a floating-point array, evaluated in a new process."""
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-c", _TRIAL],
            input=json.dumps(formula).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise ProjectError(f"the formula '{formula}' takes more than {_PATIENCE} s for one image") from None
    try:
        wrong, right, text = json.loads(process.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise ProjectError(f"the formula '{formula}' ends the process that evaluates it") from None
    if wrong:
        raise ProjectError(f"the formula '{formula}' is not a valid expression of x: {wrong}")
    if not right:
        raise ProjectError(f"the formula '{formula}' gives {' '.join(text.split())[:60]}: expected an array of floats")
