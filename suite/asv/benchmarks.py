"""What a file in ``benchmarks/`` is made of: classes whose methods each read one field of a session's measurements.

asv imports such a file in every process that it starts, and starts one for every figure. So no framework is imported
here, and nothing is measured: ``setup_cache`` runs ``copycost run`` once, and the methods look its answers up.
"""

from __future__ import annotations

import glob
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from suite import registry
from suite.cases import PROFILES, Axes, Case, expand
from suite.environment import ENGINE

#: What asv varies, by the names of the JSON contract; the last one becomes the columns of ``asv show``.
PARAMETERS = ("recipe", "variant", "device", "dtype", "layout", "height", "width", "batch")

#: Blocks of every case: asv's test of two commits finds nothing with six, whatever the difference.
BLOCKS = 7

#: Seconds that a session may take: the full profile's timing, and as much again.
_SESSION = 4 * 3600

#: What of a measurement the methods need; every one of them reads all that is kept.
_KEPT = (
    "status", "reason", "known", "missing", "samples", "calls", "batch", "seconds_first", "allocations",
    "allocated_bytes", "peak_bytes", "retained_bytes", "input_changed", "max_abs_error",
)  # fmt: skip


class Cases:
    """Benchmarks of the cases of a profile, for a file in ``benchmarks/`` to derive from.

    ``class NumPy(asv.Cases, runtime="numpy")`` has the shipped variants of one runtime; a class without `runtime` has
    the variants that its own file registers, and takes `batches`, `sizes`, `dtypes` and `layouts` as `suite.select`
    does. The profile is named by ``COPYCOST_PROFILE`` (quick); ``COPYCOST_DEVICE`` chooses a device, and
    ``COPYCOST_OPTIONS`` by other options of `copycost run`. What is not chosen, is skipped, or is known to be wrong
    here is n/a, with the reason on standard error; what is wrong, raised or crashed without being known for it fails.
    """

    #: Figures of two ways of measuring are not one series; a file that was formatted anew is no other way.
    version = str(ENGINE)
    timeout = 60.0
    param_names = PARAMETERS
    params: ClassVar[list[list[Any]]]

    def __init_subclass__(
        cls,
        runtime: str | None = None,
        *,
        batches: Sequence[int | None] = (),
        sizes: Sequence[tuple[int, int]] = (),
        dtypes: Sequence[str] = (),
        layouts: Sequence[str] = (),
    ) -> None:
        registry.load_shipped()
        if runtime is None:
            its = [v for v in registry.variants.values() if getattr(v.prepare, "__module__", None) == cls.__module__]
        else:
            registry.check_name("runtime", runtime, registry.runtimes())
            its = [v for v in registry.variants.values() if v.runtime == runtime and registry.ships(v.source)]
        if not its:
            raise registry.RegistrationError(f"{cls.__module__} registers no variant before its class {cls.__name__}")
        for v in its:
            registry.check_name("recipe", v.recipe, registry.recipes)
        recipes = {name: r for name, r in registry.recipes.items() if any(v.recipe == name for v in its)}
        axes = PROFILES[profile()].axes
        if runtime is None:
            # A file of somebody's own says what it computes; of what ships, the profile chooses.
            axes = Axes(
                tuple(map(glob.escape, recipes)),
                tuple(batches) or axes.batches,
                tuple(sizes) or axes.sizes,
                registry.words(dtypes) or axes.dtypes,
                registry.words(layouts) or axes.layouts,
            )
        cls.params = _parameters(expand(axes, its, recipes))
        if runtime is None:
            options = [
                *_each("--with", [str(sys.modules[cls.__module__].__file__)]),
                *_each("--recipe", axes.recipes),
                *_each("--variant", dict.fromkeys(glob.escape(v.name) for v in its)),
                *_each("--batch", ("none" if batch is None else str(batch) for batch in axes.batches)),
                *_each("--size", (f"{height}x{width}" for height, width in axes.sizes)),
                *_each("--dtype", axes.dtypes),
                *_each("--layout", axes.layouts),
            ]

            # asv runs one `setup_cache` for all that have it from one line of one module: this session is this file's.
            def setup_cache(*_: object) -> dict[str, Any]:
                return session(options)

            setup_cache.__module__ = cls.__module__
            setup_cache.timeout = _SESSION  # type: ignore[attr-defined]
            cls.setup_cache = setup_cache  # type: ignore[method-assign, assignment]

    def setup_cache(self) -> dict[str, Any]:
        """Measure everything that ships, once for all classes."""
        return session([])

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


