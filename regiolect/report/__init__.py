"""One HTML file per run, complete without a network: what each region got, and why."""

from regiolect.report.page import figures, markdown_table, write_report

__all__ = ["figures", "markdown_table", "write_report"]
