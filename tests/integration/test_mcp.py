"""`copycost mcp`: a client asks for a verdict as a coding assistant does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
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
