"""Mistakes in the ports of the examples are found and placed; `tests.calibration.port_faults` studies all of them.

Nothing here is simulated: each mistake stands in a copy of an example, which real workers load and the shipped check
judges.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.calibration.port_fault import EXAMPLES
from tests.calibration.port_fault_catalogue import FAULTS
from tests.calibration.port_faults import piece_of, summarise
from tests.calibration.port_planting import PLAIN, REFUSED, PortPlanter, Verdict
from tests.meta.faults.runner import is_installed

BY_ID = {fault.id: fault for fault in FAULTS}
LEAST_FAULTS = 60
TRIED = {
    "transformer, jax: the first two heads of the query swapped": "disagrees",
    "gru, jax: no gradient through time": "disagrees",
    'mobilenet, tensorflow: "same" where a stride is': "disagrees",
    "transformer, pytorch: GELU by tanh": "disagrees",
    "unet, jax: transposed convolutions without bias": REFUSED,
}


@pytest.fixture(scope="module")
def planter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortPlanter]:
    if not all(map(is_installed, PLAIN)):
        pytest.skip(f"not all installed: {', '.join(PLAIN)}")
    with PortPlanter(tmp_path_factory.mktemp("ports")) as planter:
        yield planter


def test_the_catalogue_has_every_example_and_enough_faults() -> None:
    assert len(BY_ID) == len(FAULTS) >= LEAST_FAULTS
    examples = {path.parent.name for path in EXAMPLES.glob("*/port.toml")}
    assert {(fault.example, fault.framework) for fault in FAULTS} == {
        (example, framework) for example in examples for framework in PLAIN
    }


@pytest.mark.parametrize("name", BY_ID)
def test_every_text_stands_once_in_its_file(name: str) -> None:
    fault = BY_ID[name]
    for file, there, _ in fault.edits:
        folder = EXAMPLES.parents[1] if file.startswith("impls/") else EXAMPLES / fault.example
        assert (folder / file).read_text().count(there) == 1, there


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.thorough
def test_a_planted_fault_is_found_and_placed(planter: PortPlanter, name: str) -> None:
    verdict = planter.plant(BY_ID[name])
    assert verdict.outcome == TRIED[name]
    assert BY_ID[name].is_placed(verdict.said), verdict.said


@pytest.mark.thorough
def test_the_unharmed_copy_agrees(planter: PortPlanter) -> None:
    assert planter.ask("unet").outcome == "ok"


def test_the_study_counts_what_it_finds() -> None:
    fault = BY_ID["gru, jax: no gradient through time"]
    placed = piece_of(fault.id, Verdict("disagrees", "gradient of 'gru.hh_l1.weight'"), fault)
    elsewhere = piece_of("b", Verdict("disagrees", "loss"), fault)
    missed = piece_of("c", Verdict("ok", ""), fault)
    refused = piece_of("d", Verdict(REFUSED, "weights without a counterpart: gru"), fault)
    accused = piece_of("gru: as it is", Verdict("disagrees", "outputs"), None)
    found = summarise([placed, elsewhere, missed, refused, accused])
    assert (found["planted"], found["found"], found["placed"]) == (4, 3, 2)
    assert (found["overlooked"], found["accused"]) == (["c"], ["gru: as it is"])
    assert found["misplaced"] == [{"name": "b", "first_difference": "loss"}]
    assert found["kinds"] == {"gradient": {"planted": 4, "found": 3, "placed": 2}}
