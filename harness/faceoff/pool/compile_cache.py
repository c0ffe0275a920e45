"""What a killed process or a full disk leaves in the folder of compiled code.

No framework looks: a library that is found is loaded, and an entry that cannot be unpacked is compiled anew by every
process and never replaced. Which files are which, a framework's manifest says (`[compiled]`).
"""

from __future__ import annotations

import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import psutil

from faceoff.frameworks.manifest import CompiledFiles
from faceoff.system.whole_files import remove_parts

ELF, ZSTANDARD = b"\x7fELF", b"\x28\xb5\x2f\xfd"


def remove_damaged(folder: Path, compiled: CompiledFiles) -> list[Path]:
    """Removes what is not whole and nobody is at work on, so that it is compiled again.

    Args:
        folder: the cache of one framework.
        compiled: what its compilers keep there.

    Returns:
        What was removed.
    """
    removed = []
    begun = list(folder.glob(f"*/*{compiled.at_work}")) if compiled.at_work else []
    busy = _working_folders() if begun else set()
    for place in begun:
        if place.resolve() not in busy:
            library = place.with_name(place.name.removesuffix(compiled.at_work) + ".so")
            library.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            removed.append(library)
    for library in folder.glob(compiled.libraries) if compiled.libraries else ():
        being_made = compiled.at_work and library.with_name(library.stem + compiled.at_work).exists()
        if not being_made and not _is_whole_library(library):
            library.unlink(missing_ok=True)
            removed.append(library)
    for entry in folder.glob(compiled.packed) if compiled.packed else ():
        # Whoever writes it at this moment loses no more than this entry.
        if entry.is_file() and not _is_whole_entry(entry.read_bytes()):
            entry.unlink(missing_ok=True)
            removed.append(entry)
    for place in {folder, *(part.parent for part in folder.rglob(".*.part"))}:
        remove_parts(place)
    return removed


def _working_folders() -> set[Path]:
    """The working folders of all processes that may be looked at."""
    found = (process.info["cwd"] for process in psutil.process_iter(["cwd"]))
    return {Path(folder) for folder in found if folder}


def _is_whole_library(path: Path) -> bool:
    """Whether a shared library has its last part, the table of sections; on another system than Linux unknown, so yes.

    Of ELF with 64 bits, as its header says: where the table begins, how long an entry is, how many there are.
    """
    with path.open("rb") as file:
        header = file.read(64)
    if not header:
        return False
    if header[:4] != ELF or len(header) < 64 or header[4] != 2:
        return not ELF.startswith(header[:4])
    order = "<" if header[5] == 1 else ">"
    (begin,) = struct.unpack(order + "Q", header[40:48])
    size, count = struct.unpack(order + "HH", header[58:62])
    return path.stat().st_size >= int(begin + size * count)


def _is_whole_entry(content: bytes) -> bool:
    """Whether a file can be unpacked that was packed by zlib or by Zstandard."""
    if content.startswith(ZSTANDARD):
        return _is_whole_zstandard(content)
    with suppress(zlib.error):
        unpacking = zlib.decompressobj()
        unpacking.decompress(content)
        return unpacking.eof
    return False


def _is_whole_zstandard(content: bytes) -> bool:
    """Whether its blocks are all there (RFC 8878, section 3.1.1); nothing is unpacked."""
    try:
        descriptor = content[4]
        single, has_checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
        of_content = (single, 2, 4, 8)[descriptor >> 6]
        at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + of_content
        last = False
        while not last:
            head = content[at] | content[at + 1] << 8 | content[at + 2] << 16
            last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
            at += 3 + (1 if kind == 1 else size)
    except IndexError:
        return False
    return len(content) >= at + 4 * has_checksum
