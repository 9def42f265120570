"""What a file in ``benchmarks/`` is made of: classes whose methods each read one field of a session's measurements.

asv imports such a file in every process that it starts, and starts one for every figure. So no framework is imported
here, and nothing is measured: ``setup_cache`` runs ``copycost run`` once, and the methods look its answers up.
"""

from __future__ import annotations

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
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from copycost import registry
from copycost.cases.case import Case, CaseError
from copycost.cases.profiles import PROFILES, Axes
from copycost.cases.selection import expand
from copycost.catalog import discovery, loading
from copycost.machine.environment import METHOD_VERSION
from copycost.model import naming
from copycost.results.asv_format import PARAMETERS

#: Blocks of every case: asv's test of two commits finds nothing with six a side, whatever the difference.
BLOCKS = 7


#: Seconds that a session may take. Every case of it has a limit of its own: this one is for what nobody thought of.
_SESSION = 24 * 3600


#: What of a measurement the methods need; every one of them reads all that is kept.
_KEPT = (
    "status", "reason", "known", "missing", "samples", "calls", "seconds_first", "allocations",
    "allocated_bytes", "peak_bytes", "retained_bytes", "input_changed", "max_abs_error",
)  # fmt: skip


class Cases:
    """Benchmarks of the cases of a profile, for a file in ``benchmarks/`` to derive from.

    ``class NumPy(asv.Cases, runtime="numpy")`` has the shipped variants of one runtime. A class without `runtime` has
    the variants that its own file registers, for one recipe, and takes `batches`, `sizes`, `dtypes` and `layouts` as
    `copycost.select` does.

    The profile is named by ``COPYCOST_PROFILE`` (quick); ``COPYCOST_DEVICE`` and ``COPYCOST_OPTIONS``, options of
    `copycost run`, choose among its cases. What is not chosen, is skipped, or is known to be wrong here is n/a, with
    the reason on standard error; what is wrong, raised or crashed without being known for it fails.

    Raises
    ------
    RegistrationError
        As the class is made, if there are no such cases, or asv could not tell them apart.
    """

    #: Figures of two ways of measuring are not one series; a file that was formatted anew is no other way.
    version = str(METHOD_VERSION)
    timeout = 60.0
    param_names = PARAMETERS
    params: ClassVar[list[list[Any]]]

    #: The modules that have a class of their own variants.
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
                raise naming.RegistrationError(f"{cls.__name__}: what ships is measured as the profile says")
            naming.check_name("runtime", runtime, discovery.runtimes())
            its = [v for v in registry.variants.values() if v.runtime == runtime and loading.is_builtin(v.source)]
            cls.params = _parameters(expand(axes, its, _recipes(its)))
            return
        its = [v for v in registry.variants.values() if getattr(v.prepare, "__module__", None) == cls.__module__]
        if not its:
            raise naming.RegistrationError(f"{cls.__module__} registers no variant before its class {cls.__name__}")
        recipes = _recipes(its)
        if cls.__module__ in cls._own or len(recipes) > 1:
            # asv runs one `setup_cache` for all that have it from the same line of the same module, and measures
            # every variant with every recipe.
            raise naming.RegistrationError(f"{cls.__module__}: one recipe and one class a file; another has its own")
        cls._own.add(cls.__module__)
        (recipe,) = recipes
        axes = Axes(
            (glob.escape(recipe),),
            tuple(batches) or axes.batches,
            tuple(sizes) or axes.sizes,
            naming.as_tuple(dtypes) or axes.dtypes,
            naming.as_tuple(layouts) or axes.layouts,
        )
        cls.params = _parameters(expand(axes, its, recipes))
        file = str(sys.modules[cls.__module__].__file__)

        def setup_cache(*_: object) -> dict[str, Any]:
            return session(axes, file, [v.name for v in its])

        setup_cache.__module__ = cls.__module__
        setup_cache.timeout = _SESSION  # type: ignore[attr-defined]
        cls.setup_cache = setup_cache  # type: ignore[method-assign, assignment]

    def setup_cache(self) -> dict[str, Any]:
        """Measure everything that ships, once for all classes."""
        return session(PROFILES[profile()].axes)

    setup_cache.timeout = _SESSION  # type: ignore[attr-defined]

    def track_seconds(self, session: dict[str, Any], *case: Any) -> Any:
        """Time of a call: the median of each block, of which asv makes median, quartiles and interval."""
        return _samples(session, case, 1)

    def track_seconds_per_image(self, session: dict[str, Any], *case: Any) -> Any:
        """Time of a call over the images in its batch."""
        return _samples(session, case, case[PARAMETERS.index("batch")] or 1)

    def track_seconds_first(self, session: dict[str, Any], *case: Any) -> Any:
        """The first call after preparing, which traces and compiles; one call, so that it has no interval."""
        return _figure(session, case, "seconds_first")

    def track_allocations(self, session: dict[str, Any], *case: Any) -> Any:
        """Requests of 4,096 bytes and more in one steady call, on host and device."""
        return _figure(session, case, "allocations")

    def track_allocated_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """What they ask for together."""
        return _figure(session, case, "allocated_bytes")

    def track_peak_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """The most that was held at once, above what was held before the call."""
        return _figure(session, case, "peak_bytes")

    def track_retained_bytes(self, session: dict[str, Any], *case: Any) -> Any:
        """What the result keeps alive."""
        return _figure(session, case, "retained_bytes")

    def track_input_changed(self, session: dict[str, Any], *case: Any) -> Any:
        """1 where the call changes its input, 0 where it does not."""
        return _figure(session, case, "input_changed")

    def track_max_abs_error(self, session: dict[str, Any], *case: Any) -> Any:
        """The largest difference from the recipe's float64 reference."""
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
    """Measure with the copycost that is installed here, which is that of the commit.

    Parameters
    ----------
    axes : Axes
        What there is to choose from.
    file : str, optional
        With variants of somebody's own: those that are named are measured, and not what ships.
    variants : sequence of str, optional

    Returns
    -------
    dict
        ``rows``: parameters of a case → what was measured; ``missing``: why there is nothing, or None.

    Raises
    ------
    RuntimeError
        If the variables ask for what there is not, or the copycost of the commit breaks down.
    """
    given = _given(axes)
    arguments = ["--profile", profile(), "--blocks", str(BLOCKS), *chosen()]
    if file is not None:
        stated = {
            "recipe": axes.recipes,
            "variant": map(glob.escape, variants),
            "batch": ("none" if batch is None else str(batch) for batch in axes.batches),
            "size": (f"{height}x{width}" for height, width in axes.sizes),
            "dtype": axes.dtypes,
            "layout": axes.layouts,
        }
        arguments += ["--with", file]
        arguments += [word for name, values in stated.items() if not given.get(name) for word in _each(name, values)]
    _try(arguments)
    out = tempfile.mkdtemp(prefix=f"{os.environ.get('ASV_COMMIT', '')[:8] or 'now'}-", dir=_kept())
    # The command and its document are what every commit has in common: today's classes measure what a commit of last
    # year computes, as long as it has both.
    done = subprocess.run(
        [sys.executable, "-m", "copycost", "run", *arguments, "--out", out, "--json", "run.json"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    last = " ".join(done.stderr.strip().splitlines()[-1:])
    if done.returncode == 2 or re.search("No module named '?copycost", last):
        return {"rows": {}, "missing": f"this commit's copycost does not measure so: {last}"}
    try:
        document = json.loads(Path("run.json").read_text())
    except (OSError, ValueError):
        raise RuntimeError(f"`copycost run` ended with {done.returncode}:\n{done.stderr}") from None
    engine = document["environment"]["engine"]
    if engine != METHOD_VERSION:
        return {
            "rows": {},
            "missing": f"this commit measures with engine {engine}; these benchmarks are of {METHOD_VERSION}",
        }
    rows = {tuple(m[name] for name in PARAMETERS): {name: m[name] for name in _KEPT} for m in document["measurements"]}
    if file is not None:
        # What somebody's own file imports is of the commit, and what ships is not.
        for row in rows.values():
            if row["status"] == "failed" and _ABSENT.match(row["reason"]):
                row |= {"status": "skipped", "reason": f"this commit has no such function: {row['reason']}"}
    return {"rows": rows, "missing": None}


def profile() -> str:
    """The profile that ``COPYCOST_PROFILE`` names."""
    name = os.environ.get("COPYCOST_PROFILE") or "quick"
    naming.check_name("COPYCOST_PROFILE", name, PROFILES)
    return name


def chosen() -> list[str]:
    """The options of `copycost run` that ``COPYCOST_DEVICE`` and ``COPYCOST_OPTIONS`` stand for."""
    device = os.environ.get("COPYCOST_DEVICE")
    if device:
        naming.check_name("COPYCOST_DEVICE", device, registry.DEVICES)
    return [*_each("device", filter(None, [device])), *shlex.split(os.environ.get("COPYCOST_OPTIONS", ""))]


def _kept() -> str:
    """Where sessions write their runs: the folder that ``COPYCOST_RUNS`` names, or asv's own, which does not last."""
    kept = os.environ.get("COPYCOST_RUNS")
    if not kept:
        return os.getcwd()
    if not os.path.isabs(kept):
        raise RuntimeError(f"COPYCOST_RUNS is {kept}: it is an absolute path, for asv works in folders of its own")
    Path(kept).mkdir(parents=True, exist_ok=True)
    return kept


def _given(axes: Axes) -> dict[str, Any]:
    """The options that were chosen, by name; RuntimeError for one that is no choice among the cases that there are."""
    found = _parsed(chosen())
    if found is None:
        return {}
    _, given = found
    image = given.get("image")
    if refused := set(given) & {"profile", "blocks", "out", "resume", "json_file", "with_files"}:
        raise RuntimeError(f"COPYCOST_OPTIONS: --{min(refused).partition('_')[0]} is not for it to say")
    if image and not os.path.isabs(image):
        raise RuntimeError(f"COPYCOST_OPTIONS: --image {image}: it is an absolute path, as asv works in other folders")
    there = {"batch": axes.batches, "size": axes.sizes, "dtype": axes.dtypes, "layout": axes.layouts}
    for name, values in there.items():
        for value in given.get(name, ()):
            if (None if value == "none" else value) not in values:
                raise RuntimeError(f"COPYCOST_OPTIONS: no {name} {value} is measured here; there is {values}")
    return given


def _parsed(options: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Options of `copycost run` and those given; None where today's command lacks a library of the commit's."""
    try:
        from copycost.cli.run import parsed
    except ImportError:
        return None
    try:
        return parsed(options)
    except ValueError as error:
        raise RuntimeError(f"COPYCOST_OPTIONS: {error}") from None


def _try(arguments: Sequence[str]) -> None:
    """Raise RuntimeError for what today's copycost cannot measure: that is a mistake, and not a commit's age."""
    found = _parsed(arguments)
    if found is not None:
        from copycost.cli.options import choose

        try:
            choose(found[0])
        except (naming.RegistrationError, CaseError) as error:
            raise RuntimeError(str(error)) from None


def _each(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (f"--{name}", value)]


def _recipes(variants: Sequence[registry.Variant]) -> dict[str, registry.Recipe]:
    """The recipes that variants compute, by name."""
    for v in variants:
        naming.check_name("recipe", v.recipe, registry.recipes)
    return {v.recipe: registry.recipes[v.recipe] for v in variants}


def _parameters(cases: list[Case]) -> list[list[Any]]:
    """The values that each parameter takes over the cases; asv has the product of them."""
    rows = [
        (c.recipe.name, c.variant.name, c.device, c.dtype, c.layout, c.height, c.width, c.batch) for c in cases
    ]  # fmt: skip
    return [list(dict.fromkeys(values)) for values in zip(*rows, strict=True)]


#: What a variant raises that imports a function, or a module of a package, before there was one. Where the package
#: itself is not to be imported, something is wrong.
_ABSENT = re.compile(r"raised (ImportError: cannot import name|ModuleNotFoundError: No module named '[^']*\.)")


class Failed(Exception):
    """A case that is wrong, or did not come to an end, without being known for it."""


def _row(session: dict[str, Any], case: tuple[Any, ...]) -> dict[str, Any] | None:
    """What was measured of a case; None where it is n/a, with the reason on standard error."""
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
    # asv takes its samples for independent of each other: within a block they are not.
    blocks = [median(block) / images for block in row["samples"]]
    return {"samples": blocks, "number": max(1, row["calls"] // len(blocks))}
