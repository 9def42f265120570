"""Base class for the files in ``benchmarks/``: each method reads one field of a session's measurements.

asv starts a process for every figure and imports the file in each of them. Therefore, this module imports no framework
and measures nothing: ``setup_cache`` runs ``copycost run`` once, and the methods look up its results.
"""

from __future__ import annotations

import functools
import glob
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from copycost import registry
from copycost.cases.case import Case, CaseError
from copycost.cases.profiles import PROFILES, Axes
from copycost.cases.selection import expand
from copycost.catalog import discovery
from copycost.machine.environment import METHOD_VERSION
from copycost.model import naming
from copycost.model.vocabulary import DeviceKind, Layout
from copycost.results.asv_format import PARAMETERS

#: Blocks per case. With six per side, asv's test of two commits detects no difference, however large.
BLOCKS = 7

#: Time limit of a session, in seconds. Each case has a separate limit; this one is a safeguard.
_SESSION = 24 * 3600

#: Fields of a measurement that the methods need. Only these are kept, as every method loads all that is kept.
_KEPT = (
    "status", "reason", "known", "missing", "samples", "calls", "seconds_first", "allocations",
    "allocated_bytes", "peak_bytes", "retained_bytes", "input_changed", "max_abs_error",
)  # fmt: skip


class Cases:
    """Base class for asv benchmarks of the cases of a profile.

    ``class NumPy(asv.Cases, runtime="numpy")`` benchmarks the shipped variants of one runtime. A class without
    `runtime` benchmarks the variants that its own file registers, for one recipe. It accepts `batches`, `sizes`,
    `dtypes` and `layouts` like `copycost.select`.

    ``COPYCOST_PROFILE`` names the profile (default: quick). ``COPYCOST_DEVICE`` (a device) and ``COPYCOST_OPTIONS``
    (options of `copycost run`) select among its cases. A case that is not selected, is skipped, or is known to be wrong
    here is n/a, with the reason on standard error. A case that is wrong, raises or crashes fails, unless that is known.

    Raises
    ------
    RegistrationError
        When the class is created, if there are no such cases, or asv could not distinguish them.
    """

    #: Figures of different measurement methods must not form one series. asv's default, a hash of the source code,
    #: would also start a new series whenever the file is reformatted.
    version = str(METHOD_VERSION)
    timeout = 60.0
    param_names = PARAMETERS
    params: ClassVar[list[list[Any]]]

    #: Names of the modules that already have a class for the variants they register.
    _own: ClassVar[set[str]] = set()

    def __init_subclass__(
        cls,
        runtime: str | None = None,
        *,
        batches: Sequence[int | None] = (),
        sizes: Sequence[tuple[int, int]] = (),
        dtypes: Sequence[str] = (),
        layouts: Sequence[str] = (),
    ) -> None:
        discovery.load_shipped()
        axes = PROFILES[profile()].axes
        if runtime is not None:
            if any((batches, sizes, dtypes, layouts)):
                raise naming.RegistrationError(
                    f"{cls.__name__}: the profile sets batches, sizes, dtypes and layouts of shipped variants; remove "
                    "these arguments"
                )
            naming.check_name("runtime", runtime, discovery.runtimes())
            shipped = [v for v in registry.variants.values() if v.runtime == runtime and v.source.is_shipped]
            cls.params = _parameters(expand(axes, shipped, _recipes(shipped)))
            return
        stated = {
            "batches": tuple(batches),
            "sizes": tuple(sizes),
            "dtypes": naming.as_tuple(dtypes),
            "layouts": tuple(map(Layout, naming.as_tuple(layouts))),
        }
        cls._measure_own(axes, {name: values for name, values in stated.items() if values})

    @classmethod
    def _measure_own(cls, axes: Axes, stated: dict[str, tuple[Any, ...]]) -> None:
        """Benchmark the variants that the class's own module registers, on the axes that the class states."""
        variants = [v for v in registry.variants.values() if _module(v.prepare) == cls.__module__]
        if not variants:
            raise naming.RegistrationError(f"{cls.__module__} registers no variant before its class {cls.__name__}")
        recipes = _recipes(variants)
        if cls.__module__ in cls._own or len(recipes) > 1:
            # asv runs `setup_cache` once for all classes that define it in the same line of the same module, and
            # measures every variant with every recipe.
            raise naming.RegistrationError(
                f"{cls.__module__}: only one recipe and one class per file are allowed: put others in separate files"
            )
        cls._own.add(cls.__module__)
        registry.benchmark_axes[variants[0].source] = stated  # for `copycost gate`, which measures the same cases
        (recipe,) = recipes
        axes = replace(axes, recipes=(glob.escape(recipe),), **stated)
        cls.params = _parameters(expand(axes, variants, recipes))
        file = str(sys.modules[cls.__module__].__file__)

        def setup_cache(*_: object) -> dict[str, Any]:
            return session(axes, file, [v.name for v in variants])

        setup_cache.__module__ = cls.__module__
        setup_cache.timeout = _SESSION  # type: ignore[attr-defined]
        cls.setup_cache = setup_cache  # type: ignore[method-assign, assignment]

    def setup_cache(self) -> dict[str, Any]:
        """Measure all shipped variants once for all classes."""
        return session(PROFILES[profile()].axes)

    setup_cache.timeout = _SESSION  # type: ignore[attr-defined]

    def track_seconds(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the time per call: the medians of the blocks, from which asv computes its statistics."""
        return _samples(session, case, 1)

    def track_seconds_per_image(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the time per call, divided by the number of images in the batch."""
        return _samples(session, case, case[PARAMETERS.index("batch")] or 1)

    def track_seconds_first(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the time of the first call, which traces and compiles; a single call has no interval."""
        return _figure(session, case, "seconds_first")

    def track_allocations(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the number of requests of at least 4,096 bytes in one steady call, on host and device."""
        return _figure(session, case, "allocations")

    def track_allocated_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the total number of bytes that these requests allocate."""
        return _figure(session, case, "allocated_bytes")

    def track_peak_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the peak of live bytes, above those live before the call."""
        return _figure(session, case, "peak_bytes")

    def track_retained_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the number of bytes that the result keeps alive."""
        return _figure(session, case, "retained_bytes")

    def track_input_changed(self, session: dict[str, Any], *case: Any) -> Any:
        """Return 1 if the call changes its input, else 0."""
        return _figure(session, case, "input_changed")

    def track_max_abs_error(self, session: dict[str, Any], *case: Any) -> Any:
        """Return the largest absolute difference from the recipe's float64 reference."""
        return _figure(session, case, "max_abs_error")

    for _track in (track_seconds, track_seconds_per_image, track_seconds_first):
        _track.unit = "seconds"  # type: ignore[attr-defined]
    for _track in (track_allocated_bytes, track_peak_bytes, track_retained_bytes):
        _track.unit = "bytes"  # type: ignore[attr-defined]
    track_allocations.unit = "allocations"  # type: ignore[attr-defined]
    track_input_changed.unit = "changed"  # type: ignore[attr-defined]
    track_max_abs_error.unit = "difference"  # type: ignore[attr-defined]
    del _track


def session(axes: Axes, file: str | None = None, variants: Sequence[str] = ()) -> dict[str, Any]:
    """Measure with the installed copycost, which is the commit's version.

    Parameters
    ----------
    axes : Axes
        Cases to select from.
    file : str, optional
        File that registers user-defined variants. If given, `variants` of that file are measured instead of the shipped
        ones.
    variants : sequence of str, optional

    Returns
    -------
    dict
        ``rows``: parameters of a case → its measured fields; ``missing``: why there are no rows, or None.

    Raises
    ------
    RuntimeError
        If the environment variables select cases that do not exist, or the commit's copycost fails.
    """
    options = _given(axes)
    arguments = ["--profile", profile(), "--blocks", str(_blocks()), *chosen()]
    if file is not None:
        axis_options = {
            "recipe": axes.recipes,
            "variant": map(glob.escape, variants),
            "batch": ("none" if batch is None else str(batch) for batch in axes.batches),
            "size": (f"{height}x{width}" for height, width in axes.sizes),
            "dtype": axes.dtypes,
            "layout": axes.layouts,
        }
        arguments += ["--with", file]
        left_out = [name for name in axis_options if not options.get(name)]
        arguments += [word for name in left_out for word in _each(name, axis_options[name])]
    _try(arguments)
    out = tempfile.mkdtemp(prefix=f"{os.environ.get('ASV_COMMIT', '')[:8] or 'now'}-", dir=_runs_folder())
    # Use only the command and its JSON document, which all commits have in common: today's classes can then measure the
    # copycost of a commit from last year.
    process = subprocess.run(
        [sys.executable, "-m", "copycost", "run", *arguments, "--out", out, "--json", "run.json"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    last = " ".join(process.stderr.strip().splitlines()[-1:])
    if process.returncode == 2 or re.search("No module named '?copycost", last):
        return {"rows": {}, "missing": f"this commit's copycost cannot measure these cases: {last}"}
    try:
        document = json.loads(Path("run.json").read_text())
    except (OSError, ValueError):
        raise RuntimeError(f"`copycost run` ended with {process.returncode}:\n{process.stderr}") from None
    engine = document["environment"]["engine"]
    if engine != METHOD_VERSION:
        return {
            "rows": {},
            "missing": f"this commit measures with engine {engine}: these benchmarks expect engine {METHOD_VERSION}",
        }
    rows = {tuple(m[name] for name in PARAMETERS): {name: m[name] for name in _KEPT} for m in document["measurements"]}
    if file is not None:
        # A user's file imports functions of the commit, which may not exist yet. Shipped variants do not.
        for row in rows.values():
            if row["status"] == "failed" and _ABSENT.match(row["reason"]):
                row |= {"status": "skipped", "reason": f"this commit has no such function: {row['reason']}"}
    return {"rows": rows, "missing": None}


def profile() -> str:
    """Return the name of the profile that ``COPYCOST_PROFILE`` selects."""
    name = os.environ.get("COPYCOST_PROFILE") or "quick"
    naming.check_name("COPYCOST_PROFILE", name, PROFILES)
    return name


def _blocks() -> int:
    """Return the number of blocks: ``COPYCOST_BLOCKS``, of which 0 times nothing, or else `BLOCKS`."""
    text = os.environ.get("COPYCOST_BLOCKS", "")
    if text and not re.fullmatch(r"\d{1,3}", text):
        raise RuntimeError(f"invalid COPYCOST_BLOCKS '{text}': expected a number from 0")
    return int(text) if text else BLOCKS


def chosen() -> list[str]:
    """Return the options of `copycost run` from ``COPYCOST_DEVICE`` and ``COPYCOST_OPTIONS``."""
    device = os.environ.get("COPYCOST_DEVICE")
    if device:
        naming.check_name("COPYCOST_DEVICE", device, DeviceKind)
    return [*_each("device", filter(None, [device])), *shlex.split(os.environ.get("COPYCOST_OPTIONS", ""))]


def _runs_folder() -> str:
    """Return the folder for the sessions' runs: ``COPYCOST_RUNS``, or asv's temporary folder, which asv removes."""
    folder = os.environ.get("COPYCOST_RUNS")
    if not folder:
        return os.getcwd()
    if not os.path.isabs(folder):
        raise RuntimeError(
            f"invalid COPYCOST_RUNS '{folder}': expected an absolute path, as asv works in other folders"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _given(axes: Axes) -> dict[str, Any]:
    """Return the chosen options by name, or raise RuntimeError for an option that does not select among the cases."""
    parsed_options = _parsed(chosen())
    if parsed_options is None:
        return {}
    _, options = parsed_options
    image = options.get("image")
    if refused := set(options) & {"profile", "blocks", "out", "resume", "json_file", "with_files"}:
        raise RuntimeError(f"COPYCOST_OPTIONS: --{min(refused).partition('_')[0]} is not allowed: remove it")
    if image and not os.path.isabs(image):
        raise RuntimeError(
            f"COPYCOST_OPTIONS: invalid --image '{image}': expected an absolute path, as asv works in other folders"
        )
    there = {"batch": axes.batches, "size": axes.sizes, "dtype": axes.dtypes, "layout": axes.layouts}
    for name, values in there.items():
        for value in options.get(name, ()):
            if (None if value == "none" else value) not in values:
                raise RuntimeError(f"COPYCOST_OPTIONS: {name} {value} is not measured here: expected one of {values}")
    return options


def _parsed(options: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Parse options of `copycost run`; return None if this environment lacks a library that today's command needs."""
    try:
        from copycost.cli.run import parsed
    except ImportError:
        return None
    try:
        return parsed(options)
    except ValueError as error:
        raise RuntimeError(f"COPYCOST_OPTIONS: {error}") from None


def _try(arguments: Sequence[str]) -> None:
    """Raise RuntimeError for options that today's copycost rejects: these are mistakes, not limits of an old commit."""
    parsed_options = _parsed(arguments)
    if parsed_options is not None:
        from copycost.cli.options import choose

        try:
            choose(parsed_options[0])
        except (naming.RegistrationError, CaseError) as error:
            raise RuntimeError(str(error)) from None


def _each(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (f"--{name}", value)]


def _recipes(variants: Sequence[registry.Variant]) -> dict[str, registry.Recipe]:
    """Return the recipes that variants compute, by name."""
    for v in variants:
        naming.check_name("recipe", v.recipe, registry.recipes)
    return {v.recipe: registry.recipes[v.recipe] for v in variants}


def _parameters(cases: list[Case]) -> list[list[Any]]:
    """Return the distinct values of each parameter over the cases; asv runs their product.

    Words are plain strings, because asv writes the ``repr`` of a value, and readers evaluate it.
    """
    rows = [
        (c.recipe.name, c.variant.name, str(c.device), c.dtype, str(c.layout), c.height, c.width, c.batch)
        for c in cases
    ]
    return [list(dict.fromkeys(values)) for values in zip(*rows, strict=True)]


#: Reasons of variants that import a function, or a module of a package, that an old commit does not have. A package
#: that cannot be imported at all does not match, because that is a real failure.
_ABSENT = re.compile(r"raised (ImportError: cannot import name|ModuleNotFoundError: No module named '[^']*\.)")


class Failed(Exception):
    """Error raised for a case that is unexpectedly wrong or does not finish."""


def _row(session: dict[str, Any], case: tuple[Any, ...]) -> dict[str, Any] | None:
    """Return the measured fields of a case, or print a reason to standard error and return None if it is n/a."""
    row = session["rows"].get(case)
    if row is None:
        _say(session["missing"] or "not among the cases that were measured here")
        return None
    if row["status"] in ("ok", "unchecked"):
        return row
    if row["status"] == "skipped" or row["known"]:
        _say(f"{row['status']}: {row['reason']}" + (f" (known: {row['known']})" if row["known"] else ""))
        return None
    raise Failed(f"{row['status']}: {row['reason']}")


def _say(reason: str) -> None:
    print(f"n/a: {reason}", file=sys.stderr)


def _figure(session: dict[str, Any], case: tuple[Any, ...], field: str) -> float:
    row = _row(session, case)
    if row is None:
        return math.nan
    if row[field] is None:
        _say(row["missing"].get(field, "not measured"))
        return math.nan
    return float(row[field]) if isinstance(row[field], float) else int(row[field])


def _samples(session: dict[str, Any], case: tuple[Any, ...], images: int) -> Any:
    row = _row(session, case)
    if row is None:
        return math.nan
    if not row["samples"]:
        _say(row["missing"].get("seconds", "not timed"))
        return math.nan
    # asv assumes independent samples, but samples of the same block are not.
    blocks = [median(block) / images for block in row["samples"]]
    return {"samples": blocks, "number": max(1, row["calls"] // len(blocks))}


def _module(prepare: object) -> str | None:
    """Return the module of a variant's function, also of one with parameters."""
    function = prepare.func if isinstance(prepare, functools.partial) else prepare
    return getattr(function, "__module__", None)
