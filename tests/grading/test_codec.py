"""The codec: plain data comes back as it was, anything else is refused, and no bytes harm the side that reads them."""

import dataclasses
import math
import struct
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grading import codec

ZONES = [zoneinfo.ZoneInfo(key) for key in ("Europe/London", "Asia/Kathmandu", "America/New_York")] + [timezone.utc]
texts = st.text(st.characters(exclude_categories=()))  # lone surrogates too
keys = st.one_of(st.none(), st.booleans(), st.integers(), texts, st.binary())
scalars = st.one_of(
    keys,
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from(ZONES)),
    st.dates(),
    st.times(),
    st.timedeltas(),
)
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.sets(keys, max_size=5),
        st.frozensets(keys, max_size=5),
        st.dictionaries(keys, inner, max_size=5),
    ),
    max_leaves=20,
)


def same(one, other) -> bool:
    """Equal in value and in type, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, datetime):
        return (one.replace(tzinfo=None), one.utcoffset(), one.fold) == (other.replace(tzinfo=None), other.utcoffset(), other.fold)
    return one == other


@given(plain)
@settings(max_examples=150, deadline=None)
def test_plain_data_comes_back_as_it_was(value):
    """Same values, same types, lone surrogates and zones included."""
    assert same(codec.decode(codec.encode(value)), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_numbers_that_are_none_come_back(value):
    """NaN and infinities are floats like others."""
    assert repr(codec.decode(codec.encode(value))) == repr(value)


def test_a_moment_keeps_its_fold():
    """The two 01:30 of an autumn night stay apart."""
    for fold in (0, 1):
        moment = datetime(2018, 10, 28, 1, 30, fold=fold, tzinfo=zoneinfo.ZoneInfo("Europe/London"))
        assert codec.decode(codec.encode(moment)).utcoffset() == moment.utcoffset()


@pytest.mark.parametrize(
    "kind", [OrderedDict, lambda pairs: defaultdict(int, pairs), lambda pairs: Counter(dict(pairs))], ids=["ordered", "default", "counter"]
)
def test_the_standard_library_s_dicts_are_dicts(kind):
    """They arrive as plain ones."""
    assert codec.decode(codec.encode(kind([("a", 1)]))) == {"a": 1}


def test_dataclasses_and_named_tuples_are_records():
    """By the name of the type and of the fields."""
    point, pair = dataclasses.make_dataclass("Point", ["x", "y"]), namedtuple("Pair", "a b")
    assert codec.decode(codec.encode(point(1, (2,)))) == codec.Record("Point", {"x": 1, "y": (2,)})
    assert codec.decode(codec.encode(pair(1, [2]))) == codec.Record("Pair", {"a": 1, "b": [2]})


def test_a_generator_is_taken_to_a_limit():
    """A finite one arrives as a list; an endless one is refused."""
    assert codec.decode(codec.encode(n * n for n in range(4))) == [0, 1, 4, 9]
    assert codec.decode(codec.encode(iter([1, 2]))) == [1, 2]
    with pytest.raises(codec.CodecError, match=r"yields more than 100,000 items"):
        codec.encode(n for n in iter(int, 1))


class Lie(int):
    """Says that it equals everything."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Text(str):
    """A str of its own."""


def endless() -> list:
    """A list that holds itself."""
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Lie(3), "Lie is no plain data"),
        ([{"a": Text("x")}], "Text is no plain data"),
        (object(), "object is no plain data"),
        (len, "builtin_function_or_method is no plain data"),
        (endless(), "nested too deep"),
        (b"x" * (codec.LIMIT + 1), "more than the 33,554,432 that may cross"),
        (1 << (8 * codec.INT_BYTES), "an integer has 4,097 bytes"),
    ],
    ids=["subclass of int", "subclass of str", "object", "function", "endless", "large", "integer"],
)
def test_what_is_no_plain_data_is_refused(value, why):
    """The message names the type or the limit."""
    with pytest.raises(codec.CodecError, match=why):
        codec.encode(value)


def nested(code: int, depth: int) -> bytes:
    """Extensions within extensions."""
    data = msgpack.packb([])
    for _ in range(depth):
        data = msgpack.packb([msgpack.ExtType(code, data)])
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2]) + b"\x00",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(msgpack.ExtType(99, b"")),
        msgpack.packb(msgpack.ExtType(1, b"\x01")),
        msgpack.packb(msgpack.ExtType(2, msgpack.packb([[]]))),
        msgpack.packb(msgpack.ExtType(6, b"short")),
        msgpack.packb(msgpack.ExtType(7, msgpack.packb(["2018-01-01", "../../etc/passwd", 0]))),
        msgpack.packb(msgpack.ExtType(7, msgpack.packb(["2018-01-01", "Nowhere/City", 0]))),
        msgpack.packb(msgpack.ExtType(5, b"one")),
        msgpack.packb(msgpack.ExtType(4, b"\x01" * (codec.INT_BYTES + 1))),
        msgpack.packb(msgpack.ExtType(11, msgpack.packb([1, 2]))),
        msgpack.packb(msgpack.ExtType(12, msgpack.packb(["1", "x"]))),
        msgpack.packb({n: n for n in range(codec.ODD_KEYS + 1)}),
        msgpack.packb(msgpack.ExtType(2, msgpack.packb(list(range(codec.ODD_KEYS + 1))))),
        b"\x91" * 2000 + b"\x00",
        nested(1, 150),
        b"\x00" * (codec.LIMIT + 1),
    ],
    ids=lambda data: data[:8].hex() or "nothing",
)
def test_forged_bytes_are_one_error(data):
    """CodecError, whatever they are."""
    with pytest.raises(codec.CodecError):
        codec.decode(data)


@given(
    st.one_of(
        st.binary(max_size=400), plain.map(codec.encode).flatmap(lambda data: st.builds(_flipped, st.just(data), st.integers(0), st.integers(1, 255)))
    )
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_bytes_are_a_value_or_an_error(data):
    """Bytes at random, and real frames with one byte changed: never another exception, never another type."""
    try:
        value = codec.decode(data)
    except codec.CodecError:
        return
    assert set(types_in(value)) <= KNOWN


def _flipped(data: bytes, place: int, by: int) -> bytes:
    changed = bytearray(data)
    changed[place % len(data)] ^= by
    return bytes(changed)


KNOWN = {type(None), bool, int, float, str, bytes, list, dict, tuple, set, frozenset, Decimal, UUID, datetime, date, time, timedelta}
KNOWN |= {codec.Record, codec.Handle, codec.Callback, msgpack.Timestamp}


def types_in(value):
    """Every type in a decoded value."""
    yield type(value)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from types_in(item)


def test_a_frame_that_says_it_is_huge_is_refused_before_it_is_read():
    """Its head is enough."""
    with pytest.raises(codec.CodecError, match="is larger than"):
        codec.read(lambda size: struct.pack(">I", codec.LIMIT + 1)[:size])


def test_frames_follow_each_other():
    """What was written is read, one after the other."""
    sent = bytearray()
    for value in ([1], {"a": "ü"}):
        codec.write(sent.extend, codec.encode(value))
    stream = iter([sent[:4], sent[4:6], sent[6:10], sent[10:]])
    assert [codec.decode(bytes(codec.read(lambda size: next(stream)))) for _ in range(2)] == [[1], {"a": "ü"}]