def session(options: Iterable[str]) -> dict[str, Any]:
    """Measure with the suite that is installed here, which is that of the commit.

    Parameters
    ----------
    options : iterable of str
        Of `copycost run`, beside those that the environment variables give.

    Returns
    -------
    dict
        ``rows``: parameters of a case → what was measured; ``missing``: why there is nothing, or None.

    Raises
    ------
    RuntimeError
        If the variables are not what `copycost run` takes, or the suite of the commit breaks down.
    """
    commit = os.environ.get("ASV_COMMIT", "")[:8] or "now"
    kept = os.environ.get("COPYCOST_RUNS")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{commit}-", dir=kept or os.getcwd())
    _check(chosen())
    arguments = ["--profile", profile(), "--blocks", str(BLOCKS), *options, *chosen(), "--out", folder]
    # The command and its document are what every commit has in common: today's classes measure what a commit of last
    # year computes, as long as it has both.
    done = subprocess.run(
        [sys.executable, "-m", "suite", "run", *arguments, "--json", "run.json"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    last = " ".join(done.stderr.strip().splitlines()[-1:])
    if done.returncode == 2 or "No module named" in last:
        return {"rows": {}, "missing": f"this commit's suite does not measure so: {last}"}
    if done.returncode not in (0, 1) or not Path("run.json").exists():
        raise RuntimeError(f"`copycost run {shlex.join(arguments)}` ended with {done.returncode}:\n{done.stderr}")
    document = json.loads(Path("run.json").read_text())
    engine = document["environment"]["engine"]
    if engine != ENGINE:
        return {"rows": {}, "missing": f"this commit measures with engine {engine}; these benchmarks are of {ENGINE}"}
    rows = {tuple(m[name] for name in PARAMETERS): {name: m[name] for name in _KEPT} for m in document["measurements"]}
    return {"rows": rows, "missing": None}


def profile() -> str:
    """The profile that ``COPYCOST_PROFILE`` names."""
    name = os.environ.get("COPYCOST_PROFILE") or "quick"
    registry.check_name("COPYCOST_PROFILE", name, PROFILES)
    return name


def chosen() -> list[str]:
    """The options of `copycost run` that ``COPYCOST_DEVICE`` and ``COPYCOST_OPTIONS`` stand for."""
    device = os.environ.get("COPYCOST_DEVICE")
    if device:
        registry.check_name("COPYCOST_DEVICE", device, registry.DEVICES)
    return [*_each("--device", filter(None, [device])), *shlex.split(os.environ.get("COPYCOST_OPTIONS", ""))]


def _check(options: list[str]) -> None:
    """Raise RuntimeError for what no commit can do: it is a mistake, and not a commit's age."""
    import click

    from suite.cli import run

    try:
        given = run.make_context("run", list(options)).params
    except click.ClickException as error:
        raise RuntimeError(f"COPYCOST_OPTIONS: {error.format_message()}") from None
    axes = PROFILES[profile()].axes
    for name, values in (
        ("batch", axes.batches), ("size", axes.sizes), ("dtype", axes.dtypes), ("layout", axes.layouts)
    ):  # fmt: skip
        for value in given[name]:
            if value not in values:
                raise RuntimeError(f"COPYCOST_OPTIONS: profile {profile()} has no {name} {value}; it has {values}")


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _parameters(cases: list[Case]) -> list[list[Any]]:
    """The values that each parameter takes over the cases; asv has the product of them."""
    rows = [
        (c.recipe.name, c.variant.name, c.device, c.dtype, c.layout, c.height, c.width, c.batch) for c in cases
    ]  # fmt: skip
    return [list(dict.fromkeys(values)) for values in zip(*rows, strict=True)]


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
