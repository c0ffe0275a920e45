"""What makes up the mode `tuned` of each framework, setting by setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.spec import DEVICES, MODEL_KINDS, STEPS, Contender, Workload
from harness.core.tuning import BACKWARD, ONE_TANH, does
from harness.machine.processor import is_amd_with_avx2


@dataclass(frozen=True)
class Setting:
    """One of them.

    Args:
        name: as in the mode `tuned-without-NAME`.
        what: it does, in words.
        variables: of the worker's environment.
        models: the kinds of model that it has a part in.
        steps: likewise.
        devices: likewise.
    """

    name: str
    what: str
    variables: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = MODEL_KINDS
    steps: tuple[str, ...] = STEPS
    devices: tuple[str, ...] = DEVICES

    def has_part_in(self, workload: Workload) -> bool:
        """Whether it changes anything about the step of this workload."""
        return workload.step in self.steps and workload.model.kind in self.models and workload.device in self.devices


# Fewer page faults in every training step.
ALLOCATOR = Setting(
    "allocator",
    "freed memory stays with the process, large blocks lie on huge pages",
    {
        "GLIBC_TUNABLES": ":".join(
            (
                "glibc.malloc.mmap_threshold=4294967296",
                "glibc.malloc.trim_threshold=4294967296",
                "glibc.malloc.top_pad=67108864",
                "glibc.malloc.hugetlb=1",
            )
        )
    },
)
_MKL = Setting("mkl-avx2", "MKL is told that an AMD processor has AVX2", {"MKL_CBWR": "AVX2"}, devices=("cpu",))
_ONEDNN = Setting("onednn", "oneDNN's kernels", {"TF_ENABLE_ONEDNN_OPTS": "1"}, devices=("cpu",))
_BACKWARD = "backward pass through time by hand, one matrix product for each weight's gradient"
# Of itself XLA makes graphs (command buffers) of what lies between convolutions.
_CONVOLUTIONS = Setting(
    "convolutions-in-graphs",
    "convolutions are launched in one CUDA graph with what lies between them",
    {"XLA_FLAGS": "--xla_gpu_enable_command_buffer=+CONVOLUTION"},
    models=("residual",),
    devices=("gpu",),
)
_LEARNING = ("gradients", "training")


def settings_of(framework: str) -> tuple[Setting, ...]:
    """The settings of a framework's mode `tuned` on this machine's processor."""
    settings = {
        # On a GPU cuDNN's own backward pass is the faster one.
        "pytorch": (_MKL, Setting(BACKWARD, _BACKWARD, models=("rnn",), steps=_LEARNING, devices=("cpu",))),
        "tensorflow": (_ONEDNN,),
        "jax": (
            Setting(BACKWARD, _BACKWARD, models=("rnn", "lstm"), steps=_LEARNING),
            # XLA makes fewer kernels for a GPU of a function for each gate.
            Setting(ONE_TANH, "one tanh for all gates", models=("lstm",), devices=("cpu",)),
            _CONVOLUTIONS,
        ),
    }.get(framework, ())
    return tuple(s for s in (ALLOCATOR, *settings) if s is not _MKL or is_amd_with_avx2())


def settings_in_force(contender: Contender, workload: Workload) -> list[Setting]:
    """Those that a contender has and that change anything about the step of a workload."""
    settings = settings_of(contender.framework)
    return [s for s in settings if does(contender.mode, s.name) and s.has_part_in(workload)]


def variables_of(framework: str, left_out: str, device: str) -> dict[str, str]:
    """The environment variables of a framework's mode `tuned` on a device, without one of its settings."""
    settings = [s for s in settings_of(framework) if s.name != left_out and device in s.devices]
    return {name: value for setting in settings for name, value in setting.variables.items()}
