"""By which words libraries say what went wrong: everybody's here, a framework's own in its manifest (`[errors]`)."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Tuple


@dataclass(frozen=True)
class ErrorWords:
    """Parts of the text of an exception, in lower case, by what they mean.

    Args:
        out_of_memory: no memory was left on the host or the device.
        perhaps_full: how libraries fail that find a card too full for themselves, and for other reasons too.
        no_kernel: what a device, mostly one too old, has no kernel for.
        missing: what is not installed, or may not be loaded from where it lies.
        device_lost: from now on the process can use its device no more: the next call fails too, whatever it is.
        before_the_reason: beginnings of lines that come before the one that says what is wrong.
        kinds: names of exceptions that code raises which was given a value of another kind than it can use.
        not_differentiable: an implementation's fault: a gradient that cannot be had.
        no_value: likewise: None instead of a value.
        wrong_dtype: likewise.
        wrong_shape: likewise.
    """

    # Read by pydantic, which a worker need not have.
    __pydantic_config__: ClassVar[Dict[str, str]] = {"extra": "forbid"}

    out_of_memory: Tuple[str, ...] = ()
    perhaps_full: Tuple[str, ...] = ()
    no_kernel: Tuple[str, ...] = ()
    missing: Tuple[str, ...] = ()
    device_lost: Tuple[str, ...] = ()
    before_the_reason: Tuple[str, ...] = ()
    kinds: Tuple[str, ...] = ()
    not_differentiable: Tuple[str, ...] = ()
    no_value: Tuple[str, ...] = ()
    wrong_dtype: Tuple[str, ...] = ()
    wrong_shape: Tuple[str, ...] = ()

    def with_those_of(self, other: "ErrorWords") -> "ErrorWords":
        """The words of both."""
        return ErrorWords(**{name: value + getattr(other, name) for name, value in self.to_json().items()})

    def to_json(self) -> Dict[str, Tuple[str, ...]]:
        """The words by what they mean."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @staticmethod
    def from_json(told: Dict[str, Any]) -> "ErrorWords":
        """As `to_json` gives them."""
        return ErrorWords(**{name: tuple(words) for name, words in told.items()})


# Python's, the C++ library's, CUDA's and its libraries', and what is usual in array libraries.
EVERYBODYS = ErrorWords(
    out_of_memory=(
        "out of memory",
        "can't allocate memory",
        "cannot allocate memory",
        "bad_alloc",
        "alloc_failed",
        "allocation_failed",
    ),
    perhaps_full=("cudnn_status_not_initialized", "cublas_status_not_initialized"),
    no_kernel=(
        "not implemented for",
        "no kernel image is available",
        "cudnn_status_not_supported",
        "requires .target sm_",
        "device kernel image is invalid",
    ),
    missing=("failed to map segment from shared object",),
    device_lost=(
        "cuda error",
        "cuda_error",
        "device-side assert",
        "illegal memory access",
        "unspecified launch failure",
        "gpu is lost",
        "cuda driver error",
        "cudnn_status_execution_failed",
        "cudnn_status_internal_error",
    ),
    kinds=("TypeError", "ValueError", "RuntimeError", "AttributeError"),
    no_value=("'nonetype' object",),
    wrong_dtype=("dtype", "datatype", "data type"),
    wrong_shape=("shape", "dimension", "must be equal"),
)
