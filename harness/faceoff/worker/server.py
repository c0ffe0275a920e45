"""A worker: answers requests on its channel with one framework. It owns the clock.

Requests and their replies (all bodies are JSON values and arrays):

| kind | body | reply |
| --- | --- | --- |
| `start` | device, threads, seed, error words | times, the clock's tick, modes, versions, switches in force |
| `build` | workload, mode, weights | build time |
| `load` | batches | nothing; the batches stay placed on the device |
| `first_call` | step | duration of one call, waited for |
| `forward`, `gradients`, `train` | batch index (or indices) | canonical NumPy values, fetched after the last call |
| `weights`, `optimiser_state`, `reset`, `trace`, `describe`, `memory`, `forget_peak` | | |
| `layers` | batch index, training, forced values | what each layer of a user's own model is given and returns |
| `time` | step, warm-up calls, iterations, first batch | duration of the round in nanoseconds |
| `time_new` | step, a batch, one that was seen | durations of a call on either, in nanoseconds |
| `operations` | step | operations of a call, as the framework counts them, or None |
| `stages` | repetitions | seconds of each stage of an inference from host memory to host memory, each time |
| `stream` | numbers, repetitions | seconds of each pass over the device's memory |
| `last_value` | step | what the last timed call returned: logits or a loss as `value`, or gradients, canonical |
| `probe` | name, arguments | arrays of one probe of the framework's defaults; `start` is not needed, nor wanted |
"""

import gc
import os
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from faceoff.core.clock import monotonic_ns, tick_s
from faceoff.core.contract import STAGES, Model, Runtime, Settings
from faceoff.core.error_words import ErrorWords
from faceoff.core.errors import InputError
from faceoff.core.messages import Channel, ChannelClosedError, Message
from faceoff.core.own import Port, learn
from faceoff.core.spec import OwnSpec, Workload
from faceoff.core.weights import Batch, trace_names
from faceoff.worker.accounting import Accounting, forget_peak, host_memory
from faceoff.worker.failures import NO_WORDS, describe_error
from faceoff.worker.findings import as_array, as_arrays, as_gradients, as_losses, as_outputs
from faceoff.worker.loading import load_framework, load_part
from faceoff.worker.new_batch import time_new

VERBS = {"inference": "forward", "gradients": "gradients", "training": "train_step"}


