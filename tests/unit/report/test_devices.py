"""CPU against GPU on the page: which sizes both have, where the GPU overtakes, and what stands in the gaps."""

import csv
import io
import math
import re

import pytest
import vl_convert

from faceoff.core.spec import DenseSpec, LstmSpec
from faceoff.report import render, to_csv
from faceoff.report.charts import time_axis
from faceoff.report.choose import choose
from faceoff.report.devices import crossings
from faceoff.report.overview import MOST_WORKLOADS
from faceoff.report.speed import speed_groups
from faceoff.report.words import identify
from faceoff.results.records import NoiseFloor, Process
from tests.unit.pool.device_samples import JIT, joined, result, with_card
from tests.unit.report.html_tree import parse
from tests.unit.report.pages import chart_rows, charts_of

TIMES = {"cpu": 1e-3, "gpu": 1e-4}
CPU = {1: 1e-4, 8: 8e-4, 64: 6e-3}


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ({1: 5e-4, 8: 5e-4, 64: 6e-4}, "the GPU overtakes between batch size 1 and 8"),
        ({1: 5e-5, 8: 1e-4, 64: 6e-4}, "the GPU is ahead from batch size 1 on"),
        ({1: 1e-2, 8: 1e-2, 64: 1e-2}, "the CPU is ahead up to batch size 64"),
        ({1: 1.001e-4, 8: 8.01e-4, 64: 6.01e-3}, "no size tells them apart"),
        ({1: 5e-5, 8: 1e-3, 64: 7e-3}, "the GPU is ahead from batch size 1, the CPU from 8 on"),
        ({1: None, 8: None, 64: None}, "no size has a time on both"),
        ({1: 5e-4, 8: None, 64: 6e-4}, "the GPU overtakes between batch size 1 and 64"),
        ({1: 5e-4, 8: 1e-4, 64: 7e-3}, "the CPU is ahead from batch size 1, the GPU from 8, the CPU from 64 on"),
        ({1: 5e-5, 8: None, 64: None}, "the GPU is ahead at batch size 1, the only size with a time on both"),
        (
            {1: 5e-5, 8: 1e-4, 64: None},
            "the GPU is ahead from batch size 1 on, the smallest told apart (beyond 8 there is no time on both)",
        ),
    ],
)
def test_where_the_gpu_overtakes_is_said_as_far_as_intervals_tell(gpu, said):
    (crossing,) = crossings([result("cpu", CPU), result("gpu", gpu)])
    assert said in crossing.sentence(crossing.points[JIT])


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


def test_each_processor_with_so_many_threads_has_a_curve_of_its_own():
    two, one, other = result("cpu", CPU), result("cpu", {1: 2e-4}), result("cpu", {1: 3e-4})
    one.threads, other.machine = 1, {"processor": "another CPU"}
    found = crossings([two, one, result("gpu", {1: 1e-4}), other, result("cpu", {8: 9e-4})])
    assert [(crossing.processor, crossing.points[JIT][0].cpu.times[0]) for crossing in found] == [
        ("a CPU, 2 threads", 1e-4),
        ("a CPU, 1 thread", 2e-4),
        ("another CPU, 2 threads", 3e-4),
    ]
    page = render([("two", two), ("one", one), ("gpu", result("gpu", {1: 1e-4}))])
    assert "a CPU, 1 thread, against" in page


def pytorch():
    """PyTorch on both devices: of three modes two are there on one alone."""
    on_cpu = joined(result("cpu", CPU, name="pytorch:eager"), result("cpu", {1: 5e-5, 8: 9e-4}, name="pytorch:compile"))
    modes = {"pytorch:eager": {1: 2e-4, 8: 2e-4}, "pytorch:cuda-graphs": {1: 1e-4, 8: None}}
    return on_cpu, joined(*(result("gpu", times, name=name) for name, times in modes.items()))


