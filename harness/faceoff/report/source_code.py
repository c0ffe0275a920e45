"""The model files of the frameworks next to each other, highlighted, so that a reader sees what was compared."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from faceoff.core.spec import MODEL_KINDS
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.report.words import KIND_TITLES, contender_names
from faceoff.results.records import Result
from faceoff.run.sources import digest, read_source, source_path


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        code: highlighted, safe HTML.
        changed: it is no longer what it was when the result was made; None when the result does not say.
    """

    framework: str
    path: str
    code: Markup
    changed: bool | None


def source_code(result: Result) -> list[tuple[str, list[Source]]]:
    """The title of each model of a result, with its file in every framework of the result and in the reference."""
    workloads = [check.workload for check in result.agreements] + [case.workload for case in result.cases]
    kinds = [model.get("kind") for workload in workloads if isinstance(model := workload.get("model"), dict)]
    named = dict.fromkeys(name.partition(":")[0] for name in contender_names(result))
    # An environment that has its framework's own files shows nothing new.
    frameworks = list({source_path(name, "dense"): name for name in named if name in FRAMEWORKS}.values())
    found = []
    for kind in MODEL_KINDS:
        if kind in kinds and frameworks:
            sources = [_source(result, framework, kind) for framework in (*frameworks, "reference")]
            found.append((KIND_TITLES[kind], [source for source in sources if source is not None]))
    return found


def _source(result: Result, framework: str, kind: str) -> Source | None:
    path = source_path(framework, kind)
    text = read_source(path)
    if text is None:
        return None
    recorded = result.sources.get(path)
    changed = None if recorded is None else recorded != digest(text)
    code = highlight(text, PythonLexer(), HtmlFormatter(nowrap=True, classprefix="py-"))
    return Source(framework, path, Markup(code), changed)
