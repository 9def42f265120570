"""The pytest fixture `copycost`: what a call allocates and does to its input, for a project's own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from copycost.model.measurement import Measurement


@pytest.fixture
def copycost() -> Callable[..., Measurement]:
    """``copycost(call, x, reference=None, out=None, runtime="numpy")`` returns a `copycost.Measurement`.

    It is not timed: a test should not depend on a machine's speed. A call that raises, or whose result is no array,
    fails the test: what became of its input is not known then, and `not m.input_changed` would pass. So does one that
    returns nothing and writes nothing.
    """
    from copycost.api import look  # only where a test asks for it

    def measured(call: Callable[..., Any], x: Any, **more: Any) -> Measurement:
        found = look(call, x, **more)
        if found.input_changed is None or (found.reason or "").startswith("returned nothing"):
            pytest.fail(str(found), pytrace=False)
        return found

    return measured