def test_the_fastest_modes_of_a_framework_are_held_against_each_other():
    (crossing,) = crossings(pytorch())
    assert list(crossing.points) == ["pytorch:eager"]
    points = crossing.fastest["pytorch"]
    assert [(point.size, point.cpu.mode, point.gpu.mode) for point in points] == [
        (1, "compile", "cuda-graphs"),
        (8, "eager", "eager"),
    ]
    assert crossing.modes(points) == "CPU: compile, eager; GPU: cuda-graphs, eager"
    assert crossing.sentence(points) == "the GPU overtakes between batch size 1 and 8"


def test_a_mode_of_the_gpu_alone_is_held_against_what_the_cpu_has():
    (crossing,) = crossings([result("cpu", CPU), result("gpu", {1: 5e-5}, name="jax:cudnn")])
    assert crossing.points == {}
    assert [(point.cpu.mode, point.gpu.mode) for point in crossing.fastest["jax"]] == [("jit", "cudnn")]
    # Two modes without a time are a gap that says why.
    (crossing,) = crossings([result("cpu", CPU), result("gpu", {1: None}, name="jax:cudnn")])
    assert crossing.modes(crossing.fastest["jax"]) == "CPU: jit; GPU: none"
    assert crossing.fastest["jax"][0].gpu.gap == "out of memory"


def test_the_page_names_the_fastest_modes_with_a_chart_and_a_table():
    page = parse(render(list(zip(("cpu", "gpu"), pytorch(), strict=True))))
    section = page.by_id("devices")
    said = [item.text for item in section.all("li")]
    assert said[1].startswith("pytorch, fastest mode (CPU: compile, eager; GPU: cuda-graphs, eager): the GPU overtakes")
    rows = section.all("table")[1].rows()
    assert rows[1][:4] == ["pytorch, fastest mode", "1", "50.0 µs compile", "100 µs cuda-graphs"]
    shown = chart_rows(charts_of(page)["x1-fastest"])
    assert {row["contender"] for row in shown} == {"pytorch, fastest mode"}


def test_what_is_too_many_for_a_chart_each_stands_in_a_table():
    models = [LstmSpec(64, 256, 10, steps) for steps in range(1, MOST_WORKLOADS + 3)]
    both = [joined(*(result(device, {1: time_s}, model) for model in models)) for device, time_s in TIMES.items()]
    section = parse(render(list(zip(TIMES, both, strict=True)))).by_id("devices")
    assert len(section.all("article")) == MOST_WORKLOADS
    assert "2 more in the table:" in section.text
    (table,) = [table for table in section.all("table") if table.rows()[0] == ["Workload", "Who", "Which is ahead"]]
    assert len(table.rows()) == 3
    assert table.rows()[1][0].startswith(f"LSTM inference {MOST_WORKLOADS + 1} steps")
    assert table.rows()[1][1:] == [JIT, "the GPU is ahead at batch size 1, the only size with a time on both"]


def test_the_axes_say_units_and_the_largest_size():
    sizes = [2**power for power in range(17)]
    page = parse(render([(device, result(device, dict.fromkeys(sizes, time_s))) for device, time_s in TIMES.items()]))
    axes = charts_of(page)["x1-points"]["layer"][0]["encoding"]
    assert axes["x"]["axis"]["values"] == [2, 64, 2048, 65536]
    assert axes["y"]["title"] == "per call"
    picture = vl_convert.vegalite_to_svg(charts_of(page)["x1-points"] | {"width": 500})
    assert all(f">{label}<" in picture for label in ("65,536", "100 µs", "200 µs", "1 ms"))


def test_square_products_are_one_curve_over_their_rows():
    sizes = {64: 1e-4, 1024: 5e-2}
    results = [
        result(device, {size: time * factor}, DenseSpec((size, size)))
        for size, time in sizes.items()
        for device, factor in (("cpu", 1.0), ("gpu", 2.0 if size == 64 else 0.01))
    ]
    (crossing,) = crossings(results)
    assert crossing.sentence(crossing.points[JIT]) == "the GPU overtakes between rows and columns 64 and 1,024"


