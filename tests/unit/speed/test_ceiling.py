"""Who sets the machine's best: every framework, but kernels that are written out only among themselves."""

from faceoff.core.spec import Contender
from faceoff.speed.ceiling import setting_the_best


def names(*contenders):
    return [str(contender) for contender in setting_the_best([Contender.parse(name) for name in contenders])]


def test_kernels_on_request_set_no_best_beside_frameworks():
    assert names("opencl:naive", "pytorch:eager", "pytorch:compile", "cuda:naive", "jax:jit") == [
        "pytorch:eager", "jax:jit",
    ]  # fmt: skip


def test_kernels_set_the_best_where_there_is_nobody_else():
    assert names("opencl:naive", "opencl:tiled", "cuda:naive") == ["opencl:naive", "cuda:naive"]
