"""Main loop of a worker: answer the session's requests."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

from copycost.engine import messages
from copycost.engine.passes.timing import WrongResult
from copycost.model.runtime import RuntimeUnavailable
from copycost_meter.errors import describe


def serve(connection: Any) -> None:
    """Answer the session's requests until it closes the connection.

    A request is a pair of job numbers and what to do. The first request with a number brings a job, whose ``start()``
    returns its server. Each later one is a function of the server, with its other arguments. A request with several
    numbers is a function of a list of servers. The answer is ``("ok", value, seconds)`` or
    ``("skipped" | "wrong" | "failed", reason, seconds)``.
    """
    servers: dict[int, Any] = {}
    process = os.getpid()
    while True:
        try:
            numbers, request = connection.recv()
        except EOFError:
            return
        start = perf_counter()
        try:
            if not isinstance(request, tuple):
                servers[numbers] = request.start()
                answer: tuple[str, Any] = ("ok", None)
            else:
                method, args, kwargs = request
                is_joint = isinstance(numbers, tuple)
                receiver = [servers[number] for number in numbers] if is_joint else servers[numbers]
                answer = ("ok", method(receiver, *args, **kwargs))
        except RuntimeUnavailable as exception:
            answer = ("skipped", str(exception))
        except WrongResult as exception:
            answer = ("wrong", str(exception))
        except BaseException as exception:  # a variant may raise anything
            answer = ("failed", describe(exception))
        if os.getpid() != process:
            os._exit(0)  # a variant has forked, and the copy must not answer
        connection.send_bytes(messages.encode((*answer, perf_counter() - start)))
