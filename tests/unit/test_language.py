"""What people read is plain technical English: docstrings, help, messages' sources and the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from copycost.cli.app import cli

ROOT = Path(__file__).parents[2]

#: Turns of phrase that have a plain equivalent.
BANNED = re.compile(
    r"""
    \b(is|are|was)\ told\b | \btells\ of\b | \blook(s|ed)?\ into\b | \bgone\ on\ with\b | \bwhat\ is\ so\b
    | \bnobody's\b | \bof\ (an?\ user|asv|copycost|NumPy|TensorFlow)'s(?=[,.;:)]|\ (and|is|or|that|which)\b)
    | \bis\ no\ (name|number|path|folder|run)\b
    | \b(to|can|could|cannot)\ be\ had\b | \bwhatever\ it\b | \bone\ reads\b | \bin\ turn\b
    """,
    re.VERBOSE,
)

#: Pages that quote what other people write.
QUOTING = ("docs/results/folklore.md", "docs/results/claims-results.md")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def commands(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of all below it."""
    for word, command in group.commands.items():
        with click.Context(command, info_name=f"{name} {word}") as context:
            yield f"{name} {word}", command.get_help(context)


@pytest.mark.parametrize("path", sorted((ROOT / "suite").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_are_plain(path: Path) -> None:
    found = [
        f"line {line}: {said[0]!r}"
        for line, text in docstrings(path)
        if (said := BANNED.search(" ".join(text.split())))
    ]
    assert not found


def test_help_is_plain_and_ends_its_sentences() -> None:
    for name, text in commands(cli, "copycost"):
        assert not BANNED.search(" ".join(text.split())), name


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pages_are_plain(path: Path) -> None:
    if str(path.relative_to(ROOT)) in QUOTING:
        pytest.skip("it quotes what other people write")
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not [match[0] for match in BANNED.finditer(" ".join(text.split()))]
