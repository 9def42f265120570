"""Hints on how to install something work for a reader who has a clone, since no index has a release of copycost."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from copycost.catalog import discovery

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

FILES = [
    path
    for folder, suffix in (("suite", "py"), ("docs", "md"), ("peers", "md"))
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
] + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_install_hint_names_the_clone_and_an_extra(path: Path) -> None:
    for hint in re.findall(r"pip install [^`\n]*", path.read_text()):
        assert not re.search(r"pip install '?copycost\b", hint), hint
        for option, extra in re.findall(r"(-e )?'\.\[(\w+)\]'", hint):
            assert option, f"{hint}: a clone is installed as editable, as make does"
            assert extra in EXTRAS, hint


@pytest.mark.parametrize("name", sorted(discovery.shipped_runtimes()))
def test_reason_for_a_missing_library_says_where_its_extra_is(name: str) -> None:
    hint = discovery.runtime(name).install
    assert hint == "pip install numpy" or re.fullmatch(r"pip install -e '\.\[\w+\]' in a clone of copycost", hint)