def test_the_page_shows_both_devices_with_a_chart_and_gaps_that_say_why():
    page = render([("cpu.json", result("cpu", CPU)), ("gpu.json", result("gpu", {1: 5e-4, 8: 5e-4, 64: None}))])
    assert 'href="#devices"' in page
    section = page.split('id="devices"')[1]
    assert "the GPU overtakes between batch size 1 and 8" in section
    assert "out of memory" in section
    assert "LSTM inference <small>25 steps, 64 → 256 → 10, many-to-one; float32; a CPU, 2 threads, against" in section
    assert "CPU over GPU" in section
    assert '"x1-points"' in page
    # With a single mode there is no fastest of several.
    assert '"x1-fastest"' not in page


def test_the_page_says_how_the_card_ran_what_its_memory_held_and_its_own_time():
    found = with_card(result("gpu", {1: 5e-4}))
    found.cases[0].speed.latency_s = (5e-4, 6e-4, 7e-4)
    page = " ".join(re.sub("<[^>]*>", "", render([("gpu.json", found)])).split())
    said = "1,200 to 1,980 MHz; 41 to 63 °C; throttled by power limit (2 of 4 rounds); 1 process of others on it"
    assert said in page
    # Of four calls there is no 99th percentile.
    assert "500 / 600 / –" in page
    assert "300 MiB, 900 MiB" in page
    assert "Peak on the card" in page
    assert "Process in memory" not in page
    assert "between its events around a round of calls of which only the last is waited for" in page
    assert "waiting for launches included, over the number of calls: jax:jit 400 µs" in page


def test_the_head_names_the_card_and_its_facts_have_units():
    found = result("gpu", {1: 5e-4})
    found.machine = {"processor": "a CPU", "gpu": {"name": "NVIDIA H200", "power_limit_w": 700.0}}
    page = " ".join(re.sub("<[^>]*>", "", render([("gpu.json", found)])).split())
    assert "a CPU NVIDIA H200 2 threads" in page
    assert "GPU power limit, W700" in page


def test_the_batch_sizes_to_choose_by_end_where_somebody_ran_out_of_memory():
    found = joined(
        result("gpu", {1: 1e-3, 8: 2e-3, 64: None}), result("gpu", {1: 1e-3, 8: 2e-3, 64: 3e-3}, name="pytorch:eager")
    )
    assert choose(found, speed_groups(found), identify([found])).usual.batch == (1, 8)
    # Who never had a place keeps nobody else from one.
    found = joined(result("gpu", {1: None, 8: None}), result("gpu", {1: 1e-3, 8: 2e-3}, name="pytorch:eager"))
    assert choose(found, speed_groups(found), identify([found])).usual.batch == (1, 8)


def test_the_stages_of_a_call_from_host_memory_are_medians_in_a_table_and_in_the_csv():
    assert "from host memory to host memory" not in render([("cpu.json", result("cpu", CPU))])
    found = result("gpu", {1: 5e-4})
    told = [{"build": 0.5, "copy to device": 1e-5, "kernels": time_s, "whole": 6e-4} for time_s in (1e-4, 2e-4, 9e-4)]
    (case,) = found.cases
    case.speed.processes = [Process(passes=1, stages_s=stages) for stages in told]
    page = " ".join(re.sub("<[^>]*>", " ", render([("gpu.json", found)])).split())
    assert "Contender Build Copy to device Kernels Copy back Whole jax:jit 500 ms 10.0 µs 200 µs 600 µs" in page
    (row,) = csv.DictReader(io.StringIO(to_csv([("gpu.json", found)])))
    assert (row["stage_kernels_s"], row["stage_copy_to_device_s"], row["stage_copy_back_s"]) == ("0.0002", "1e-05", "")


def test_a_range_of_one_is_one_number():
    found = with_card(result("gpu", {1: 5e-4}))
    for process in found.cases[0].speed.processes:
        process.card.clock_mhz = (1980, 1980)
    assert "The GPU while this was timed: 1,980 MHz; 41 to 63 °C" in render([("gpu.json", found)])


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


def test_times_that_a_logarithm_does_not_take_are_left_out_of_the_labels():
    assert time_axis([0.0, -1.0, math.inf, 2e-3]).to_dict()["values"] == [1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2]
    assert time_axis([2e-6, 3e-3]).to_dict()["values"] == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
