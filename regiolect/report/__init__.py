"""One HTML file per run, complete without a network: what each region got, and why."""

from regiolect.report.page import markdown_table, write_report

__all__ = ["markdown_table", "write_report"]
