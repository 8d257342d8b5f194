"""One HTML file per run, complete without a network: what each region got, and why."""

from regiolect.report.digest import digest_line, markdown_digest, write_digest
from regiolect.report.layers import layers_of
from regiolect.report.page import render, write_report
from regiolect.report.summary import figures, markdown_plan, markdown_table, release_line

__all__ = [
    "digest_line",
    "figures",
    "layers_of",
    "markdown_digest",
    "markdown_plan",
    "markdown_table",
    "release_line",
    "render",
    "write_digest",
    "write_report",
]
