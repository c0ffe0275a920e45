"""CPU against GPU on the page: which sizes both have, where the GPU overtakes, and what stands in the gaps."""

import re

import pytest

from harness.core.spec import DenseSpec
from harness.report import render
from harness.report.devices import crossings
from harness.results import NoiseFloor
from tests.unit.device_samples import JIT, result, with_card

CPU = {1: 1e-4, 8: 8e-4, 64: 6e-3}


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ({1: 5e-4, 8: 5e-4, 64: 6e-4}, "the GPU overtakes between batch size 1 and 8"),
        ({1: 5e-5, 8: 1e-4, 64: 6e-4}, "the GPU is ahead from batch size 1 on"),
        ({1: 1e-2, 8: 1e-2, 64: 1e-2}, "the CPU is ahead up to batch size 64"),
        ({1: 1.001e-4, 8: 8.01e-4, 64: 6.01e-3}, "no size tells them apart"),
        ({1: 5e-5, 8: 1e-3, 64: 7e-3}, "the GPU is ahead at batch size 1, and the CPU again at 64"),
        ({1: None, 8: None, 64: None}, "no size has a time on both"),
        ({1: 5e-4, 8: None, 64: 6e-4}, "the GPU overtakes between batch size 1 and 64"),
    ],
)
def test_where_the_gpu_overtakes_is_said_as_far_as_intervals_tell(gpu, said):
    (crossing,) = crossings([result("cpu", CPU), result("gpu", gpu)])
    assert said in crossing.sentence(JIT)


def test_the_ratio_holds_both_runs_spread():
    (crossing,) = crossings([result("cpu", {1: 2e-3}), result("gpu", {1: 1e-3})])
    middle, low, high = crossing.points[JIT][0].ratio
    assert middle == pytest.approx(2.0)
    # Each is within 2 %, so the ratio is within the root of 2 times that.
    assert high / middle == pytest.approx(1.02**1.4142, rel=1e-3)
    assert low * high == pytest.approx(middle**2)


def test_what_only_one_device_has_is_not_compared():
    assert crossings([result("cpu", CPU)]) == []
    assert crossings([result("cpu", CPU), result("gpu", CPU, step="training")]) == []
    assert crossings([result("cpu", CPU), result("gpu", CPU, name="pytorch:eager")]) == []
    (crossing,) = crossings([result("cpu", CPU), result("gpu", {8: 1e-3, 16: 1e-3})])
    assert [point.size for point in crossing.points[JIT]] == [8]


def test_each_card_has_a_curve_of_its_own():
    h100, h200 = (result("gpu", {1: 1e-4, 64: time_s}) for time_s in (1e-3, 5e-4))
    h100.machine, h200.machine = ({**h100.machine, "gpu": {"name": name}} for name in ("H100", "H200"))
    # A size that one card alone has is not lent to the other.
    h200.cases.pop(0)
    found = crossings([result("cpu", CPU), h100, h200])
    assert [(crossing.card, [point.size for point in crossing.points[JIT]]) for crossing in found] == [
        ("H100", [1, 64]),
        ("H200", [64]),
    ]
    page = render([("cpu", result("cpu", CPU)), ("gpu", h100), ("other", h200)])
    assert "H100</small></h3>" in page
    assert "H200</small></h3>" in page


def test_square_products_are_one_curve_over_their_rows():
    sizes = {64: 1e-4, 1024: 5e-2}
    results = [
        result(device, {size: time * factor}, DenseSpec((size, size)))
        for size, time in sizes.items()
        for device, factor in (("cpu", 1.0), ("gpu", 2.0 if size == 64 else 0.01))
    ]
    (crossing,) = crossings(results)
    assert crossing.sentence(JIT) == "the GPU overtakes between rows and columns 64 and 1,024"


def test_the_page_shows_both_devices_with_a_chart_and_gaps_that_say_why():
    page = render([("cpu.json", result("cpu", CPU)), ("gpu.json", result("gpu", {1: 5e-4, 8: 5e-4, 64: None}))])
    assert 'href="#devices"' in page
    section = page.split('id="devices"')[1]
    assert "the GPU overtakes between batch size 1 and 8" in section
    assert "out of memory" in section
    assert "CPU over GPU" in section
    assert '"x1"' in page


def test_the_page_says_how_the_card_ran_what_its_memory_held_and_its_own_time():
    page = " ".join(re.sub("<[^>]*>", "", render([("gpu.json", with_card(result("gpu", {1: 5e-4})))])).split())
    assert "1,200 to 1,980 MHz; 41 to 63 °C; throttled by power limit (2 rounds); 1 process of others on it" in page
    assert "300 MiB, 900 MiB" in page
    assert "400 µs" in page


def test_the_words_for_disturbed_rounds_name_the_card_where_one_was_read():
    found = result("gpu", {1: 5e-4})
    at = found.cases[0].parsed_workload().name
    found.noise_floors = [NoiseFloor(workload=at, resolvable=1.03, twins={}, disturbed=0.25, noisy=False)]
    said = "Disturbed by other work, as the kernel accounts for it"
    assert f"{said}: 25.0 % of the rounds" in render([("gpu", found)])
    page = render([("gpu", with_card(found))])
    assert f"{said}, or by the card's own throttling: 25.0 % of the rounds" in page
    assert "disturbed by other work or by the card&#39;s own throttling" in page


def test_a_page_of_one_device_has_no_such_section():
    assert 'id="devices"' not in render([("cpu.json", result("cpu", CPU))])


def test_records_that_hold_no_workload_are_left_out():
    broken = result("gpu", CPU)
    broken.cases[0].workload = {"model": "nothing"}
    (crossing,) = crossings([result("cpu", CPU), broken])
    assert [point.size for point in crossing.points[JIT]] == [8, 64]
