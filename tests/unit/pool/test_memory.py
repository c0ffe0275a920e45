"""How much memory is left, and what does not fit into it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import psutil
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import DenseSpec, LstmSpec, Workload
from faceoff.pool import memory
from faceoff.workloads.task import Task

SMALL = Workload(DenseSpec((4, 3, 2)), 5)
GIB = 2**30


def container(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon {GIB}\ninactive_file_of_something 7\ninactive_file {GIB}\n")
    return folder


def groups(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    """Control groups in `folder`, of which the process says that it is in `own`."""
    (folder / "own").write_text(own)
    monkeypatch.setattr(memory, "CGROUPS", folder)
    monkeypatch.setattr(memory, "OWN_CGROUPS", folder / "own")


def test_what_is_left_is_the_least_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen from inside, the container's group is the root, and its path the host's.
    groups(tmp_path, monkeypatch, "0::/docker/12ab\n")
    container(tmp_path, str(3 * GIB + 1000))
    assert memory.available_bytes() == GIB + 1000
    container(tmp_path, str(GIB))
    assert memory.available_bytes() == 0
    container(tmp_path, "max")
    assert memory.available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "none")
    assert memory.available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_limit_of_any_group_around_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups(tmp_path, monkeypatch, "0::/slurm/job/step\n")
    (tmp_path / "slurm/job/step").mkdir(parents=True)
    container(tmp_path / "slurm/job/step", "max")
    container(tmp_path / "slurm/job", str(3 * GIB + 2000))
    assert memory.available_bytes() == GIB + 2000


def test_groups_of_the_first_version_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups(tmp_path, monkeypatch, "12:cpu,cpuacct:/job\n4:memory:/job\n0::/job\n")
    for folder, limit in ((tmp_path / "memory", 2**63 - 4096), (tmp_path / "memory/job", 2 * GIB)):
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
        (folder / "memory.stat").write_text("inactive_file 9\ntotal_inactive_file 4096\n")
    assert memory.available_bytes() == GIB + 4096


def test_what_is_needed_grows_with_inputs_and_weights() -> None:
    numbers = 3 * 5 * 4 + (4 * 3 + 3 + 3 * 2 + 2)
    assert memory.needed_bytes(SMALL) == (8 + 4 + 4) * numbers
    assert memory.needed_bytes(SMALL.replace(dtype="float64")) == 3 * 8 * numbers
    memory.require_memory(SMALL, 3)
    with pytest.raises(MemoryError, match=r"GiB beside the framework, .* GiB are free"):
        memory.require_memory(SMALL.replace(batch_size=10**12), 1)


def test_the_reference_is_not_begun_where_its_training_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Workload(LstmSpec(4096, 4096, 10, 25), 4)
    weights = 4096 * 4 * 4096 * 2
    for free, fits in ((136 * weights * 1.02, True), (136 * weights * 0.98, False)):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: int(free))
        if fits:
            memory.require_memory_of_reference(wide)
        else:
            with pytest.raises(MemoryError, match="the reference's training takes at least 17"):
                memory.require_memory_of_reference(wide)


def test_as_many_of_its_trainings_go_side_by_side_as_there_are_cores_and_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_cores", lambda: 16)
    wide = Workload(LstmSpec(2048, 2048, 10, 25), 4)
    for free_gib, at_once in ((1, 1), (9, 3), (500, 16)):
        monkeypatch.setattr(memory, "available_bytes", lambda free_gib=free_gib: free_gib * GIB)
        assert memory.passes_at_once(wide) == at_once


def test_what_the_kernel_says_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "VMSTAT", path)
    assert memory.out_of_memory_kills() == 0
    path.write_text("pgfault 12\noom_kill 3\n")
    assert memory.out_of_memory_kills() == 3
    path.write_text("oom_kill_of_another_kernel 3\n")
    assert memory.out_of_memory_kills() == 0


LARGE = Workload(DenseSpec((3072, 10)), 65536)


def test_timing_rotates_over_batches_unless_one_is_too_large_for_any_cache() -> None:
    limit = memory.LARGE_BATCH_BYTES // 8 // 3072
    assert memory.timed_batches(LARGE.replace(batch_size=limit)) == 3
    assert memory.timed_batches(LARGE.replace(batch_size=limit + 1)) == 1
    inputs, weights = 65536 * 3072, 3073 * 10
    assert memory.needed_bytes(LARGE, memory.timed_batches(LARGE)) == (8 + 4 + 4) * (inputs + weights)


def test_what_is_counted_is_what_making_and_rounding_batches_takes() -> None:
    workload = Workload(DenseSpec((500, 10)), 2000)
    tracemalloc.start()
    try:
        for batches in (1, 3):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            Task.seeded(workload, 0, batches).cast("float32")
            peak = tracemalloc.get_traced_memory()[1] - before
            assert 0.7 * memory.needed_bytes(workload, batches) < peak < 1.05 * memory.needed_bytes(workload, batches)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("what", "device", "whose"),
    [
        ("`time` failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", "gpu", "card"),
        ("`time` failed: JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate", "gpu", "card"),
        ("`load` failed: RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "gpu", "host"),
        ("`load` failed: MemoryError: Unable to allocate 9.00 GiB", "gpu", "host"),
        ("`load` failed: MemoryError: MemoryError", "gpu", "host"),
        ("`build` failed: ResourceExhaustedError: OOM when allocating tensor on device:CPU:0", "gpu", "host"),
        ("`build` failed: ResourceExhaustedError: OOM when allocating tensor on device:GPU:0", "gpu", "card"),
        ("the kernel ended the worker during `load`: memory ran out", "gpu", "host"),
        ("`time` failed: RuntimeError: std::bad_alloc", "cpu", "host"),
        ("`time` failed: ResourceExhaustedError: failed to allocate request", "cpu", "host"),
    ],
)
def test_whose_memory_ran_out_is_said(what: str, device: str, whose: str) -> None:
    error = WorkerError(what, outcome="out_of_memory", where="jax:jit")
    assert memory.reason_of(error, device) == f"memory of the {whose}: jax:jit: {what}"


def test_it_is_the_hosts_where_the_harness_has_none_left() -> None:
    reason = memory.reason_of(memory.as_outcome(MemoryError("9 GiB")), "gpu")
    assert reason == "memory of the host: reference: out of memory in the harness: 9 GiB; choose smaller sizes"


@pytest.mark.parametrize(
    "error",
    [
        WorkerError("`time` failed: it hung", outcome="timeout", where="jax:jit"),
        WorkerError("not run: at a batch of 8 memory ran out already", outcome="out_of_memory", where="dense"),
    ],
)
def test_nobodys_memory_is_named_where_none_ran_out_just_now(error: WorkerError) -> None:
    assert memory.reason_of(error, "gpu") == str(error)
