"""The private channel: what goes in comes out, and what is not a message is refused."""

import json
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceoff.core.errors import MessageError
from faceoff.core.messages import ARRAY_DTYPES, MAGIC, Channel, ChannelClosedError, ChannelTimeoutError, Message


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    first, second = Channel(ours), Channel(theirs)
    yield first, second
    first.close()
    second.close()


def send_raw(header: bytes, channel: Channel, magic: bytes = MAGIC, length: int | None = None) -> None:
    raw = socket.socket(fileno=socket.dup(channel.fileno()))
    raw.sendall(magic + struct.pack(">Q", len(header) if length is None else length) + header)
    raw.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text().filter(lambda k: k != "$array"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=st.dictionaries(st.text().filter(lambda k: k != "$array"), VALUES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_json_body_arrives_unchanged(body):
    ours, theirs = socket.socketpair()
    first, second = Channel(ours), Channel(theirs)
    first.send(Message("kind", body))
    assert second.receive(5) == Message("kind", body)
    first.close()
    second.close()


@pytest.mark.parametrize("dtype", ARRAY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3, 5)], ids=str)
def test_arrays_keep_values_dtype_and_shape(ends, dtype, shape):
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype)
    ends[0].send(Message("x", {"nested": [{"array": array}]}))
    received = ends[1].receive(5).body["nested"][0]["array"]
    assert received.dtype == array.dtype
    assert received.shape == array.shape
    np.testing.assert_array_equal(received, array)


def test_arrays_that_are_not_contiguous_arrive_in_order(ends):
    array = np.arange(24.0).reshape(4, 6).T[::2]
    ends[0].send(Message("x", {"array": array}))
    np.testing.assert_array_equal(ends[1].receive(5).body["array"], array)


def test_an_array_larger_than_the_socket_buffer_arrives(ends):
    array = np.random.default_rng(0).standard_normal(2_000_000)
    sender = threading.Thread(target=ends[0].send, args=(Message("x", {"array": array}),))
    sender.start()
    np.testing.assert_array_equal(ends[1].receive(20).body["array"], array)
    sender.join()


def test_a_numpy_scalar_keeps_its_dtype(ends):
    ends[0].send(Message("x", {"loss": np.float32(0.1)}))
    received = ends[1].receive(5).body["loss"]
    assert received.dtype == np.float32
    assert received == np.float32(0.1)


def test_not_a_number_and_infinity_survive_in_arrays_and_floats(ends):
    ends[0].send(Message("x", {"array": np.array([np.nan, np.inf, -0.0]), "float": float("inf")}))
    body = ends[1].receive(5).body
    np.testing.assert_array_equal(body["array"], [np.nan, np.inf, 0.0])
    assert body["float"] == float("inf")


@pytest.mark.parametrize(
    "value",
    [object(), b"bytes", {1: 2}, {"$array": 0}, np.array(["text"]), np.array([1j])],
    ids=["object", "bytes", "whole-number key", "reserved key", "array of text", "complex array"],
)
def test_a_value_that_cannot_travel_is_refused_before_anything_is_sent(ends, value):
    with pytest.raises(MessageError):
        ends[0].send(Message("x", {"value": value}))
    ends[0].send(Message("next"))
    assert ends[1].receive(5).kind == "next"


def test_a_closed_channel_says_so(ends):
    ends[0].close()
    with pytest.raises(ChannelClosedError):
        ends[1].receive(5)


def test_silence_ends_at_the_time_limit(ends):
    with pytest.raises(ChannelTimeoutError, match=r"0\.05 s"):
        ends[0].receive(0.05)


@pytest.mark.parametrize("timeout_s", [1e7, float("inf")])
def test_a_time_limit_longer_than_the_kernel_s_is_one_all_the_same(ends, timeout_s):
    ends[0].send(Message("late", {}))
    assert ends[1].receive(timeout_s).kind == "late"


def test_a_message_cut_off_in_the_middle_is_an_error(ends):
    send_raw(b"{}", ends[0], length=100)
    ends[0].close()
    with pytest.raises(ChannelClosedError, match="2 of 100"):
        ends[1].receive(5)


def header(**changes: object) -> bytes:
    return json.dumps({"version": 1, "kind": "x", "body": {}, "arrays": [], **changes}).encode()


@pytest.mark.parametrize(
    ("data", "magic", "said"),
    [
        (b"{}", b"HTTP", "not a message"),
        (b"\xff\xfe", MAGIC, "not JSON"),
        (header(version=99), MAGIC, "other protocol version"),
        (header(kind=3), MAGIC, "lacks a field"),
        (header(arrays=[{"dtype": "object", "shape": [1]}]), MAGIC, "bad array description"),
        (header(arrays=[{"dtype": "float64", "shape": [-1]}]), MAGIC, "bad array description"),
        (header(arrays=[{"dtype": "float64", "shape": [2**40]}]), MAGIC, "array too large"),
        (header(body={"a": {"$array": 5}}), MAGIC, "array that is not there"),
    ],
)
def test_what_is_not_a_message_is_refused(ends, data, magic, said):
    send_raw(data, ends[0], magic)
    with pytest.raises(MessageError, match=said):
        ends[1].receive(5)


def test_an_absurd_header_length_is_refused_without_waiting_for_it(ends):
    send_raw(b"", ends[0], length=2**60)
    with pytest.raises(MessageError, match="header too long"):
        ends[1].receive(5)
