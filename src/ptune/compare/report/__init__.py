"""The report of a comparison: one page without network, Markdown in two languages, and JSON."""

from ptune.compare.report.markdown import markdown
from ptune.compare.report.page import page
from ptune.compare.report.write import write_report

__all__ = ["markdown", "page", "write_report"]
