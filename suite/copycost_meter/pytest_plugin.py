"""Provide the option ``--copycost`` of pytest, and the marker `copycost`.

The marker limits what a test may request, and the option lists what tests have requested. The rest of the package is
imported only by tests that need it, since pytest imports this module wherever it is installed.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from copycost_meter.call_count import CallCount
    from copycost_meter.counting import OneCall
    from copycost_meter.host_allocations import Recording

#: Size of a tracker's file, in bytes, after which it is read and a new one is begun.
_LONGEST_FILE = 2**28

#: Key under which a process of pytest-xdist passes its rows on.
_ROWS = "copycost"

#: Maximum number of tests that the summary lists, unless pytest is given ``-vv``.
_MOST_ROWS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define ``--copycost``."""
    parser.getgroup("copycost").addoption(
        "--copycost",
        action="store_true",
        help="List what each test requests from the allocator, its copies of its arrays, and the arrays that it "
        "changes; of a test with pytest-benchmark, those of a call that it measures.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and prepare for counts."""
    config._copycost_counts = _Counts()  # type: ignore[attr-defined]  # what is for plugins came with pytest 7
    config.addinivalue_line(
        "markers",
        "copycost(max_bytes=None, max_copies=None, unchanged=False): fail the test if it requests more bytes, makes "
        "more copies as large as the largest array that it is given, or changes an array that it is given.",
    )


class _Counts:
    """The counts of the tests of this process, and the tracker that stays on from test to test.

    Attributes
    ----------
    rows : list of (str, dict)
        Identifier of each test, and what the summary shows of it.
    stays : bool
        Whether a tracker may stay on between tests.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.stays = False
        self._recording: Recording | None = None
        self._recorded: list[tuple[str, OneCall, frozenset[str]] | None] = []  # None for a call that has failed

    def add(self, item: pytest.Function, count: CallCount) -> None:
        """Add the count of a test."""
        written = frozenset() if _is_benchmark(item) else _written(item.function)
        self.rows.append((item.nodeid, _row(count, written)))

    def call(self, item: pytest.Function, function: Callable[[], Any], arrays: dict[str, Any]) -> Any:
        """Make a test's call, and have it counted when the tracker ends. A fault of the meter fails no test."""
        from copycost_meter.counting import OneCall
        from copycost_meter.host_allocations import Recording

        one: OneCall | None = None
        missing: str | None = None
        try:
            one = OneCall(item.name, arrays)
            if one.missing is None and self._recording is None:
                self._recording = Recording()
        except Exception as error:  # another tracker is active, or a fixture has replaced what the meter needs
            missing = str(error) or type(error).__name__
        if one is None or one.missing is not None or missing is not None or self._recording is None:
            result = function()
            self._end(item, one, missing)
            return result
        self._recorded.append(None)
        result = self._recording.call(function)
        if self._end(item, one, None):
            self._recorded[-1] = item.nodeid, one, _written(item.function)
        return result

    def _end(self, item: pytest.Function, one: OneCall | None, missing: str | None) -> bool:
        """Compare the arrays of a test, and return whether its requests are counted later."""
        from copycost_meter.call_count import CallCount

        try:
            if one is not None:
                one.end()
                one.missing = one.missing or missing
                if one.missing is None:
                    return True
                self.add(item, one.counted((), None))
                return False
        except Exception as error:  # a test has made one of its arrays unreadable
            missing = f"its arrays cannot be compared: {type(error).__name__}"
        self.add(item, CallCount.unknown(item.name, missing or "it is not known"))
        return False

    def read(self, size: int = 0) -> None:
        """End the tracker, if it is on and has recorded so many bytes, and add the counts of its calls."""
        recording, recorded = self._recording, self._recorded
        if recording is None or (size and recording.nbytes < size):
            return
        self._recording, self._recorded = None, []
        try:
            traces = recording.end()
        except Exception as error:  # a test has deleted the file
            for name, one, written in filter(None, recorded):
                one.missing = f"the counts are lost: {type(error).__name__}"
                self.rows.append((name, _row(one.counted((), None), written)))
            return
        for call, (events, kept_bytes) in zip(recorded, traces):
            if call is not None:
                name, one, written = call
                self.rows.append((name, _row(one.counted(events, kept_bytes), written)))


def _counts(config: pytest.Config) -> _Counts:
    counts: _Counts = config._copycost_counts  # type: ignore[attr-defined]
    return counts


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the tracker stay on between tests, unless a test module uses memray or copycost, or a plugin memray."""
    modules = {getattr(item, "module", None) for item in session.items}
    named = {
        getattr(value, "__module__", None) or getattr(value, "__name__", "")
        for module in modules
        for value in vars(module or object).values()
    }
    uses = any(str(name).partition(".")[0] in ("memray", "copycost", "copycost_meter") for name in named)
    _counts(session.config).stays = "memray" not in sys.modules and not uses


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Read a long file between two tests, when no fixture of a test is active."""
    yield
    _counts(item.config).read(_LONGEST_FILE)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker on a test that cannot be counted: its limits would never be checked."""
    if not _may_record(item):
        _counts(item.config).read()  # the test or its fixtures may need the instrument, or be timed
    if item.get_closest_marker("copycost") is None:
        return
    reason = None
    if not isinstance(item, pytest.Function) or (item.cls is not None and issubclass(item.cls, unittest.TestCase)):
        reason = "it is no test function of pytest"
    elif inspect.iscoroutinefunction(item.obj):
        reason = "it is a coroutine"
    elif "copycost" in item.fixturenames:
        reason = "it uses the fixture copycost, which counts a call itself"
    if reason is not None:
        pytest.fail(f"the marker copycost cannot limit this test: {reason}", pytrace=False)


def _may_record(item: pytest.Item) -> bool:
    """Return whether a test is one that is counted while the tracker stays on."""
    return (
        isinstance(item, pytest.Function)
        and not (item.cls is not None and issubclass(item.cls, unittest.TestCase))
        and not inspect.iscoroutinefunction(item.obj)
        and item.get_closest_marker("copycost") is None
        and not {"copycost", "benchmark"} & set(item.fixturenames)
    )


@pytest.hookimpl(hookwrapper=True)  # which every version of pluggy knows
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Count what a test requests, if the option or a marker asks for it."""
    marker = pyfuncitem.get_closest_marker("copycost")
    function = pyfuncitem.obj
    if (
        not (marker or pyfuncitem.config.getoption("copycost"))
        or "copycost" in pyfuncitem.fixturenames  # the fixture has the instruments itself
        or inspect.iscoroutinefunction(function)
    ):
        yield
        return

    @functools.wraps(function)
    def counted(**arguments: Any) -> Any:
        return _counted(pyfuncitem, function, arguments, _limits(marker))

    pyfuncitem.obj = counted
    try:
        yield
    finally:
        pyfuncitem.obj = function


def _limits(marker: pytest.Mark | None) -> dict[str, Any]:
    """Return the limits of a marker, or fail the test if it has others than there are."""
    limits = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and (marker.args or not limits or limits.keys() - {"max_bytes", "max_copies", "unchanged"}):
        given = ", ".join([*map(repr, marker.args), *limits]) or "nothing"
        pytest.fail(f"the marker copycost is given {given}: expected max_bytes, max_copies or unchanged", pytrace=False)
    return limits


def _counted(item: pytest.Function, function: Callable[..., Any], arguments: dict[str, Any], limits: Any) -> Any:
    """Call a test, and count it."""
    from copycost_meter.arrays import found_arrays
    from copycost_meter.counting import count_once

    counts = _counts(item.config)
    found: list[CallCount] = []
    if _is_benchmark(item):
        # The test itself is not traced, as its calls are timed.
        if "benchmark" in arguments:
            arguments = {**arguments, "benchmark": _Benchmark(arguments["benchmark"], found.append)}
        result = function(**arguments)
        if limits and not found:
            pytest.fail("its limits cannot be checked: no call of its benchmark was counted", pytrace=False)
    elif counts.stays and not limits:
        return counts.call(item, lambda: function(**arguments), found_arrays(arguments))
    else:
        result, count = count_once(item.name, lambda: function(**arguments), found_arrays(arguments))
        found.append(count)
    for count in found:
        counts.add(item, count)
        if failures := _failures(count, limits):
            pytest.fail(f"{'; '.join(failures)}\n{count}", pytrace=False)
    return result


def _is_benchmark(item: pytest.Function) -> bool:
    """Return whether a test has the fixture of pytest-benchmark."""
    return type(item.funcargs.get("benchmark")).__module__.partition(".")[0] == "pytest_benchmark"


class _Benchmark:
    """The fixture of pytest-benchmark, which also has a call counted after it was timed."""

    def __init__(self, benchmark: Any, record: Callable[[CallCount], None]) -> None:
        vars(self).update(_benchmark=benchmark, _record=record)

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from copycost_meter.counting import count

        result = self._benchmark(function, *args, **kwargs)
        self._count(function, lambda: count(function, *args, **kwargs))
        return result

    def pedantic(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        from copycost_meter.arrays import found_arrays, parameters_of
        from copycost_meter.counting import count, count_once, name_of

        def counted() -> CallCount:
            if setup is None and teardown is None:
                return count(target, *args, **(kwargs or {}))
            own_args, own_kwargs = (setup() if setup is not None else None) or (args, kwargs or {})
            arrays = found_arrays(parameters_of(target, own_args, own_kwargs))
            found = count_once(name_of(target), lambda: target(*own_args, **own_kwargs), arrays)[1]
            if teardown is not None:
                teardown(*own_args, **own_kwargs)
            return found

        result = self._benchmark.pedantic(target, args, kwargs, setup, teardown, *more, **options)
        self._count(target, counted)
        return result

    def _count(self, function: Callable[..., Any], counted: Callable[[], CallCount]) -> None:
        """Count a call, whose failure does not fail a test that has passed."""
        from copycost_meter.call_count import CallCount
        from copycost_meter.counting import name_of
        from copycost_meter.errors import describe

        try:
            self._record(counted())
        except Exception as error:
            self._record(CallCount.unknown(name_of(function), f"counting {describe(error)}"))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._benchmark, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._benchmark, name)


def _row(count: CallCount, written: frozenset[str]) -> dict[str, Any]:
    """Return what the summary shows of a test, in types that pytest-xdist can pass on.

    Parameters
    ----------
    count : CallCount
    written : frozenset of str
        Variables that the test itself writes to. A change of their arrays is not listed.
    """
    return {
        "allocated_bytes": count.allocated_bytes, "peak_bytes": count.peak_bytes, "copies": count.copies,
        "changed": [name for name in count.changed if re.split(r"[\[.]", name)[0] not in written],
        "missing": count.missing,
    }  # fmt: skip


def _written(function: Callable[..., Any]) -> frozenset[str]:
    """Return the variables whose arrays the lines of a function write to, by an index or an operator."""
    import ast  # a session without the option needs neither
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # its source is not known
        return frozenset()
    names = set()
    for node in ast.walk(tree):
        places = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        for place in places:
            base: ast.expr = place
            while isinstance(base, (ast.Subscript, ast.Attribute)):
                base = base.value
            if isinstance(base, ast.Name) and (base is not place or isinstance(node, ast.AugAssign)):
                names.add(base.id)
    return frozenset(names)


def _failures(count: CallCount, limits: dict[str, Any]) -> list[str]:
    """Return what a test does beyond its limits, and why a limit cannot be checked."""
    from copycost_meter import numbers

    failures = []
    if limits and count.missing is not None:
        failures.append(f"its limits cannot be checked: {count.missing}")
    elif limits.keys() & {"max_copies", "unchanged"} and not count.largest_bytes:
        failures.append("max_copies and unchanged need an array among the arguments of the test or of its benchmark")
    max_bytes, max_copies = limits.get("max_bytes"), limits.get("max_copies")
    if max_bytes is not None and count.allocated_bytes is not None and count.allocated_bytes > max_bytes:
        failures.append(
            f"it requests {numbers.count(count.allocated_bytes)} bytes, more than {numbers.count(max_bytes)}"
        )
    if max_copies is not None and count.copies is not None and count.copies > max_copies:
        failures.append(f"copies of its largest array: {count.copies}, more than {max_copies}")
    if limits.get("unchanged") and count.changed:
        failures.append(f"it changes {', '.join(count.changed)}")
    return failures


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Read what is left, and pass the rows of a process of pytest-xdist on."""
    counts = _counts(session.config)
    counts.read()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_ROWS] = counts.rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the rows of a process of pytest-xdist that has ended."""
    _counts(node.config).rows += [tuple(row) for row in getattr(node, "workeroutput", {}).get(_ROWS, ())]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the tests that request most, and all that change an array."""
    config = terminalreporter.config
    if not config.getoption("copycost"):
        return
    rows = _counts(config).rows
    if not rows:
        return
    from copycost_meter import numbers

    rows.sort(key=lambda row: (not row[1]["changed"], -(row[1]["allocated_bytes"] or 0)))
    changing = sum(bool(row["changed"]) for _, row in rows)
    shown = rows if config.option.verbose > 1 else rows[: max(_MOST_ROWS, changing)]
    write = terminalreporter.write_line
    terminalreporter.write_sep("=", "copycost: requests of 4,096 bytes and more")
    write(f"{'requested':>10}  {'peak':>10}  {'copies':>6}  test")
    for name, row in shown:
        cells = (numbers.size(row["allocated_bytes"]), numbers.size(row["peak_bytes"]), numbers.count(row["copies"]))
        remark = f", changes {', '.join(row['changed'])}" if row["changed"] else ""
        reason = f" ({row['missing']})" if row["missing"] else ""
        write(f"{cells[0]:>10}  {cells[1]:>10}  {cells[2]:>6}  {name}{remark}{reason}")
    if len(shown) < len(rows):
        write(f"and {len(rows) - len(shown):,} more tests: pytest -vv lists them")
