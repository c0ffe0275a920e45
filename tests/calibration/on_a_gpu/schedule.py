"""One call: makes the packages importable, runs part after part, and writes down what there is after each."""

from __future__ import annotations

import argparse
import ctypes
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.calibration.on_a_gpu.carried import NotPreparedError, make_importable
from tests.calibration.on_a_gpu.packing import MIB, PIECE_BYTES, PIECES, pack, unpack
from tests.calibration.on_a_gpu.plan import Part
from tests.calibration.on_a_gpu.running import EARLIER, GRACE_S, ROOT, go_on
from tests.calibration.on_a_gpu.states import NAME, States

RESULTS, CACHES, LOG = "results.zip", "caches.zip", "log.txt"
SITE, KEPT, VENDORS = "packages", "caches", "vendors"
# To pack the compiled code when all else is done.
PACKING_S = 15.0
# The loader of OpenCL reads the names of drivers in files of this folder, unless a variable names another.
SYSTEM_VENDORS = Path("/etc/OpenCL/vendors")
VENDORS_VARIABLE = "OCL_ICD_VENDORS"
NVIDIAS_OPENCL = "libnvidia-opencl.so.1"
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64")


class Schedule:
    """One call.

    Args:
        asked: of the command line (`__main__.parse`).
        parts: in order.
    """

    def __init__(self, asked: argparse.Namespace, parts: Sequence[Part]) -> None:
        self._began_s = time.monotonic()
        self._asked = asked
        self._out: Path = asked.out.resolve()
        self._work: Path = (asked.work or asked.out).resolve()
        self._packs = self._work != self._out
        reserve_s = PACKING_S if self._packs else 0.0
        self._until_s = self._began_s + 60 * asked.minutes - reserve_s
        self._parts = parts

    def run(self) -> int:
        """Runs what there is time for; returns the exit status.

        Raises:
            NotPreparedError: a folder that was named cannot be used.
            KeyboardInterrupt: this was interrupted; what there is has been written.
        """
        for folder in (self._work, self._out):
            folder.mkdir(parents=True, exist_ok=True)
        environment = self._prepare()
        states = States(self._work / NAME, self._parts)
        try:
            self._run_parts(states, environment)
        finally:
            self._keep(states)
            if self._packs:
                with self._told("compiled code packed"):
                    self._pack_caches()
        left = states.unfinished()
        self._say(f"left: {', '.join(left) or 'nothing'}")
        return 3 if left else 0

    def _prepare(self) -> dict[str, str]:
        """Unpacks what was brought along; returns the environment of the parts."""
        asked, site = self._asked, self._work / SITE
        if asked.prepared:
            with self._told("packages made importable"):
                unpacked, lacking = make_importable(asked.prepared, site)
            self._say(f"packages: {', '.join(unpacked) or 'all are there'}")
            if lacking:
                self._say(f"lacking, here and in {asked.prepared}: {', '.join(lacking)}")
        try:
            if asked.before:
                unpack(asked.before / RESULTS, self._work)
                if not (self._work / NAME).exists():
                    raise NotPreparedError(f"--before: {asked.before}: no {RESULTS} of an earlier call")
            for folder in filter(None, (asked.prepared, asked.before, asked.caches)):
                if count := unpack(folder / CACHES, self._work / KEPT):
                    self._say(f"compiled code: {count} files from {folder}")
        except zipfile.BadZipFile as error:
            raise NotPreparedError(f"what an earlier call left is not whole: {error}; copy all its files") from None
        return self._environment(site)

    def _environment(self, site: Path) -> dict[str, str]:
        paths = [str(site), str(ROOT / "harness"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        kept = self._work / KEPT
        kept.mkdir(exist_ok=True)
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(kept),
            **name_opencl_driver(self._work / VENDORS, os.environ),
        }

    def _run_parts(self, states: States, environment: Mapping[str, str]) -> None:
        """Every part once, those first that had no turn yet; then again, while there is time, those that can go on."""
        chosen = [part for part in self._parts if not self._asked.only or part.name in self._asked.only]
        waiting = [part for part in chosen if states[part].state != "finished"]
        while waiting:
            for part in sorted(waiting, key=lambda part: len(states[part].calls)):
                if time.monotonic() + 2 * GRACE_S > self._until_s:
                    return
                self._run_part(part, states, environment)
            waiting = [part for part in waiting if part.resumes and states[part].state == "out of time"]

    def _run_part(self, part: Part, states: States, environment: Mapping[str, str]) -> None:
        state = states[part]
        state.state = "running"
        self._tell_states(states)
        # Whoever starts again and has no more time than before gets no farther than before.
        limit_s = part.limit_s * 2 ** len(state.calls)
        self._say(f"{part.name}: begins, at most {limit_s:g} s")
        until_s = min(time.monotonic() + limit_s, self._until_s)
        try:
            go_on(part, state, self._work / part.name, self._asked.device, until_s, environment)
        finally:
            for call in state.calls[-1:]:
                self._say(f"{part.name}: {state.state} after {call.took_s} s, status {call.status}")
            self._keep(states)

    def _keep(self, states: States) -> None:
        """Writes down what there is, and packs it where --out is to hold few files."""
        self._tell_states(states)
        if not self._packs:
            return
        left_out = pack(self._work, self._results(), self._out / RESULTS)
        if left_out:
            self._say(f"no room in {RESULTS}: {', '.join(str(path.relative_to(self._work)) for path in left_out)}")

    def _tell_states(self, states: States) -> None:
        states.write()
        if self._packs:
            (self._out / NAME).write_bytes((self._work / NAME).read_bytes())

    def _results(self) -> Iterator[Path]:
        """States, then each part's files; results before the journals they were made from."""
        yield self._work / NAME
        for folder in (*(self._work / part.name for part in self._parts), self._work / EARLIER):
            files = (path for path in folder.rglob("*") if path.is_file())
            yield from sorted(files, key=lambda path: (path.suffix == ".jsonl", path))

    def _pack_caches(self) -> None:
        kept = self._work / KEPT
        most = min(int(self._asked.cache_mib * MIB), PIECES * PIECE_BYTES)
        left_out = pack(kept, oldest_first(kept), self._out / CACHES, most)
        if left_out:
            self._say(f"compiled code: {len(left_out)} files are left out, at {most / MIB:g} MiB")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self._say(f"{what} in {time.monotonic() - began_s:.1f} s")

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began_s:6.1f} s  {text}"
        print(line, flush=True)
        with (self._out / LOG).open("a") as log:
            log.write(line + "\n")


