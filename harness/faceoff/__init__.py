"""Face-off: do deep-learning frameworks compute the same models, which is faster here, and how sure is that?

From Python: `compare`, `agree`, `bench` run and return a `faceoff.results.records.Result`; `compile_only` compiles
what `compare` does; `load` reads a result file, `diff` says what changed between two, `between_environments` what
differs between two parts of one. `assert_agrees` is a whole test of a port of your own model, `record` names a value in
one.
"""

from typing import TYPE_CHECKING, Any

from faceoff.core.recorded import record

if TYPE_CHECKING:
    from faceoff.api import agree, assert_agrees, bench, between_environments, compare, compile_only, diff, load

__all__ = [
    "agree", "assert_agrees", "bench", "between_environments", "compare", "compile_only", "diff", "load", "record",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # On first use only: a worker imports this package too, in an interpreter that may have nothing but NumPy.
    if name in __all__:
        from faceoff import api

        return getattr(api, name)
    raise AttributeError(f"module 'faceoff' has no attribute {name!r}")
