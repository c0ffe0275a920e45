"""One suite for every framework in every mode: what `faceoff check` asks, through a real worker, in float32.

Float32 is what most users time; `faceoff check` asks in the widest dtype.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from faceoff.conformance.checks import OF_EACH_MODEL, OF_ONE_MODEL, Subject, is_asked, name_of
from faceoff.core.spec import Contender
from faceoff.frameworks.contenders import all_contenders
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.workloads.presets import PRESETS
from tests.conftest import SLOW_TO_COMPILE


# What breaks one model alone is rare; the residual one has most parts, and what compiles slowly takes a minute for it.
def is_tried_always(contender: Contender, model: str) -> bool:
    return model == ("dense" if str(contender) in SLOW_TO_COMPILE else "residual")


# With the scope of the module, pytest puts the tests of one contender and model together, so that they share a model.
PAIRS = [
    pytest.param(
        (contender, sized), id=f"{contender}-{sized.model.kind}",
        marks=() if is_tried_always(contender, sized.model.kind) else pytest.mark.thorough,
    )
    for contender in all_contenders()
    for sized in PRESETS["small"].sized
]  # fmt: skip


@pytest.fixture(scope="module", params=PAIRS)
def subject(request: pytest.FixtureRequest, every_worker: Pool) -> Subject:
    contender, sized = request.param
    error = every_worker.failures.get(contender)
    if error and error.outcome == "missing":
        pytest.skip(str(error))
    framework = FRAMEWORKS[contender.framework]
    return Subject(framework, contender, partial(every_worker.worker, contender), sized, "float32")


@pytest.mark.parametrize("check", OF_EACH_MODEL, ids=name_of)
def test_it_keeps_what_it_promises(subject: Subject, check: Callable[[Subject], None]) -> None:
    assert is_asked(check, subject.framework)
    check(subject)


@pytest.mark.parametrize("check", OF_ONE_MODEL, ids=name_of)
def test_it_keeps_what_it_promises_of_no_model(
    worker: Worker, contender: Contender, every_worker: Pool, check: Callable[[Subject], None]
) -> None:
    framework = FRAMEWORKS[contender.framework]
    check(Subject(framework, contender, partial(every_worker.worker, contender), PRESETS["small"].sized[0], "float32"))


def test_it_says_which_framework_and_which_threads_are_in_force(worker: Worker, contender: Contender) -> None:
    text = json.dumps(worker.start_reply["settings"])
    assert FRAMEWORKS[contender.framework].module in text
    assert "thread" in text


def test_it_loads_no_other_framework(worker: Worker, contender: Contender) -> None:
    """Read from the process itself: which shared libraries the kernel has mapped into it."""
    mapped = Path(f"/proc/{worker.process_id}/maps").read_text()
    markers = {"pytorch": "libtorch_cpu", "tensorflow": "libtensorflow", "jax": "jaxlib/"}
    assert markers[contender.framework] in mapped
    for framework, marker in markers.items():
        if framework != contender.framework:
            assert marker not in mapped
