"""What an exception of a framework means for a case: the words by which libraries say what went wrong."""

import re
from typing import Any, Dict

from harness.core.errors import FindingError, HarnessError, UnsupportedError
from harness.worker.findings import finding_of, place_of

# How allocators say it that have no exception of their own for it: PyTorch's on the CPU, the C++ library's, cuBLAS' and
# cuDNN's, TensorFlow's when a copy to the device finds no room, and XLA's.
WORDS_FOR_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "alloc_failed",
    "allocation_failed",
    "dst tensor is not initialized",
    "failed to allocate request for",
    "resource_exhausted: failed to allocate",
    "bytes for new constant",
)
# How libraries fail that find the card too full for themselves, and for other reasons too.
WORDS_OF_A_CARD_PERHAPS_FULL = (
    "cudnn_status_not_initialized",
    "cublas_status_not_initialized",
    "dnn library initialization failed",
    "unable to find an engine",
    "failed to call dornnforward",
    "failed to call dornnbackward",
    "without blas support",
    "blas xgemm launch failed",
    "autotuning failed for hlo",
    "no valid config found",
    "no supported config",
)
# What a device, mostly one too old, has no kernel for.
WORDS_FOR_NO_KERNEL = (
    "not implemented for",
    "unimplemented",
    "no kernel image is available",
    "could not find device for node",
    "no opkernel was registered",
    "cudnn_status_not_supported",
    "requires .target sm_",
    "device kernel image is invalid",
)
# What is not installed, or may not be loaded from where it lies.
WORDS_FOR_MISSING = (
    "failed to find c compiler",
    "no working c++ compiler",
    "failed to map segment from shared object",
)
# Lines that come before the one that says what is wrong.
WORDS_BEFORE_THE_REASON = ("exception encountered when calling", "graph execution error", "detected at node")
# After these a process can use its device no more: the next call fails too, whatever it is.
WORDS_FOR_NO_DEVICE = (
    "cuda error",
    "cuda_error",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "gpu is lost",
    "cuda driver error",
    "triton error [cuda]",
    "cudnn_status_execution_failed",
    "cudnn_status_internal_error",
)


def describe_error(error: Exception) -> Dict[str, Any]:
    """What an exception means for a case: its outcome, the reason in a line, and whether the process can go on."""
    # TensorFlow writes some of it in bold.
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or type(error).__name__
    name, lower = type(error).__name__, text.lower()
    if isinstance(error, (UnsupportedError, NotImplementedError)) or any(
        words in lower for words in WORDS_FOR_NO_KERNEL
    ):
        outcome = "unsupported"
    elif isinstance(error, ImportError) or any(words in lower for words in WORDS_FOR_MISSING):
        outcome = "missing"
    elif (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or "ResourceExhausted" in name
        or any(words in lower for words in WORDS_FOR_NO_MEMORY)
    ):
        outcome = "out_of_memory"
    else:
        outcome = "disagrees" if isinstance(error, FindingError) else "crashed"
    kind = "" if isinstance(error, HarnessError) else f"{name}: "
    lines = text.splitlines()
    telling = [
        line
        for line in lines
        if line.strip() and not line.lower().startswith(WORDS_BEFORE_THE_REASON) and not line.endswith("raised:")
    ]
    reason = (telling or lines)[-1 if isinstance(error, ImportError) else 0]
    if reason.endswith(":") and len(telling) > 1:
        reason = f"{reason} {telling[1].strip()}"
    if reason.lower().endswith("compile error"):
        # What the compiler itself said.
        reason = ": ".join([reason, *[line.strip() for line in lines if " error: " in line][:1]])
    reason = kind + reason
    perhaps_full = outcome == "crashed" and any(words in lower for words in WORDS_OF_A_CARD_PERHAPS_FULL)
    device_lost = outcome != "out_of_memory" and any(words in lower for words in WORDS_FOR_NO_DEVICE)
    finding = "" if outcome != "crashed" or perhaps_full or device_lost else finding_of(error, reason)
    if finding:
        outcome, reason = "disagrees", f"{finding}: {reason} ({place_of(error)})"
    return {
        "outcome": outcome,
        "out_of_memory_if_full": perhaps_full,
        "reason": reason,
        "device_lost": device_lost,
    }
