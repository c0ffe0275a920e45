"""How much memory is left, and what does not fit into it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from harness import memory
from harness.core.spec import DenseSpec, Workload

SMALL = Workload(DenseSpec((4, 3, 2)), 5)
GIB = 2**30


def container(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon {GIB}\ninactive_file_of_something 7\ninactive_file {GIB}\n")
    return folder


def test_what_is_left_is_the_least_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", container(tmp_path, str(3 * GIB + 1000)))
    assert memory.available_bytes() == GIB + 1000
    monkeypatch.setattr(memory, "CGROUP", container(tmp_path, str(GIB)))
    assert memory.available_bytes() == 0
    for unlimited in (container(tmp_path, "max"), tmp_path / "none"):
        monkeypatch.setattr(memory, "CGROUP", unlimited)
        assert memory.available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_what_is_needed_grows_with_inputs_and_weights() -> None:
    numbers = 3 * 5 * 4 + (4 * 3 + 3 + 3 * 2 + 2)
    assert memory.needed_bytes(SMALL) == (8 + 4 + 4) * numbers
    assert memory.needed_bytes(SMALL.replace(dtype="float64")) == 3 * 8 * numbers
    memory.require_memory(SMALL)
    with pytest.raises(MemoryError, match=r"GiB beside the framework, .* GiB are free"):
        memory.require_memory(SMALL.replace(batch_size=10**12))


def test_what_the_kernel_says_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "VMSTAT", path)
    assert memory.out_of_memory_kills() == 0
    path.write_text("pgfault 12\noom_kill 3\n")
    assert memory.out_of_memory_kills() == 3
    path.write_text("oom_kill_of_another_kernel 3\n")
    assert memory.out_of_memory_kills() == 0