def oldest_first(folder: Path) -> list[Path]:
    """All files below a folder; what the first parts compiled is asked for first the next time."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(files, key=lambda path: (path.stat().st_mtime, path))


def name_opencl_driver(
    vendors: Path,
    environment: Mapping[str, str],
    system: Path = SYSTEM_VENDORS,
    folders: Iterable[str] = DRIVER_FOLDERS,
) -> dict[str, str]:
    """Where nothing names NVIDIA's driver to OpenCL's loader, and it is there: a variable that does.

    Args:
        vendors: the folder that then holds its name, beside those that the system names.
        environment: of this process.
        system: folder that the loader reads by itself.
        folders: in which the driver may lie, beside those that the linker knows.
    """
    named = sorted(system.glob("*.icd"))
    if environment.get(VENDORS_VARIABLE) or any("nvidia" in path.read_text() for path in named):
        return {}
    driver = find_library(NVIDIAS_OPENCL, [*environment.get("LD_LIBRARY_PATH", "").split(os.pathsep), *folders])
    if not driver:
        return {}
    vendors.mkdir(parents=True, exist_ok=True)
    for path in named:
        (vendors / path.name).write_bytes(path.read_bytes())
    (vendors / "nvidia.icd").write_text(f"{driver}\n")
    return {VENDORS_VARIABLE: str(vendors)}


def find_library(name: str, folders: Sequence[str]) -> str:
    """The path of a shared library, or its name where the linker finds it by that; empty where it is not there."""
    for folder in filter(None, folders):
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    try:
        ctypes.CDLL(name)
    except OSError:
        return ""
    return name
