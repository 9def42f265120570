"""Provide the pytest fixture `copycost`, which measures a call.

The option ``--copycost`` and the marker `copycost` are those of `copycost_meter.pytest_plugin`. copycost itself is
imported only by tests that use the fixture, since pytest imports this module wherever it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from copycost.model.measurement import Measurement


@pytest.fixture
def copycost() -> Callable[..., Measurement]:
    """Return ``copycost(call, x, reference=None, out=None, runtime="numpy")``, which measures a call without timing.

    The function returns a `copycost.Measurement`. The call is not timed, since a test must not depend on a machine's
    speed. A call that raises, or whose result is not an array, fails the test: its effect on the input is unknown, and
    ``not m.input_changed`` would pass. A call that returns nothing and writes nothing also fails the test.
    """
    from copycost.api import look  # only in tests that use the fixture

    def measured(call: Callable[..., Any], x: Any, **options: Any) -> Measurement:
        measurement = look(call, x, **options)
        if measurement.input_changed is None or (measurement.reason or "").startswith("returned nothing"):
            pytest.fail(str(measurement), pytrace=False)
        return measurement

    return measured
