"""One live process of a contender: requests with a time limit, pausing, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from faceoff.core.errors import MessageError, Outcome, WorkerError
from faceoff.core.messages import Channel, ChannelTimeoutError, Message
from faceoff.core.own import port_of
from faceoff.core.spec import Contender, OwnSpec, model_from_json
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.cards import Card
from faceoff.pool.memory import out_of_memory_kills

START_TIMEOUT_S = 180.0
KILL_TIMEOUT_S = 30.0
PAUSE_TIMEOUT_S = 30.0
MOMENT_S = 0.1
LOG_TAIL_LINES = 12


class Worker:
    """A live process of one contender.

    Args:
        contender: whose process.
        process: the interpreter, leader of its own process group.
        channel: the private connection to it.
        log_path: where its standard output and error go.
        timeout_s: longest time one request may take; its start may take three minutes, or this if it is longer.
    """

    def __init__(
        self, contender: Contender, process: subprocess.Popen[bytes], channel: Channel, log_path: Path, timeout_s: float
    ) -> None:
        self.contender = contender
        self.log_path = log_path
        self.start_reply: dict[str, Any] = {}
        self.timed_out = False
        self.device = ""
        self.card: Card | None = None
        self._process = process
        self._channel = channel
        self._timeout_s = timeout_s
        # Importing a framework takes its time whatever is asked of it later.
        self._start_timeout_s = max(START_TIMEOUT_S, timeout_s)
        self._paused = False
        self._kills = 0
        self._given_up = False
        self._taught: set[str] = set()
        self._built: tuple[object, ...] | None = None

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def held_up_s(self) -> float:
        """Time in which the harness did not run, be it stopped or in a paused container, while it waited for this."""
        return self._channel.held_up_s

    @property
    def alive(self) -> bool:
        return not self._given_up and self._process.poll() is None

    def request(self, kind: str, timeout_s: float | None = None, **body: Any) -> dict[str, Any]:
        """Sends a request and waits for its reply.

        Raises:
            WorkerError: the worker died, hung past its time limit, or could not do it; the outcome says which. After a
                death or a time-out the process is gone.
        """
        limit_s = timeout_s or self._timeout_s
        if kind == "build":
            self._built = None
            self._teach(body["workload"])
        self._kills = out_of_memory_kills()
        try:
            self._channel.send(Message(kind, body), limit_s)
            reply = self._reply(kind, limit_s)
            if kind == "build":
                self._built = body["workload"], body["mode"]
            return reply
        except ChannelTimeoutError:
            self.timed_out = True
            self.kill()
            raise self._error(
                f"no answer to `{kind}` within {limit_s:g} s", "timeout", "raise --timeout if it needs longer"
            ) from None
        except MessageError:
            raise self.death(f"during `{kind}`") from None

    def holds(self, workload: dict[str, Any], mode: str) -> bool:
        """Whether the last model that was built, whoever asked for it, is this one; its weights may be others."""
        return self._built == (workload, mode)

    def _teach(self, workload: dict[str, Any]) -> None:
        """Tells it what is known of a user's own model, before it meets that for the first time."""
        model = model_from_json(workload["model"])
        if isinstance(model, OwnSpec) and model.digest not in self._taught:
            self._taught.add(model.digest)
            port = port_of(model).seen_by(self.contender.framework)
            self.request("learn", port=port.to_json(), digest=model.digest)

    def _reply(self, kind: str, limit_s: float) -> dict[str, Any]:
        reply = self._channel.receive(limit_s)
        if reply.kind == "error":
            outcome: Outcome = reply.body["outcome"]
            if reply.body["out_of_memory_if_full"] and self.card is not None and self.card.is_full():
                outcome = "out_of_memory"
            # A fresh process may find the device again; this one will not. And frameworks keep what they once took of a
            # card for themselves.
            if reply.body["device_lost"] or (outcome == "out_of_memory" and self.device == "gpu"):
                self.kill()
            reason = reply.body["reason"]
            error = self._error(f"`{kind}` failed: {reason}", outcome, "see its log")
            error.request, error.reason = kind, reason
            raise error
        return reply.body

    def send_start(self, device: str, threads: int, seed: int) -> None:
        """Asks the worker to import its framework, without waiting."""
        self.device = device
        errors = FRAMEWORKS[self.contender.framework].errors.to_json()
        body = {"device": device, "threads": threads, "seed": seed, "errors": errors}
        try:
            self._channel.send(Message("start", body), self._start_timeout_s)
        except MessageError:
            return  # It died at once; `finish_start` finds out and says how.

    def finish_start(self) -> None:
        """Waits until the framework is imported and configured; raises WorkerError."""
        try:
            self.start_reply = self._reply("start", self._start_timeout_s)
        except ChannelTimeoutError:
            self.kill()
            what = f"no start within {self._start_timeout_s:g} s"
            raise self._error(what, "timeout", "raise --timeout above that if it needs longer") from None
        except MessageError:
            raise self.death("while it started") from None
        except WorkerError:
            self.kill()
            raise

    def pause(self) -> None:
        """Stops the process group, so that its idle threads take no processor time."""
        if not self._paused and self.alive:
            self._signal(signal.SIGSTOP)
            # The signal is under way; nobody may be timed before it has arrived. A dead process answers at once.
            waited_s, last_s = 0.0, time.monotonic()
            while os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                now_s = time.monotonic()
                # What is longer than a moment is time in which the harness did not run.
                waited_s, last_s = waited_s + min(now_s - last_s, MOMENT_S), now_s
                if waited_s > PAUSE_TIMEOUT_S:
                    # A thread that waits for a child which is stopped as well never does.
                    self.timed_out = True
                    self.kill()
                    return
                time.sleep(0.0001)
            self._paused = True

    def resume(self) -> None:
        """Lets a paused process group go on."""
        if self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False

    def kill(self) -> None:
        """Ends the process group at once and waits for it."""
        self._signal(signal.SIGKILL)
        try:
            self._process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # A driver that has lost its card may hold it for ever.
            self._given_up = True
        self._channel.close()

    def death(self, when: str) -> WorkerError:
        """Makes sure that the process is gone, and says how it ended."""
        ended = self._status()
        self.kill()
        if self._process.returncode == -signal.SIGKILL and out_of_memory_kills() > self._kills:
            return self._error(f"the kernel ended the worker {when}: memory ran out", "out_of_memory", "see its log")
        return self._error(f"worker {ended} {when}", "crashed", "see its log")

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            text = self.log_path.read_bytes()[-16384:].decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _status(self) -> str:
        """How the process ended, in words; waits a moment, as the socket closes before the process is gone."""
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its channel"
        if status < 0:
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"ended with status {status}"

    def _error(self, what: str, outcome: Outcome, next_step: str) -> WorkerError:
        tail = self.log_tail()
        return WorkerError(
            what, outcome=outcome, where=str(self.contender), next_step=f"{next_step}: {self.log_path}", log_tail=tail
        )
