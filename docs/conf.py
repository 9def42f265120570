"""Configuration of the documentation site: `make docs` builds it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "suite"))

from copycost._version import __version__  # noqa: E402
from copycost.catalog import discovery  # noqa: E402

discovery.load_shipped()  # as the command does: options list what ships

project = "copycost"
author = "the copycost developers"
copyright = "the copycost developers"
version = release = __version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx_click"]
exclude_patterns = ["examples"]
html_theme = "pydata_sphinx_theme"
html_title = "copycost"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Docstrings name modules and functions that are not part of the public interface.
nitpicky = False

# The site is built without a network: links into NumPy's and pandas' documentation are plain text.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
