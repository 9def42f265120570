"""Main loop of a worker: answer the session's requests."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

from copycost.engine.passes.timing import WrongResult
from copycost.model.errors import describe
from copycost.model.runtime import RuntimeUnavailable


def serve(connection: Any) -> None:
    """Answer the session's requests until it closes the connection.

    The first message is a job, whose ``start()`` returns the server. Each following request is a function of
    the server, with its other arguments. The answer is ``("ok", value, seconds)`` or
    ``("skipped" | "wrong" | "failed", reason, seconds)``.
    """
    server: Any = None
    process = os.getpid()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        start = perf_counter()
        try:
            if isinstance(request, tuple):
                method, args, kwargs = request
                answer: tuple[str, Any] = ("ok", method(server, *args, **kwargs))
            else:
                server = request.start()
                answer = ("ok", None)
        except RuntimeUnavailable as exception:
            answer = ("skipped", str(exception))
        except WrongResult as exception:
            answer = ("wrong", str(exception))
        except BaseException as exception:  # a variant may raise anything
            answer = ("failed", describe(exception))
        if os.getpid() != process:
            os._exit(0)  # a variant has forked, and the copy must not answer
        connection.send((*answer, perf_counter() - start))
