"""What is run on a card: every part asks for what there is, in the order of its worth, and in time."""

import click
import pytest

from faceoff.agreement.check import Expected
from faceoff.agreement.timed_check import examples_compared
from faceoff.commands.cli import cli
from faceoff.core.errors import InputError
from faceoff.frameworks.contenders import parse_contenders
from faceoff.run.options import make_options
from faceoff.workloads.presets import PUBLISHED_V100_MS, choose
from faceoff.workloads.task import Task
from tests.benchmarks import handwritten
from tests.benchmarks.handwritten.__main__ import parse
from tests.calibration.on_a_gpu.__main__ import parse as parse_card
from tests.calibration.on_a_gpu.noise import Noise, compute, wanted_by
from tests.calibration.on_a_gpu.packing import unpack
from tests.calibration.on_a_gpu.plan import DEVICE, FIRST_SIX_S, PUBLISHED, plan
from tests.calibration.on_a_gpu.running import GRACE_S

FULL, SMALL = plan(), plan(rehearse=True)
FIRST = ["doctor", "agreement", "bench", "products", "product-bfloat16", "lstm"]
NEXT = ["sweep", "by-hand", "agreement-narrow", "verdicts"]


def commands(parts, device):
    """The parts that are commands of Face-off: name, command, and its options as it reads them."""
    for part in parts:
        if part.arguments[1] == "faceoff":
            words = [word.replace(DEVICE, device) for word in part.arguments[2:]]
            words = [word.replace(PUBLISHED, ",".join(PUBLISHED_V100_MS)) for word in words]
            command = cli.commands[words[0]]
            # Below the group, as in the shell: a command remembers the first help option that it was given.
            group = click.Context(cli, **cli.context_settings)
            yield part.name, words[0], command.make_context(words[0], words[1:], parent=group).params


def test_the_order_is_that_of_their_worth_and_the_first_six_fit_into_their_time():
    assert [part.name for part in FULL][: len(FIRST + NEXT)] == FIRST + NEXT
    assert sum(part.limit_s for part in FULL[: len(FIRST)]) <= FIRST_SIX_S
    assert all(part.limit_s >= 2 * GRACE_S for part in FULL)
    assert len({part.name for part in FULL}) == len(FULL)


def test_a_rehearsal_has_the_same_parts_with_the_same_limits():
    assert [(p.name, p.limit_s, p.resumes) for p in SMALL] == [(p.name, p.limit_s, p.resumes) for p in FULL]
    assert sum(small.arguments != full.arguments for small, full in zip(SMALL, FULL, strict=True)) >= len(FULL) - 2


@pytest.mark.parametrize(("parts", "device"), [(FULL, "gpu"), (SMALL, "cpu")], ids=["full", "rehearsal"])
def test_every_part_asks_for_models_and_contenders_that_there_are(parts, device):
    asked = 0
    for _, command, options in commands(parts, device):
        if command in ("agree", "bench"):
            sizes = (options["batch_size"], options["sequence_length"], options["hidden_size"])
            assert choose(options["preset"], options["models"], *sizes, options["workload"])
            assert parse_contenders(options["contenders"], device=options["device"])
            asked += 1
    assert asked == 12


def test_every_dtype_of_the_bars_is_checked_and_the_kernels_stand_beside_the_frameworks():
    found = {name: options for name, _, options in commands(FULL, "gpu")}
    assert {*found["agreement"]["dtype"], *found["agreement-narrow"]["dtype"]} == {
        "float32", "bfloat16", "float16", "tf32",
    }  # fmt: skip
    assert {"cuda", "opencl", "triton", "pytorch:eager", "jax:jit"} < set(found["products"]["contenders"])
    # Whoever is ended early has the largest.
    assert found["products"]["workload"][0] == "dense-4096-4096-b4096"
    assert found["sweep"]["batch_size"][-1] > 2**18
    with pytest.raises(InputError):
        parse_contenders(found["lstm"]["contenders"], device="cpu")


@pytest.mark.parametrize("parts", [FULL, SMALL], ids=["full", "rehearsal"])
def test_code_by_hand_is_asked_for_as_its_command_reads_it(parts):
    (part,) = [part for part in parts if part.arguments[1] == handwritten.__name__]
    asked = parse([word.replace(DEVICE, "cpu") for word in part.arguments[2:]])
    assert choose(asked.preset, asked.models)


def test_noise_is_computed_beforehand_of_what_the_commands_will_compare(tmp_path):
    foreseen, compared = set(wanted_by(SMALL, "cpu")), set()
    for _, command, words in commands(SMALL, "cpu"):
        if command in ("agree", "bench"):
            del words["as_json"], words["resume"]
            options = make_options(command, **{**words, "out": tmp_path})
            for workload in options.workloads:
                batch = workload.batch_size if command == "agree" else examples_compared(workload)
                part = workload.replace(batch_size=batch)
                compared |= {Noise(part, dtype, options.detail, options.seed) for dtype in options.dtypes}
    assert foreseen == compared
    assert {noise.workload.device for noise in wanted_by(FULL, "gpu")} == {"cpu", "gpu"}


def test_what_was_computed_beforehand_is_found_by_whoever_checks_agreement(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parts = [part for part in SMALL if part.name == "lstm"]
    asked = parse_card(["noise", "--folder", str(tmp_path / "card"), "--device", "cpu"])
    assert "noise of 2 of 2 checks" in compute(parts, asked, 2**30)
    assert unpack(tmp_path / "card" / "caches.zip", tmp_path / "caches") == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for noise in wanted_by(parts, "cpu"):
        expected = Expected(Task.seeded(noise.workload, noise.seed), noise.seed, detail=noise.detail)
        monkeypatch.setattr(expected, "_find_noise", lambda *_: pytest.fail("computed anew"))
        assert expected.noise(noise.dtype)["outputs"].rms > 0
