"""A result as one HTML page that works offline, or as Markdown, CSV and pictures. Shows what the result holds."""

import sys

from faceoff.core.errors import InputError

# Altair copies docstrings when it is imported.
if sys.flags.optimize > 1:
    raise InputError(
        "no charts can be drawn where Python leaves docstrings out",
        where="PYTHONOPTIMIZE, or -OO",
        got=sys.flags.optimize,
        expected="0 or 1",
        next_step="run `unset PYTHONOPTIMIZE`",
    )

from faceoff.report.exports import to_csv, to_markdown, write_charts
from faceoff.report.page import render, write_page

__all__ = ["render", "to_csv", "to_markdown", "write_charts", "write_page"]
