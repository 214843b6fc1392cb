"""What may cross between the grader and a student's code: plain data, as MessagePack with extension types. Version 1.

A frame is four bytes of length (big-endian), then one value of at most LIMIT bytes. None, bool, int, float (NaN and
infinities too), str (lone surrogates too), bytes, list and dict are MessagePack's own. Everything else is an extension:

    1 tuple        [items]                       8 date       ISO text
    2 set          [items]                       9 time       ISO text, fold
    3 frozenset    [items]                      10 timedelta  [days, seconds, microseconds]
    4 int          beyond 64 bits, signed bytes 11 record     [type, {field: value}]: dataclass, named tuple
    5 Decimal      text                         12 handle     [number, type]: an object that stays on the far side
    6 UUID         16 bytes                     13 callback   [number, name]: a function that stays on the near side
    7 datetime     [ISO text, zone or null, fold]
    14 iterated    [items]: what a generator or another iterator yielded, to at most ITEMS

Only exact types pass: a subclass of int can lie, so it is no plain data. Decoding builds nothing but these types; it runs
no code that came with the data, and costs no more than a small multiple of the frame's size. (MessagePack's own timestamp is
read as what it is, and never written.)
"""

import collections
import dataclasses
import struct
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import islice
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack

VERSION = 1
LIMIT = 32 * 2**20
"""Bytes of one frame."""
ITEMS = 100_000
"""Items that are taken from a generator."""
DEPTH = 100
"""Extension types within each other; lists and dicts may go some hundred deep."""
ODD_KEYS = 10_000
"""Entries of a set, or of a dict whose keys are not all text or bytes: their hashes can be made to collide."""
INT_BYTES = 4096
MAPPINGS = (collections.OrderedDict, collections.defaultdict, collections.Counter)
_HEAD = struct.Struct(">I")
HEAD = _HEAD.size
"""Bytes of a frame before its content."""


class CodecError(Exception):
    """A value cannot cross, or bytes are no value; the message says why."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A dataclass or named tuple from the other side: the name of its type, and its fields by name."""

    type: str
    fields: dict


@dataclasses.dataclass(frozen=True)
class Handle:
    """An object on the far side: its number there, and what its type is called."""

    number: int
    type: str


@dataclasses.dataclass(frozen=True)
class Callback:
    """A function on the near side."""

    number: int
    name: str


