"""Devices by name: which card a worker sees, which modes there are on it, and one line for what cannot be."""

import dataclasses

import pynvml
import pytest

from faceoff.commands.inventory import _seen, _told
from faceoff.core.errors import DeviceError, InputError
from faceoff.core.spec import DEVICES, Contender
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import all_contenders, parse_contenders, parse_frameworks
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine import cards
from faceoff.machine.cards import find_cards, open_card
from faceoff.machine.visible_cards import visible_cards
from faceoff.pool import devices
from faceoff.pool.devices import Answer, device_name, parse_device, resolve_device
from faceoff.pool.environment import worker_environment
from faceoff.results.costs import CardInfo
from faceoff.run.options import make_options
from faceoff.workloads.presets import PRESETS


@pytest.fixture(autouse=True)
def no_cards_shown(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("text", "found"), [("cpu", ("cpu", 0)), ("auto", ("auto", 0)), ("gpu", ("gpu", 0)), ("gpu:3", ("gpu", 3))]
)
def test_a_device_is_read(text, found):
    assert parse_device(text) == found
    assert device_name(*found) == text


def test_cards_that_the_shell_hides_stay_hidden(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match=r"no such GPU.*CUDA_VISIBLE_DEVICES= shows no more"):
        parse_device("gpu")
    # Nobody is started to find that out.
    monkeypatch.setattr(devices, "Pool", None)
    device, told = resolve_device("auto", 0, ["jax"], Configuration())
    assert device == "cpu"
    assert "CUDA_VISIBLE_DEVICES= shows no more" in told
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES= shows no more"):
        resolve_device("gpu", 0, ["jax"], Configuration())


@pytest.mark.parametrize(
    "text", ["", "tpu", "gpu:", "gpu:-1", "gpu:x", "cpu:0", "gpu:1:2", "gpu:²", "gpu:" + "9" * 5000, "GPU"]
)
def test_what_is_no_device_is_refused(text):
    with pytest.raises(InputError, match="unknown device"):
        parse_device(text)


def environment(tmp_path, device, card=0):
    return worker_environment(Contender("jax", "jit"), 1, tmp_path, device=device, card=card)


def test_a_worker_sees_one_card_alone_and_on_the_cpu_none(tmp_path):
    assert environment(tmp_path, "gpu", 2)["CUDA_VISIBLE_DEVICES"] == "2"
    assert environment(tmp_path, "gpu", 2)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment(tmp_path, "cpu")["CUDA_VISIBLE_DEVICES"] == ""


