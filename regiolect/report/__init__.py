"""One HTML file per run, complete without a network: what each region got, and why."""

from regiolect.report.page import render, write_report
from regiolect.report.summary import figures, markdown_table

__all__ = ["figures", "markdown_table", "render", "write_report"]