def name_of(value: object) -> str:
    """The type's name for people: "int", "numpy.int64"."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"


def encode(value: object, special: Callable[[object], object] | None = None) -> bytes:
    """The value as bytes.

    Args:
        value: plain data.
        special: turns what is no plain data into a Handle or Callback, or returns None.

    Raises:
        CodecError: something in it is no plain data, too large or too deep.
    """
    try:
        packed = _pack(value, special, 0)
    except (ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"the value is nested too deep or too large ({error})") from None
    if len(packed) > LIMIT:
        raise CodecError(f"the value takes {len(packed):,} bytes, more than the {LIMIT:,} that may cross")
    return packed


def _pack(value, special, depth: int) -> bytes:
    if depth > DEPTH:
        raise CodecError(f"the value is nested deeper than {DEPTH}")

    def extension(item):
        return _extension(item, special, depth)

    return msgpack.packb(value, default=extension, strict_types=True, unicode_errors="surrogatepass")


def _extension(value, special, depth: int):
    kind = type(value)
    if kind in MAPPINGS:
        return dict(value)
    code, content = _parts(value, kind, special)
    return msgpack.ExtType(code, content if type(content) is bytes else _pack(content, special, depth + 1))


def _parts(value, kind, special):
    """Extension code and content of a value that MessagePack does not know."""
    if kind in _CONTAINERS:
        return _CONTAINERS[kind], list(value)
    if kind in _SIMPLE:
        code, content = _SIMPLE[kind]
        return code, content(value)
    if special and (marked := special(value)) is not None:
        value, kind = marked, type(marked)
    if kind is Handle or kind is Callback:
        return (12 if kind is Handle else 13), [value.number, value.type if kind is Handle else value.name]
    if kind is Record:
        return 11, [value.type, value.fields]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return 11, [kind.__name__, dict(zip(kind._fields, value, strict=True))]
    if dataclasses.is_dataclass(kind):
        return 11, [kind.__name__, {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}]
    if issubclass(kind, Iterator):
        return 14, _taken(value)
    raise CodecError(f"{name_of(value)} is no plain data")


def _int(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size > INT_BYTES:
        raise CodecError(f"an integer has {size:,} bytes, more than {INT_BYTES:,}")
    return value.to_bytes(size, "big", signed=True)


def _moment(value: datetime) -> list:
    key = getattr(value.tzinfo, "key", None)
    return [value.isoformat(), key if type(key) is str else None, value.fold]


def _taken(generator) -> list:
    items = list(islice(generator, ITEMS + 1))
    if len(items) > ITEMS:
        raise CodecError(f"a generator yields more than {ITEMS:,} items")
    return items


_CONTAINERS = {tuple: 1, set: 2, frozenset: 3}
_SIMPLE = {
    int: (4, _int),
    Decimal: (5, lambda value: str(value).encode()),
    UUID: (6, lambda value: value.bytes),
    datetime: (7, _moment),
    date: (8, lambda value: value.isoformat().encode()),
    time: (9, lambda value: [value.isoformat(), value.fold]),
    timedelta: (10, lambda value: [value.days, value.seconds, value.microseconds]),
}


def decode(data: bytes, special: Callable[[object], object] | None = None):
    """The value in these bytes, built of plain types, Record, Handle and Callback.

    Args:
        data: one frame's content.
        special: gets each Handle and Callback, and returns what stands in its place.

    Raises:
        CodecError: the bytes are no value, whatever they are.
    """
    if len(data) > LIMIT:
        raise CodecError(f"a frame of {len(data):,} bytes is larger than {LIMIT:,}")
    try:
        return _unpack(data, special, 0)
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, ArithmeticError, LookupError, OSError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(f"the bytes are no value ({type(error).__name__}: {error})") from None


def _unpack(data: bytes, special, depth: int):
    if depth > DEPTH:
        raise CodecError(f"a value is nested deeper than {DEPTH}")

    def extension(code, content):
        return _made(code, content, special, depth)

    return msgpack.unpackb(data, ext_hook=extension, object_pairs_hook=_mapping, strict_map_key=False, unicode_errors="surrogatepass")


def _mapping(pairs: list) -> dict:
    if len(pairs) > ODD_KEYS and not all(type(key) in (str, bytes) for key, _ in pairs):
        raise CodecError(f"a dict with other keys than text has more than {ODD_KEYS:,} entries")
    return dict(pairs)


def _made(code: int, content: bytes, special, depth: int):
    if code in _FROM_BYTES:
        return _FROM_BYTES[code](content)
    parts = _unpack(content, special, depth + 1)
    if code in _FROM_LIST and type(parts) is list:
        made = _FROM_LIST[code](parts)
        return special(made) if special and code in (12, 13) else made
    raise CodecError(f"extension type {code} is unknown or its content is no list")


def _set(items: list) -> set:
    if len(items) > ODD_KEYS and not all(type(item) in (str, bytes) for item in items):
        raise CodecError(f"a set of other things than text has more than {ODD_KEYS:,} items")
    return set(items)


def _big(content: bytes) -> int:
    if len(content) > INT_BYTES:
        raise CodecError("an integer is too large")
    return int.from_bytes(content, "big", signed=True)


def _decimal(content: bytes) -> Decimal:
    if len(content) > INT_BYTES:
        raise CodecError("a decimal is too long")
    return Decimal(content.decode("ascii"))


def _datetime(parts: list) -> datetime:
    text, zone, fold = parts
    moment = datetime.fromisoformat(text)
    if zone is not None:
        # The clock's reading counts, not the offset: across a fold both are told apart by fold.
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    elif moment.tzinfo is not None and not moment.utcoffset():
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.replace(fold=1 if fold else 0)


def _record(parts: list) -> Record:
    kind, fields = parts
    if type(kind) is not str or type(fields) is not dict:
        raise CodecError("a record has no name or no fields")
    return Record(kind, fields)


def _numbered(kind):
    def made(parts: list):
        number, name = parts
        if type(number) is not int or type(name) is not str:
            raise CodecError(f"a {kind.__name__.lower()} has no number or no name")
        return kind(number, name)

    return made


_FROM_BYTES = {
    4: _big,
    5: _decimal,
    6: lambda content: UUID(bytes=content),
    8: lambda content: date.fromisoformat(content.decode("ascii")),
}
_FROM_LIST = {
    1: tuple,
    2: _set,
    3: lambda items: frozenset(_set(items)),
    7: _datetime,
    9: lambda parts: time.fromisoformat(parts[0]).replace(fold=1 if parts[1] else 0),
    10: lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    11: _record,
    12: _numbered(Handle),
    13: _numbered(Callback),
    14: list,
}


def frame(data: bytes) -> bytes:
    """The content as one frame."""
    return _HEAD.pack(len(data)) + data


def size_of(head: bytes) -> int:
    """How many bytes follow a frame's head (its first HEAD bytes).

    Raises:
        CodecError: more than LIMIT.
    """
    (size,) = _HEAD.unpack(head)
    if size > LIMIT:
        raise CodecError(f"a frame of {size:,} bytes is larger than {LIMIT:,}")
    return size


def write(send: Callable[[bytes], object], data: bytes) -> None:
    """Send one frame. send: a socket's sendall."""
    send(frame(data))


def read(receive: Callable[[int], bytes]) -> bytes:
    """The next frame's content.

    Args:
        receive: returns exactly so many bytes, or raises EOFError.

    Raises:
        CodecError: the frame says that it is larger than LIMIT.
    """
    return receive(size_of(receive(HEAD)))
