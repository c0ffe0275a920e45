"""A result as one HTML page that works offline. The page shows what the result holds and computes nothing new."""

from harness.report.page import render, write_page

__all__ = ["render", "write_page"]
