"""Errors that say what, where, got, expected and the next step."""

import sys
from typing import Optional

if sys.version_info >= (3, 8):
    from typing import Literal

    Outcome = Literal["ok", "disagrees", "out_of_memory", "timeout", "crashed", "unsupported", "missing", "not_offered"]
else:
    Outcome = str
"""How a case ended; it ends in exactly one."""


class HarnessError(Exception):
    """Base of every error that the harness raises on purpose.

    Args:
        what: the fact, in a few words.
        where: file, field, case or option that it concerns.
        got: what was found there.
        expected: what would have been right.
        next_step: what the reader can do now, best a command.
    """

    exit_status = 3

    def __init__(
        self,
        what: str,
        *,
        where: Optional[str] = None,
        got: Optional[object] = None,
        expected: Optional[str] = None,
        next_step: Optional[str] = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.next_step = what, where, got, expected, next_step
        super().__init__(self._text())

    def _text(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.got is not None:
            text += f"; got {self.got}"
        if self.expected:
            text += f", expected {self.expected}" if self.got is not None else f"; expected {self.expected}"
        if self.next_step:
            text += f"; {self.next_step}"
        return text


class InputError(HarnessError):
    """A request, a setting or an input file that cannot be used."""

    exit_status = 2


class ResultFileError(InputError):
    """A result file that is cut off, of another schema, or not JSON."""


class DeviceError(InputError):
    """A device that was asked for and that no framework sees."""


class MessageError(HarnessError):
    """A message between parent and worker that breaks the protocol."""


class FindingError(HarnessError):
    """An implementation returned what is no value of its kind: the outcome `disagrees`, not a crash."""


class WorkerError(HarnessError):
    """A worker that ended, hung, or could not do what it was asked.

    Attributes:
        outcome: the outcome of the case this ends: `crashed`, `timeout`, `missing`, `unsupported`, `out_of_memory` or
            `not_offered`;
            `disagrees` where what it could not do is a fault of the implementation itself.
        log_tail: the last lines of the worker's log.
        request: what it was asked, if it answered that it could not.
        reason: its answer.
    """

    def __init__(
        self,
        what: str,
        *,
        outcome: Outcome,
        where: Optional[str] = None,
        got: Optional[object] = None,
        expected: Optional[str] = None,
        next_step: Optional[str] = None,
        log_tail: str = "",
        request: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(what, where=where, got=got, expected=expected, next_step=next_step)
        self.outcome = outcome
        self.log_tail = log_tail
        self.request, self.reason = request, reason


class UnsupportedError(HarnessError):
    """A framework cannot do this here, and says so; the outcome `unsupported`, not a fault."""
