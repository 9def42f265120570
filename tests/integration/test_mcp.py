"""`copycost mcp`: a client asks for a verdict as a coding assistant does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from copycost.machine.confine import possible

pytest.importorskip("mcp", reason="mcp is not installed")


def ask(folder: Path, **arguments: Any) -> tuple[list[Any], Any]:
    """Return the tools of the server, and the answer to a call of `judge`."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async def session() -> tuple[list[Any], Any]:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "copycost", "mcp"], cwd=str(folder), env=dict(os.environ)
        )
        async with stdio_client(server) as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            tools = await client.list_tools()
            return tools.tools, await client.call_tool("judge", arguments)

    return asyncio.run(session())


def test_an_assistant_gets_one_tool_and_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "def before(x):\n    return x / 127.5 - 1\n\n\ndef after(x):\n    return x / 127.4 - 1\n"
    )
    tools, answer = ask(tmp_path, base="f.py::before", head="f.py::after", inputs=["2x64x64x3:float32"])
    assert [tool.name for tool in tools] == ["judge"]
    assert tools[0].annotations.readOnlyHint is ({"network", "files"} <= set(possible(tempfile.gettempdir())))
    assert not answer.isError
    found = json.loads(answer.content[0].text)
    assert found["verdict"] == "wrong"
    assert found["sentence"].startswith("off by up to")


def test_an_error_is_one_line(tmp_path: Path) -> None:
    _, answer = ask(tmp_path, base="f.py::before", head="f.py::after")
    assert answer.isError
    assert "no file f.py" in answer.content[0].text


#: A function whose time no measurement decides.
SLOW = """
import random
import time

def before(x):
    time.sleep(random.random() / 10)
    return x * 2
"""


def test_the_server_answers_while_it_judges_and_ends_what_is_cancelled(tmp_path: Path) -> None:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    (tmp_path / "slow.py").write_text(SLOW)
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    async def session() -> None:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "copycost", "mcp"], cwd=str(tmp_path),
            env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
        async with stdio_client(server) as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            question = {"base": "slow.py::before", "head": "slow.py::before", "seconds": 600}
            judgement = asyncio.create_task(client.call_tool("judge", question))
            while not list(temporary.glob("copycost-judge-*")):
                assert not judgement.done()
                await asyncio.sleep(0.05)
            async with asyncio.timeout(30):
                assert (await client.list_tools()).tools
                assert (await client.call_tool("judge", {"base": "f.py::f", "head": "f.py::f"})).isError
            assert not judgement.done()
            judgement.cancel()

    asyncio.run(session())
    end = time.monotonic() + 30
    while list(temporary.glob("copycost-*")):
        assert time.monotonic() < end
        time.sleep(0.05)
