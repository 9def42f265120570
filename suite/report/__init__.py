"""The report of one or more runs: a page and its figure. It sees measurements, and nothing of how they were taken."""

from suite.report.html import write_html

__all__ = ["write_html"]
