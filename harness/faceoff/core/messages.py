"""Messages between parent and worker: JSON with arrays beside it, over a private socket. No pickle.

A frame is the magic bytes, the length of the header (8 bytes, big-endian), the header (JSON), and the raw arrays in the
order the header lists them, C-contiguous and little-endian. Standard output and error of a worker are its log; nothing
printed there can disturb a message.
"""

import json
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import numpy as np

from faceoff.core.errors import MessageError

PROTOCOL_VERSION = 1
MAGIC = b"FOF1"
MAX_HEADER_BYTES = 256 * 2**20
MAX_ARRAY_BYTES = 16 * 2**30
# So long a wait is, before it is seen whether this process ran meanwhile.
SLICE_S = 0.5
ARRAY_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
ARRAY_KEY = "$array"


class ChannelClosedError(MessageError):
    """The other side is gone."""


class ChannelTimeoutError(MessageError):
    """The other side did not answer in time."""


@dataclass(frozen=True)
class Message:
    """A request or a reply.

    Args:
        kind: the verb of a request (`build`, `run`, ...), or `ok` or `error` for a reply.
        body: JSON values and NumPy arrays, nested in dicts and lists with string keys.
    """

    kind: str
    body: Dict[str, Any] = field(default_factory=dict)


class Channel:
    """One end of the private connection.

    Args:
        connection: a connected stream socket, which the channel now owns.

    Attributes:
        held_up_s: time in which this process did not run while it waited for messages.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.held_up_s = 0.0

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the connection; the other side reads its end."""
        self._socket.close()

    def send(self, message: Message, timeout_s: Optional[float] = None) -> None:
        """Sends the whole message, or raises ChannelClosedError or ChannelTimeoutError."""
        arrays: List[np.ndarray] = []
        body = _pack(message.body, arrays)
        header = {
            "version": PROTOCOL_VERSION,
            "kind": message.kind,
            "body": body,
            "arrays": [{"dtype": str(a.dtype), "shape": list(a.shape)} for a in arrays],
        }
        encoded = json.dumps(header).encode()
        deadline = _Deadline(timeout_s)
        self._send_bytes(memoryview(MAGIC + struct.pack(">Q", len(encoded)) + encoded), deadline)
        for array in arrays:
            if array.nbytes:
                self._send_bytes(array.reshape(-1).view("uint8").data, deadline)

    def receive(self, timeout_s: Optional[float] = None) -> Message:
        """Waits for the next message.

        Raises:
            ChannelClosedError: the other side closed the connection, or died.
            ChannelTimeoutError: no whole message within `timeout_s` seconds.
            MessageError: what came is not a message of this protocol.
        """
        deadline = _Deadline(timeout_s)
        start = self._receive_bytes(len(MAGIC) + 8, deadline)
        if bytes(start[: len(MAGIC)]) != MAGIC:
            raise MessageError("not a message", where="channel", got=bytes(start[:4]), expected=repr(MAGIC))
        (length,) = struct.unpack(">Q", start[len(MAGIC) :])
        if length > MAX_HEADER_BYTES:
            raise MessageError(
                "header too long", where="channel", got=length, expected=f"at most {MAX_HEADER_BYTES} bytes"
            )
        header = _checked_header(bytes(self._receive_bytes(length, deadline)))
        arrays = [self._receive_array(description, deadline) for description in header["arrays"]]
        self.held_up_s += deadline.held_up_s
        return Message(header["kind"], _unpack(header["body"], arrays))

    def _receive_array(self, description: Dict[str, Any], deadline: "_Deadline") -> np.ndarray:
        dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
        size = dtype.itemsize
        for length in shape:
            # As Python's own numbers, which do not overflow.
            size *= int(length)
        if size > MAX_ARRAY_BYTES:
            raise MessageError(
                "array too large", where="channel", got=f"{size} bytes", expected=f"at most {MAX_ARRAY_BYTES}"
            )
        return np.frombuffer(self._receive_bytes(size, deadline), dtype=dtype).reshape(shape)

    def _send_bytes(self, data: memoryview, deadline: "_Deadline") -> None:
        sent = 0
        while sent < len(data):
            deadline.wait(self._socket, writing=True)
            try:
                sent += self._socket.send(data[sent : sent + 2**20], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                raise ChannelClosedError("the other side is gone", where="channel", got=str(error)) from None

    def _receive_bytes(self, size: int, deadline: "_Deadline") -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            deadline.wait(self._socket, writing=False)
            try:
                count = self._socket.recv_into(view[done:])
            except OSError as error:
                raise ChannelClosedError("the other side is gone", where="channel", got=str(error)) from None
            if count == 0:
                raise ChannelClosedError(
                    "the other side closed the connection", where="channel", got=f"{done} of {size} bytes"
                )
            done += count
        return buffer


class _Deadline:
    """A time limit that does not count the time in which this process did not run.

    A container that is paused, or a job that is stopped, pauses both sides of a channel; nobody hangs meanwhile.
    """

    def __init__(self, timeout_s: Optional[float]) -> None:
        self._timeout_s = timeout_s
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s
        self.held_up_s = 0.0

    def wait(self, connection: socket.socket, writing: bool) -> None:
        poller = select.poll()
        poller.register(connection, select.POLLOUT if writing else select.POLLIN)
        while True:
            begin_s = time.monotonic()
            slice_s = SLICE_S if self._end_s is None else max(0.0, min(SLICE_S, self._end_s - begin_s))
            ready = poller.poll(slice_s * 1000)
            lost_s = time.monotonic() - begin_s - slice_s
            if lost_s > SLICE_S:
                self.held_up_s += lost_s
                self._end_s = None if self._end_s is None else self._end_s + lost_s
            if ready:
                return
            if self._end_s is not None and time.monotonic() >= self._end_s:
                raise ChannelTimeoutError(
                    "no answer", where="channel", expected=f"a message within {self._timeout_s:g} s"
                )


def _pack(value: Any, arrays: List[np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        # As an array it keeps its dtype.
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if str(value.dtype) not in ARRAY_DTYPES:
            raise MessageError(
                "array of a dtype that cannot travel",
                where="message",
                got=value.dtype,
                expected=", ".join(ARRAY_DTYPES),
            )
        # ascontiguousarray would turn a scalar array into one of shape (1,).
        arrays.append(np.asarray(value, order="C"))
        return {ARRAY_KEY: len(arrays) - 1}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == ARRAY_KEY:
                raise MessageError("key that cannot travel", where="message", got=repr(key), expected="text")
        return {key: _pack(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(item, arrays) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise MessageError(
        "value that cannot travel", where="message", got=type(value).__name__, expected="JSON values and arrays"
    )


def _unpack(value: Any, arrays: List[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY_KEY}:
            index = value[ARRAY_KEY]
            if not isinstance(index, int) or not 0 <= index < len(arrays):
                raise MessageError(
                    "array that is not there", where="message", got=index, expected=f"an index below {len(arrays)}"
                )
            return arrays[index]
        return {key: _unpack(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    return value


def _checked_header(encoded: bytes) -> Dict[str, Any]:
    try:
        header = json.loads(encoded)
    except ValueError as error:
        raise MessageError("header is not JSON", where="channel", got=str(error)) from None
    if not isinstance(header, dict) or header.get("version") != PROTOCOL_VERSION:
        got = header.get("version") if isinstance(header, dict) else type(header).__name__
        raise MessageError("other protocol version", where="channel", got=got, expected=str(PROTOCOL_VERSION))
    if (
        not isinstance(header.get("kind"), str)
        or not isinstance(header.get("body"), dict)
        or not isinstance(header.get("arrays"), list)
    ):
        raise MessageError("header lacks a field", where="channel", got=sorted(header), expected="kind, body, arrays")
    for description in header["arrays"]:
        sizes = description.get("shape") if isinstance(description, dict) else None
        if (
            not isinstance(sizes, list)
            or description.get("dtype") not in ARRAY_DTYPES
            or not all(isinstance(size, int) and size >= 0 for size in sizes)
        ):
            raise MessageError("bad array description", where="channel", got=description, expected="dtype and shape")
    return header
