"""The Python interface; the commands are a thin layer over it.

`compare`, `agree` and `bench` take the keywords of `harness.options.make_options`, write `result.json`, `page.html` and
`logs/` into the output folder, and return the typed result. `load` reads such a file, `diff` compares two. All raise
InputError for anything that cannot be run or read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import report, result_file
from harness.diff_changes import diff
from harness.options import Options, make_options
from harness.result_file import load
from harness.results import Result
from harness.runs import run

__all__ = ["agree", "bench", "compare", "diff", "load"]

RESULT_NAME = "result.json"
PAGE_NAME = "page.html"


def compare(**keywords: Any) -> Result:
    """The main job: agreement, speed, training on real data, cold start."""
    return run_and_save(make_options("compare", **keywords))


def agree(**keywords: Any) -> Result:
    """Agreement with the reference only."""
    return run_and_save(make_options("agree", **keywords))


def bench(**keywords: Any) -> Result:
    """Speed of the contenders that agree, without training on real data and cold start."""
    return run_and_save(make_options("bench", **keywords))


def run_and_save(options: Options) -> Result:
    """Runs what `options` ask for and writes result file and page, also when it was interrupted."""
    whole = options.command == "compare"
    training = whole or options.training_steps is not None
    result = run(options, speed=options.command != "agree", training=training, cold_start=whole)
    result_file.save(result, options.out / RESULT_NAME)
    report.write_page([(options.out.name, result)], Path(options.out / PAGE_NAME))
    return result
