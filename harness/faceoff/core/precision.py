"""Precision policies: what is computed in which dtype, the same for all frameworks."""

from faceoff.core.errors import InputError

ADAMS = ("adam", "adamw")
DTYPES = ("float64", "float32", "tf32", "bfloat16", "float16", "mixed_bfloat16")
"""`float32` is true float32 everywhere. Two policies hold weights and optimiser state wider than they compute:

- `tf32`: float32, but products (matrices, convolutions, recurrent layers) round their operands to 11 bits; GPUs only
- `mixed_bfloat16`: forward and backward pass in bfloat16, by each framework's own means for mixed precision; loss and
  optimiser in float32
"""


def storage_dtype(dtype: str) -> str:
    """The dtype in which a policy holds weights and inputs."""
    return "float32" if dtype in ("tf32", "mixed_bfloat16") else dtype


def require_precision(dtype: str, device: str, optimiser: str, epsilon: float, beta2: float) -> None:
    """Raises InputError where a policy has no meaning on this device, or with this optimiser's constants."""
    if dtype == "tf32" and device != "gpu":
        raise InputError(
            "a precision of GPUs alone",
            where="workload.dtype",
            got=f"tf32 on the {device}",
            expected=", ".join(name for name in DTYPES if name != "tf32"),
            next_step="use --device gpu",
        )
    if dtype == "float16" and optimiser in ADAMS and epsilon < 2.0**-24:
        raise InputError(
            "Adam's epsilon is zero in this dtype",
            where="workload.optimiser.epsilon",
            got=f"{epsilon:g} in float16",
            expected=f"at least {2.0**-24:.2g}",
            next_step="use --optimiser sgd or momentum",
        )
    if dtype == "bfloat16" and optimiser in ADAMS and 1 - beta2 < 2.0**-8:
        raise InputError(
            "Adam's beta2 is one in this dtype",
            where="workload.optimiser.beta2",
            got=f"{beta2:g} in bfloat16",
            expected=f"at most {1 - 2.0**-8:.4g}",
            next_step="use --optimiser sgd or momentum",
        )
