"""Records of a result file that say what a contender costs beside its time, and what the machine could do."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from faceoff.core.errors import Outcome
from faceoff.results.types import Count, Duration, Positive, Seconds, Size, WorkloadData


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class ColdStart(Record):
    """A new process to the first result, alone on the machine, with empty compile caches. Seconds.

    One new process a contender; it builds and calls each model in turn, so the models share the first three parts.

    Attributes:
        interpreter_s: process start to the first line of the worker.
        import_s: import of the framework.
        configure_s: device and runtime set-up, first trivial operation included.
        build_s: the model made from its weights.
        first_call_s: first call, compilation included.
    """

    workload: WorkloadData
    contender: str
    outcome: Outcome
    reason: str = ""
    interpreter_s: Seconds = 0.0
    import_s: Seconds = 0.0
    configure_s: Seconds = 0.0
    build_s: Seconds = 0.0
    first_call_s: Seconds = 0.0

    @property
    def total_s(self) -> float:
        return self.interpreter_s + self.import_s + self.configure_s + self.build_s + self.first_call_s


class BreakEven(Record):
    """When the longer build and first call of a contender have paid off against another one, in calls of inference.

    Attributes:
        workload: its name.
        longer_s: by how much build and first call took longer, with empty compile caches.
        saved_s: what each later call saves.
        calls: after how many of them both have taken as long.
    """

    workload: str
    contender: str
    other: str
    longer_s: float
    saved_s: float
    calls: float


# Of a card whose name the driver does not tell.
UNKNOWN = "unknown"


class CardInfo(Record):
    """A GPU as its driver describes it.

    Attributes:
        name, uuid, driver: as the vendor has them; the second tells cards of one name apart.
        cuda_driver: the newest CUDA that the driver runs.
        compute_capability: of the chip.
        memory_bytes: of the card; None where the driver does not tell, as for the others.
        power_limit_w: that is enforced.
        most_clock_mhz: that the multiprocessors can reach.
    """

    name: str
    uuid: str = ""
    driver: str = ""
    cuda_driver: str = ""
    compute_capability: str = ""
    memory_bytes: Count | None = None
    power_limit_w: float | None = None
    most_clock_mhz: int | None = None


class CardUse(Record):
    """What a GPU said after each round of a process.

    Attributes:
        clock_mhz, memory_clock_mhz, temperature_c: least and most; None where the driver does not tell, as a part of a
            card (MIG) does not, likewise:
        throttled: why the clock was lower than it could be, and after how many rounds.
        process_bytes: most memory that the driver counted for this process: context, kernels and libraries included.
        others: most processes on the card at once that are none of this run's; None where the driver does not know
            this process by its number.
    """

    clock_mhz: tuple[int, int] | None
    memory_clock_mhz: tuple[int, int] | None
    temperature_c: tuple[int, int] | None
    throttled: dict[str, int] | None = {}
    process_bytes: Count = 0
    others: int | None = 0


class Canary(Record):
    """Fixed computations by NumPy alone, on one thread, timed in every pass of a workload: what the machine was like.

    Attributes:
        workload: its name.
        numpy: the version.
        rounds_s: of each computation one round a pass, seconds: `product` is bound by arithmetic, `copy` by memory,
            `python` by the interpreter.
        times_s: of each the mean of the faster half of its rounds.
    """

    workload: str
    numpy: str
    rounds_s: dict[str, list[Duration]]
    times_s: dict[str, Duration]


class Ceiling(Record):
    """What this machine does at best in one dtype.

    Attributes:
        product_size: rows and columns of the two square matrices.
        product_flops: operations per second of their product, by the contender that was asked.
        copy_bytes: read and written per second, by all threads together or within the GPU; None where not measured.
    """

    dtype: str
    device: str
    product_size: Size
    product_flops: dict[str, Positive]
    copy_bytes: Positive | None = None

    @property
    def best(self) -> tuple[str, float] | None:
        """The fastest framework's contender, and its operations per second."""
        found = {name: rate for name, rate in self.product_flops.items() if math.isfinite(rate)}
        return max(found.items(), key=lambda item: item[1]) if found else None