def test_tensorflow_s_settings_for_a_processor_do_not_reach_its_process_on_a_card(tmp_path):
    def found(device):
        return worker_environment(Contender("tensorflow", "tuned"), 1, tmp_path, device=device)

    assert found("cpu")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert found("gpu")["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_cards_are_counted_among_those_that_the_shell_shows(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-abc")
    assert environment(tmp_path, "gpu", 1)["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    # What CUDA does not show either, as it stops at -1.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc,-1,2")
    with pytest.raises(InputError, match=r"gpu:2, expected 0 to 1, as CUDA_VISIBLE_DEVICES=5,GPU-abc,-1,2"):
        parse_device("gpu:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(InputError, match="gpu:0, expected none, as CUDA_VISIBLE_DEVICES=-1 shows no more"):
        parse_device("gpu")
    assert visible_cards("cpu", 7) == ""


def test_modes_that_one_device_lacks_are_not_offered_there():
    cpu, gpu = ({str(contender) for contender in all_contenders(device)} for device in ("cpu", "gpu"))
    assert gpu - cpu == {"pytorch:cuda-graphs", "jax:cudnn"}
    assert cpu - gpu == {"tensorflow:graph-onednn"}
    assert Contender("pytorch", "cuda-graphs") in parse_contenders(["pytorch"], device="gpu")
    with pytest.raises(InputError, match="not on the cpu"):
        parse_contenders(["jax:cudnn"])
    with pytest.raises(InputError, match=r"not on the cpu.*; running on the CPU, as jax sees no GPU"):
        parse_contenders(["jax:cudnn"], notice="running on the CPU, as jax sees no GPU")


def test_who_takes_part_on_request_is_named_or_asked_for_by_a_preset(tmp_path):
    asked = {name for name in FRAMEWORKS if FRAMEWORKS[name].on_request}
    assert asked == {"opencl", "cuda", "triton"}
    assert not asked & {contender.framework for device in DEVICES for contender in all_contenders(device)}
    assert {contender.framework for contender in parse_contenders(["opencl"])} == {"opencl"}
    assert asked & {c.framework for c in parse_contenders([], everybody=True)} == {"opencl"}
    assert asked <= {c.framework for c in parse_contenders([], device="gpu", everybody=True)}
    assert asked <= set(parse_frameworks([], everybody=True))
    named = {
        preset: {c.framework for c in make_options("bench", preset=preset, out=tmp_path / preset).contenders} & asked
        for preset in PRESETS
    }
    assert {preset: found for preset, found in named.items() if found} == {"kernels": {"opencl"}}


def test_a_framework_without_a_mode_on_the_device_is_not_replaced_by_everybody():
    with pytest.raises(InputError, match=r"not on the cpu; got 'cuda', expected a device on which it has a mode"):
        parse_contenders(["cuda"])
    with pytest.raises(InputError, match=r"not on the cpu; got 'triton:blocked'.*; as it sees none"):
        parse_contenders(["triton:blocked", "jax"], notice="as it sees none")


def test_frameworks_are_read_from_contenders():
    assert parse_frameworks(["jax:jit", "pytorch", "jax:tuned"]) == ("jax", "pytorch")
    assert parse_frameworks([]) == ("pytorch", "tensorflow", "jax")
    with pytest.raises(InputError, match="unknown framework"):
        parse_frameworks(["theano:eager"])


def answering(monkeypatch, cards=(), **answers):
    """What frameworks say of a GPU, and the driver's cards; lists who was asked."""
    asked = []

    def ask(names, device, configuration, card):
        asked.append((device, card))
        return {name: answers[name] for name in names}

    monkeypatch.setattr(devices, "ask_frameworks", ask)
    monkeypatch.setattr(devices, "find_cards", lambda: (list(cards), "" if cards else "no driver"))
    return asked


SEES, LACKS = Answer({"device": "H100"}, "ok", ""), Answer({}, "unsupported", "sees no GPU")
MISSING = Answer({}, "missing", "no module")


def test_auto_takes_the_gpu_where_every_framework_that_is_there_sees_it(monkeypatch):
    answering(monkeypatch, pytorch=SEES, jax=SEES, tensorflow=MISSING)
    assert resolve_device("auto", 0, ["pytorch", "jax", "tensorflow"], Configuration()) == ("gpu", "running on the GPU")


def test_auto_takes_the_cpu_and_says_why_where_one_lacks_it(monkeypatch):
    answering(monkeypatch, pytorch=SEES, jax=LACKS)
    device, notice = resolve_device("auto", 0, ["pytorch", "jax"], Configuration())
    assert device == "cpu"
    assert "jax: sees no GPU" in notice


def test_a_gpu_that_none_sees_is_one_line_with_what_each_framework_said(monkeypatch):
    asked = answering(monkeypatch, pytorch=LACKS, jax=LACKS)
    with pytest.raises(DeviceError, match=r"no GPU 3; got pytorch: sees no GPU; jax: sees no GPU; use --device cpu"):
        resolve_device("gpu", 3, ["pytorch", "jax"], Configuration())
    assert asked == [("gpu", 3)]


def test_a_gpu_that_one_sees_will_do(monkeypatch):
    asked = answering(monkeypatch, pytorch=SEES, jax=LACKS)
    assert resolve_device("gpu", 0, ["pytorch", "jax"], Configuration()) == ("gpu", "")
    assert asked == [("gpu", 0)]


def test_frameworks_are_not_started_to_ask_for_a_card_that_the_driver_shows(monkeypatch):
    shown = [CardInfo(name="H200", driver="580", cuda_driver="13.0", compute_capability="9.0")]
    asked = answering(monkeypatch, shown, pytorch=LACKS, jax=LACKS)
    assert resolve_device("gpu", 0, ["pytorch", "jax"], Configuration()) == ("gpu", "")
    assert asked == []
    with pytest.raises(DeviceError, match="no GPU 1; got pytorch: sees no GPU"):
        resolve_device("gpu", 1, ["pytorch", "jax"], Configuration())
    # One that no framework can use is nothing to take by itself.
    assert resolve_device("auto", 0, ["pytorch", "jax"], Configuration())[0] == "cpu"
    assert asked == [("gpu", 1), ("gpu", 0)]


class Driver:
    """Answers as NVIDIA's driver does, for one card; what is not set is not supported, as on a partition of a card."""

    def __init__(self, monkeypatch, **answers):
        self.answers, self.open = answers, 0
        for name in dir(pynvml):
            if name.startswith("nvml") and callable(getattr(pynvml, name)):
                monkeypatch.setattr(cards.pynvml, name, self._call(name))

    def _call(self, name):
        def call(*arguments):
            if name == "nvmlInit":
                self.open += 1
                return None
            if name == "nvmlShutdown":
                self.open -= 1
                return None
            if name not in self.answers:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            answer = self.answers[name]
            return answer(*arguments) if callable(answer) else answer

        return call


class Memory:
    total = 80 * 2**30


class Process:
    pid, usedGpuMemory = 4711, 2**30


def test_a_card_says_what_it_is_and_how_it_runs(monkeypatch):
    driver = Driver(
        monkeypatch,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName="NVIDIA H100",
        nvmlDeviceGetUUID="GPU-12ab",
        nvmlSystemGetDriverVersion="580.1",
        nvmlSystemGetCudaDriverVersion_v2=13000,
        nvmlDeviceGetCudaComputeCapability=(9, 0),
        nvmlDeviceGetMemoryInfo=Memory(),
        nvmlDeviceGetEnforcedPowerLimit=700_000,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x01 | 0x04 | 0x40,
        nvmlDeviceGetComputeRunningProcesses=[Process()],
        nvmlDeviceGetClockInfo=lambda handle, kind: 1500 if kind == pynvml.NVML_CLOCK_SM else 2600,
        nvmlDeviceGetTemperature=lambda handle, kind: 61,
    )
    with open_card("gpu", 0) as card:
        assert card.describe().model_dump() == {
            "name": "NVIDIA H100",
            "uuid": "GPU-12ab",
            "driver": "580.1",
            "cuda_driver": "13.0",
            "compute_capability": "9.0",
            "memory_bytes": 80 * 2**30,
            "power_limit_w": 700.0,
            "most_clock_mhz": 1980,
        }
        reading = card.read()
    # Idle is why a clock need not be higher, not why it could not.
    assert reading.throttled == ("power limit", "temperature (hardware)")
    assert reading.disturbed
    # Where large products let a card live.
    assert not dataclasses.replace(reading, throttled=("power limit",)).disturbed
    assert (reading.clock_mhz, reading.memory_clock_mhz, reading.temperature_c) == (1500, 2600, 61)
    assert reading.process_bytes == {4711: 2**30}
    assert driver.open == 0


def test_a_card_that_tells_next_to_nothing_is_a_card_all_the_same(monkeypatch):
    Driver(monkeypatch, nvmlDeviceGetHandleByUUID=lambda name: name, nvmlDeviceGetCount=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    with open_card("gpu", 0) as card:
        assert card.describe().memory_bytes is None
        reading = card.read()
    assert (reading.throttled, reading.clock_mhz, reading.disturbed) == (None, None, False)
    use = cards.use_of_card([reading, reading], 1, [1])
    assert (use.clock_mhz, use.temperature_c, use.throttled) == (None, None, None)


def test_a_driver_that_lacks_a_function_is_no_traceback(monkeypatch):
    def lacks(*arguments):
        raise pynvml.NVMLLibraryMismatchError("Unversioned function called")

    Driver(monkeypatch, nvmlDeviceGetHandleByIndex=0, nvmlDeviceGetMemoryInfo=lacks, nvmlDeviceGetClockInfo=lacks)
    with open_card("gpu", 0) as card:
        assert card.describe().memory_bytes is None
        assert card.read().clock_mhz is None
    monkeypatch.setattr(cards.pynvml, "nvmlInit", lacks)
    with open_card("gpu", 0) as card:
        assert card is None
    assert "no NVIDIA driver answers (Unversioned" in find_cards()[1]


def test_cards_are_numbered_as_they_can_be_asked_for(monkeypatch):
    Driver(
        monkeypatch,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCount=4,
        nvmlDeviceGetName=lambda handle: f"card {handle}",
    )
    assert [card.name for card in find_cards()[0]] == ["card 0", "card 1", "card 2", "card 3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert [card.name for card in find_cards()[0]] == ["card 3", "card 1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_cards() == ([], "the driver shows no card that CUDA_VISIBLE_DEVICES= names")


def test_a_card_that_cannot_be_opened_keeps_its_number(monkeypatch):
    def opened(index):
        if index == 7:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return f"handle {index}"

    Driver(
        monkeypatch,
        nvmlDeviceGetHandleByIndex=opened,
        nvmlDeviceGetCount=2,
        nvmlDeviceGetName=lambda handle: f"card of {handle}",
        nvmlDeviceGetUUID=lambda handle: {"handle 0": "GPU-aaaa-1", "handle 1": "GPU-abbb-2"}[handle],
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,1")
    lost, found = find_cards()[0]
    assert lost is None
    assert found.name == "card of handle 1"
    assert [_told(card) for card in (None, found.model_dump())] == ["the driver cannot open it", "card of handle 1"]
    asked = answering(monkeypatch, (lost, found), pytorch=LACKS)
    with pytest.raises(DeviceError, match="no GPU"):
        resolve_device("gpu", 0, ["pytorch"], Configuration())
    assert resolve_device("gpu", 1, ["pytorch"], Configuration()) == ("gpu", "")
    assert asked == [("gpu", 0)]


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("GPU-abb", ["card 1"]),  # CUDA takes a beginning that only one card has.
        ("GPU-a", [None]),
        ("²", [None]),
        ("\udcff", [None]),
    ],
)
def test_cards_are_found_by_the_beginning_of_their_name(monkeypatch, shown, names):
    Driver(
        monkeypatch,
        nvmlDeviceGetHandleByIndex=lambda index: f"card {index}",
        nvmlDeviceGetCount=2,
        nvmlDeviceGetName=lambda handle: handle,
        nvmlDeviceGetUUID=lambda handle: {"card 0": "GPU-aaaa-1", "card 1": "GPU-abbb-2"}[handle],
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [card and card.name for card in find_cards()[0]] == names


def test_what_a_framework_sees_is_told_with_its_libraries_or_those_it_was_built_for():
    loaded = {"device": "gpu: H100", "cuda": "12.9", "cudnn": "9.10.2"}
    assert _seen(loaded) == "yes: gpu: H100 (CUDA 12.9, cuDNN 9.10.2)"
    built = {"device": ["/device:CPU:0", "/device:GPU:0"], "built_for_cuda": "12.5", "cuda": None}
    assert _seen(built) == "yes: /device:CPU:0, /device:GPU:0 (built for CUDA 12.5)"


def test_without_a_driver_there_is_no_card_and_a_reason(monkeypatch):
    def refuse():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(cards.pynvml, "nvmlInit", refuse)
    with open_card("gpu", 0) as card:
        assert card is None
    found, reason = find_cards()
    assert found == []
    assert "no NVIDIA driver answers" in reason


def test_on_the_cpu_no_driver_is_asked(monkeypatch):
    driver = Driver(monkeypatch)
    with open_card("cpu", 0) as card:
        assert card is None
        assert driver.open == 0
