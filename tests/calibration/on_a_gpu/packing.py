"""Many files as few: a zip that is cut into pieces of a size that can be carried, and opened again from them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

MIB = 2**20
# Whoever lends a machine may give back few files, none of them large.
PIECE_BYTES = 15 * MIB
PIECES = 2
# Of an entry beside its content, at most: two headers and two names.
HEADERS_BYTES = 1024


def pack(root: Path, files: Iterable[Path], target: Path, most_bytes: int = PIECES * PIECE_BYTES) -> list[Path]:
    """Writes `files` as `target.1`, `target.2` and so on, which together are a zip; earlier pieces are replaced.

    Args:
        root: the folder that names in the zip begin at.
        files: below `root`, the most worthwhile first.
        target: such as `results.zip`.
        most_bytes: of all pieces together.

    Returns:
        The files that were left out: there was no more room, or they were gone.
    """
    packed, left_out = io.BytesIO(), []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in files:
            try:
                content = path.read_bytes()
            except OSError:
                left_out.append(path)
                continue
            # The table at the end takes as much for an entry as its own header does.
            headers = HEADERS_BYTES * (len(archive.infolist()) + 1)
            if packed.tell() + len(content) + len(content) // 1000 + headers > most_bytes:
                left_out.append(path)
            else:
                archive.writestr(str(path.relative_to(root)), content)
    whole = packed.getvalue()
    pieces = [whole[begin : begin + PIECE_BYTES] for begin in range(0, len(whole), PIECE_BYTES)]
    for number, piece in enumerate(pieces, 1):
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(piece)
        part.replace(target.with_name(f"{target.name}.{number}"))
    for stale in pieces_of(target)[len(pieces) :]:
        stale.unlink()
    return left_out


def pieces_of(target: Path) -> list[Path]:
    """The pieces of a zip in their order; none where there is no such zip."""
    found = [path for path in target.parent.glob(f"{target.name}.*") if path.suffix[1:].isdigit()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def unpack(target: Path, folder: Path) -> int:
    """Writes the files of a zip that `pack` made into `folder`, but none that is there already.

    Returns:
        How many there were; 0 where there is no such zip.

    Raises:
        zipfile.BadZipFile: a piece is missing or damaged.
    """
    pieces = pieces_of(target)
    if not pieces:
        return 0
    written = 0
    try:
        with zipfile.ZipFile(io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as archive:
            for name in archive.namelist():
                if not (folder / name).exists():
                    archive.extract(name, folder)
                    written += 1
    except ValueError as error:
        # Where a piece is missing, it looks for parts outside what is there.
        raise zipfile.BadZipFile(str(error)) from None
    return written