class Server:
    """Serves one parent until it closes the channel.

    Args:
        channel: the private connection to the parent.
        folder: of the framework.
        interpreter_s: seconds from the parent's start of the process to the first line of the worker.
    """

    def __init__(self, channel: Channel, folder: str, interpreter_s: float) -> None:
        self._channel = channel
        self._folder = folder
        self._interpreter_s = interpreter_s
        self._runtime: Optional[Runtime] = None
        self._model: Optional[Model] = None
        self._workload: Optional[Workload] = None
        self._batches: List[Any] = []
        self._device, self._dtype = "cpu", "float32"
        self._last: Any = None
        self._timed: Optional[Tuple[str, Any]] = None
        self._slowdown = 0.0
        self._words = NO_WORDS

    def serve(self) -> None:
        """Answers requests in turn; an exception becomes an `error` reply and the worker lives on."""
        while True:
            try:
                request = self._channel.receive()
            except ChannelClosedError:
                return
            try:
                handler: Optional[Callable[..., Dict[str, Any]]] = getattr(self, f"do_{request.kind}", None)
                if handler is None:
                    raise InputError("unknown request", where="worker", got=request.kind)
                reply = Message("ok", handler(**request.body))
            except Exception as error:
                traceback.print_exc()
                reply = Message("error", describe_error(error, self._words))
            self._channel.send(reply)
            # Their arrays would stay in memory until the next request has come.
            del request, reply

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None:
            raise InputError("no framework yet", where="worker", next_step="send `start` first")
        return self._runtime

    @property
    def model(self) -> Model:
        if self._model is None:
            raise InputError("no model yet", where="worker", next_step="send `build` first")
        return self._model

    def do_start(self, device: str, threads: int, seed: int, errors: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        self._words = ErrorWords.from_json(errors or {})
        begin = monotonic_ns()
        self._device = device
        self._runtime = load_framework(self._folder).RUNTIME
        imported = monotonic_ns()
        self.runtime.configure(Settings(device=device, threads=threads, seed=seed))
        one = np.ones((1, 1), dtype="float32")
        self.runtime.wait(self.runtime.place(Batch({"x": one}, np.zeros(1, dtype="int64")), "float32"))
        configured = monotonic_ns()
        return {
            "interpreter_s": self._interpreter_s,
            "import_s": (imported - begin) / 1e9,
            "configure_s": (configured - imported) / 1e9,
            "clock_tick_s": tick_s(),
            "modes": list(self.runtime.modes(device)),
            "settings": self._settings(),
        }

    def _settings(self) -> Dict[str, Any]:
        """What the framework says is in force, and what is the same for every framework's process."""
        process: Dict[str, Any] = {"garbage collector": "rests while calls are timed"}
        if hasattr(os, "sched_getaffinity"):
            process["cores"] = len(os.sched_getaffinity(0))
        if hasattr(os, "getpriority"):
            process["niceness"] = os.getpriority(os.PRIO_PROCESS, 0)
        return {**self.runtime.describe(), "process": process}

    def do_build(self, workload: Dict[str, Any], mode: str, weights: Dict[str, np.ndarray]) -> Dict[str, Any]:
        self._model, self._batches, self._last, self._timed = None, [], None, None
        if self._device == "gpu":
            # Models refer to themselves in circles, and would keep their place on the card until some later collection.
            gc.collect()
        parsed = self._workload = Workload.from_json(workload)
        self._dtype = parsed.storage_dtype
        begin = monotonic_ns()
        self._model = self.runtime.build(parsed, weights, mode)
        return {"build_s": (monotonic_ns() - begin) / 1e9}

    def do_open_side(self, file: str, seed: int) -> Dict[str, Any]:
        """What a user's own model holds; see `Runtime.open_side`."""
        return self.runtime.open_side(file, seed)

    def do_learn(self, port: Dict[str, Any], digest: str) -> Dict[str, Any]:
        """What is known of a user's own model of this digest, before it is built for the first time."""
        learn(Port.from_json(port), digest)
        return {}

    def do_disturb(self, dtype: str, unit_roundoff: Optional[float], seed: int, alike: bool) -> Dict[str, Any]:
        """See `Model.disturb`."""
        self.model.disturb(dtype, unit_roundoff, seed, alike)
        return {}

    def do_left_whole(self) -> Dict[str, Any]:
        """See `Model.left_whole` and `Model.met_limits`."""
        return {"operations": self.model.left_whole(), "met_limits": self.model.met_limits()}

    def do_operations(self, step: str) -> Dict[str, Any]:
        """See `Model.operations`; of the first batch."""
        return {"operations": self.model.operations(step, self._batches[0])}

    def do_dropouts(self) -> Dict[str, Any]:
        """See `Model.dropouts`; of the first batch."""
        return {"calls": self.model.dropouts(self._batches[0])}

    def do_load(self, batches: List[Dict[str, Any]]) -> Dict[str, Any]:
        self._timed = None
        self._batches = [self.runtime.place(Batch.from_json(batch), self._dtype) for batch in batches]
        return {}

    def do_first_call(self, step: str) -> Dict[str, Any]:
        call = getattr(self.model, VERBS[step])
        begin = monotonic_ns()
        self.runtime.wait(call(self._batches[0]))
        return {"first_call_s": (monotonic_ns() - begin) / 1e9}

    def do_forward(self, indices: List[int]) -> Dict[str, Any]:
        # All are held before the first is fetched: a buffer that calls share would hold the last one's.
        values = [self.model.forward(self._batches[index]) for index in indices]
        return {"outputs": [self._outputs("outputs", value) for value in values]}

    def do_gradients(self, index: int, before: Optional[int] = None, after: Optional[int] = None) -> Dict[str, Any]:
        """Those of batch `index`, after a call on batch `before`, fetched after one on batch `after`."""
        if before is not None:
            self.runtime.wait(self.model.gradients(self._batches[before]))
        value = self.model.gradients(self._batches[index])
        held = None if after is None else self.model.gradients(self._batches[after])
        self.runtime.wait(held)
        return as_gradients(self.model.canonical(value))

    def do_train(self, indices: List[int]) -> Dict[str, Any]:
        losses = [self.runtime.fetch(self.model.train_step(self._batches[index])) for index in indices]
        return {"losses": as_losses(losses)}

    def do_weights(self) -> Dict[str, Any]:
        return as_arrays("weight {}", self.model.weights())

    def do_optimiser_state(self) -> Dict[str, Any]:
        return {kind: as_arrays(f"{kind} of {{}}", held) for kind, held in self.model.optimiser_state().items()}

    def do_reset(self, weights: Dict[str, np.ndarray]) -> Dict[str, Any]:
        self.model.reset(weights)
        return {}

    def do_trace(self, index: int, training: bool, fine: bool = False) -> Dict[str, Any]:
        assert self._workload is not None
        names = trace_names(self._workload.model, fine)
        if not names:
            return {"values": []}
        found = as_arrays("output of {}", self.model.trace(self._batches[index], training))
        return {"values": [[name, found[name]] for name in names if name in found]}

    def do_layers(self, index: int, training: bool, forced: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """See `Model.layers`; of batch `index`."""
        found = self.model.layers(self._batches[index], training, forced)
        return {**found, "outputs": self._outputs("outputs", found["outputs"])}

    def do_describe(self) -> Dict[str, Any]:
        return {"settings": self._settings(), "ledger": self.model.describe() if self._model else {}}

    def do_memory(self) -> Dict[str, Any]:
        found = {**host_memory(), **self.runtime.memory()}
        if self._timed and "device_in_use_bytes" in found:
            working_bytes = self.model.working_bytes(*self._timed)
            if working_bytes is not None:
                found["device_peak_bytes"] = found["device_in_use_bytes"] + working_bytes
        return found

    def do_forget_peak(self) -> Dict[str, Any]:
        """From now on `memory` gives the peaks since now, where they can be had."""
        forget_peak()
        self.runtime.forget_peak()
        return {}

    def do_slow_down(self, share: float) -> Dict[str, Any]:
        """From now on every timed call takes longer by `share` of its own duration: a planted fault for calibration."""
        self._slowdown = share
        return {}

    def do_time(self, step: str, warmup: int, iterations: int, start: int, pipelined: bool = False) -> Dict[str, Any]:
        """Times one round: `iterations` calls after `warmup` calls that are not timed.

        Batch `start + n`, rotating, serves call n. Each call is waited for; with `pipelined` only the last one is, and
        how long is told. The garbage collector rests meanwhile, as it would strike some rounds and not others.

        Returns:
            `duration_ns` of the round, `call_ns` of its calls (empty when pipelined), `wait_ns` of the last call (0
            unless pipelined), `last_batch`, the kernel's accounting, and `device_s` of the round by the device's own
            clock, or None.
        """
        call, wait, count, clock = getattr(self.model, VERBS[step]), self.runtime.wait, len(self._batches), monotonic_ns
        if self._slowdown:
            call = _slowed(call, wait, self._slowdown)
        rotated = [self._batches[(start + offset) % count] for offset in range(iterations)]
        for _ in range(warmup):
            wait(call(rotated[0]))
        stamps: List[int] = []
        stamp = stamps.append
        collecting = gc.isenabled()
        gc.disable()
        try:
            before, stop_clock = Accounting.read(), self.runtime.start_clock()
            begin = clock()
            if pipelined:
                for batch in rotated:
                    value = call(batch)
                called = clock()
                wait(value)
            else:
                for batch in rotated:
                    value = call(batch)
                    wait(value)
                    stamp(clock())
            end = clock()
            device_s = stop_clock() if stop_clock else None
            spent = Accounting.read().since(before)
        finally:
            if collecting:
                gc.enable()
        self._last, self._timed = value, (step, rotated[-1])
        return {
            "duration_ns": end - begin,
            "device_s": device_s,
            "wait_ns": end - called if pipelined else 0,
            "call_ns": np.diff(np.array([begin, *stamps], dtype=np.int64)),
            "last_batch": (start + iterations - 1) % count,
            **spent,
        }

    def do_stages(self, repetitions: int) -> Dict[str, Any]:
        """Seconds of each of the contract's `STAGES`, each time; nothing where the framework does not tell them."""
        told = [self.model.stages(self._batches[0]) for _ in range(repetitions + 1)]
        # The first is the first to have these copies.
        found = [seconds for seconds in told[1:] if seconds is not None]
        return {name: np.array([seconds[name] for seconds in found]) for name in STAGES if found}

    def do_stream(self, count: int, repetitions: int) -> Dict[str, Any]:
        """Seconds of each call that moves `count` float32 numbers within the device, both ways."""
        call, wait = self.runtime.stream(count), self.runtime.wait
        stamps = [monotonic_ns()]
        for _ in range(repetitions + 1):  # The first compiles, and maps the memory.
            wait(call())
            stamps.append(monotonic_ns())
        return {"call_s": (np.diff(stamps)[1:] / 1e9)}

    def do_time_new(
        self,
        step: str,
        batch: Dict[str, Any],
        seen: int,
        new_first: bool,
        warmup: int,
        weights: Optional[Dict[str, np.ndarray]] = None,
        other: Optional[Dict[str, np.ndarray]] = None,
    ) -> Dict[str, Any]:
        """Times a call on the loaded batch `seen` beside one on a new `batch`, whose value is the last one's."""
        batches = {"seen": self._batches[seen], "between": self._batches[(seen + 1) % len(self._batches)]}
        batches["new"] = self.runtime.place(Batch.from_json(batch), self._dtype)
        call = getattr(self.model, VERBS[step])
        reply, self._last = time_new(self.model, call, self.runtime.wait, batches, new_first, warmup, weights, other)
        return dict(reply)

    def do_last_value(self, step: str) -> Dict[str, Any]:
        """The value of the last timed call."""
        if step == "gradients":
            return as_gradients(self.model.canonical(self._last))
        what = "value of the last timed call"
        if step == "inference":
            return {"value": self._outputs(what, self._last)}
        return {"value": as_array(what, self.runtime.fetch(self._last))}

    def _outputs(self, what: str, value: Any) -> Any:
        """One array; of a user's own model, which may return several, a dict of them."""
        assert self._workload is not None
        found = self.runtime.fetch(value)
        return as_outputs(what, found) if isinstance(self._workload.model, OwnSpec) else as_array(what, found)

    def do_probe(self, name: str, arguments: Dict[str, Any]) -> Dict[str, Any]:
        """Runs a probe of the framework's `defaults.py`. Without `start` the framework is as its users find it."""
        probes = load_part(self._folder, "defaults").PROBES
        if name not in probes:
            raise InputError("unknown probe", where="worker", got=name, expected=", ".join(sorted(probes)))
        return dict(probes[name](**arguments))

    def do_fail(self, text: str) -> Dict[str, Any]:
        """Fails with this text; lets what is made of errors be tested on a real worker."""
        raise RuntimeError(text)

    def do_sleep(self, seconds: float) -> Dict[str, Any]:
        """Does nothing for a while; lets the pool's time limit be tested on a real worker."""
        time.sleep(seconds)
        return {}


def _slowed(call: Callable[[Any], Any], wait: Callable[[Any], None], share: float) -> Callable[[Any], Any]:
    def slow(batch: Any) -> Any:
        begin = monotonic_ns()
        value = call(batch)
        wait(value)
        end = monotonic_ns()
        until = end + int((end - begin) * share)
        while monotonic_ns() < until:
            pass
        return value

    return slow
