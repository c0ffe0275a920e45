"""Two environments of the same frameworks in one result, as two sides of a comparison.

Both were timed in turn in the same passes, so that what the machine did meanwhile hit both.
"""

from __future__ import annotations

from collections.abc import Sequence

from faceoff.core.errors import InputError, ResultFileError
from faceoff.core.spec import AT, Contender
from faceoff.results.records import CaseResult, ContenderInfo, Result

# Those of `Result` whose records belong to a contender.
LISTS = ("contenders", "agreements", "cases", "tuned_settings", "cold_starts", "training_runs", "gradient_norms")


def environment_of(contender: str) -> str:
    """The environment in the name of a contender; empty for the usual one."""
    return contender.partition(":")[0].partition(AT)[2]


def without_environment(contender: str) -> str:
    """`framework@environment:mode` as `framework:mode`."""
    label, colon, mode = contender.partition(":")
    return label.partition(AT)[0] + colon + mode


def with_environment(contender: str, environment: str) -> str:
    """`framework:mode` as it is called in an environment."""
    parsed = Contender.parse(contender)
    return f"{parsed.framework}{AT}{environment}:{parsed.mode}" if environment else contender


def parse_pair(text: str) -> tuple[str, str]:
    """`BEFORE` or `BEFORE,AFTER` as two environments; the second is the usual one, empty, unless named."""
    before, comma, after = text.partition(",")
    if not before or before == after or "," in after or (comma and not after):
        raise InputError(
            "not one or two environments", where="--env", got=repr(text), expected="BEFORE, or BEFORE,AFTER"
        )
    return before, after


def sides_of(result: Result, before: str, after: str, where: str) -> tuple[Result, Result]:
    """The records of either environment, each as if it were a result by itself, under the names without environments.

    Args:
        result: holds both.
        before, after: environments; empty is the usual one.
        where: what to name in an error.

    Raises:
        ResultFileError: no contender is there in both.
    """
    names = [info.contender for info in result.contenders]
    plain = [{without_environment(n) for n in names if environment_of(n) == part} for part in (before, after)]
    common = plain[0] & plain[1]
    if not common:
        found = ", ".join(dict.fromkeys(environment_of(name) or "the usual one" for name in names))
        raise ResultFileError(
            "no contender in both environments", where=where, got=f"environments: {found or 'none'}",
            expected=f"{before} and {after or 'the usual one'}",
            next_step="name both in one run, such as --contenders NAME@ENVIRONMENT:MODE,NAME:MODE",
        )  # fmt: skip
    first, second = (
        result.model_copy(
            update={
                "comparisons": [], "tuned": [], "break_evens": [],
                **{name: _renamed(getattr(result, name), part, common) for name in LISTS},
            }
        )
        for part in (before, after)
    )  # fmt: skip
    return first, second


def _renamed(records: Sequence[ContenderInfo], environment: str, common: set[str]) -> list[ContenderInfo]:
    found = []
    for record in records:
        name = without_environment(record.contender)
        if environment_of(record.contender) == environment and name in common:
            update = {"contender": name}
            if isinstance(record, CaseResult):
                update["name"] = record.name.replace(f"[{record.contender}]", f"[{name}]")
            found.append(record.model_copy(update=update))
    return found
