"""A result as one HTML page that works offline, or as Markdown, CSV and pictures. Shows what the result holds."""

from harness.report.exports import to_csv, to_markdown, write_charts
from harness.report.page import render, write_page

__all__ = ["render", "to_csv", "to_markdown", "write_charts", "write_page"]
