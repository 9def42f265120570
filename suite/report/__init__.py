"""The report: a page of runs with its figure, and one of claims. It sees what was found, and nothing of how."""

from suite.report.html import FOLKLORE, INDEX, write_folklore, write_html

__all__ = ["FOLKLORE", "INDEX", "write_folklore", "write_html"]
