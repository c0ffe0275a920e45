"""What an exception of a framework means for a case: the words by which libraries say what went wrong."""

import re
from typing import Any, Dict

from faceoff.core.error_words import EVERYBODYS, ErrorWords
from faceoff.core.errors import FindingError, HarnessError, UnsupportedError
from faceoff.worker.findings import finding_of, place_of

NO_WORDS = ErrorWords()


def describe_error(error: Exception, own: ErrorWords = NO_WORDS) -> Dict[str, Any]:
    """What an exception means for a case: its outcome, the reason in a line, and whether the process can go on.

    Args:
        error: as it was caught.
        own: words of the framework that raised it.
    """
    words = EVERYBODYS.with_those_of(own)
    # Some of it may be in bold.
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or type(error).__name__
    name, lower = type(error).__name__, text.lower()
    if isinstance(error, (UnsupportedError, NotImplementedError)) or any(part in lower for part in words.no_kernel):
        outcome = "unsupported"
    elif isinstance(error, ImportError) or any(part in lower for part in words.missing):
        outcome = "missing"
    elif (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or "ResourceExhausted" in name
        or any(part in lower for part in words.out_of_memory)
    ):
        outcome = "out_of_memory"
    else:
        outcome = "disagrees" if isinstance(error, FindingError) else "crashed"
    kind = "" if isinstance(error, HarnessError) else f"{name}: "
    lines = text.splitlines()
    telling = [
        line
        for line in lines
        if line.strip() and not line.lower().startswith(words.before_the_reason) and not line.endswith("raised:")
    ]
    reason = (telling or lines)[-1 if isinstance(error, ImportError) else 0]
    if reason.endswith(":") and len(telling) > 1:
        reason = f"{reason} {telling[1].strip()}"
    if reason.lower().endswith("compile error"):
        # What the compiler itself said.
        reason = ": ".join([reason, *[line.strip() for line in lines if " error: " in line][:1]])
    reason = kind + reason
    perhaps_full = outcome == "crashed" and any(part in lower for part in words.perhaps_full)
    device_lost = outcome != "out_of_memory" and any(part in lower for part in words.device_lost)
    finding = "" if outcome != "crashed" or perhaps_full or device_lost else finding_of(error, reason, words)
    if finding:
        outcome, reason = "disagrees", f"{finding}: {reason} ({place_of(error)})"
    return {
        "outcome": outcome,
        "out_of_memory_if_full": perhaps_full,
        "reason": reason,
        "device_lost": device_lost,
    }
