"""The event contract's rules as Spark columns: what is the same in every answer of lab 08 and teaches nothing of Spark.

Each function returns a Column over a frame whose columns have the names of the event's fields. No Python runs per row.
"""

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from datasets.schema import EVENT_FIELDS, NAMESPACE
from datasets.staging import NATURAL_KEYS
from datasets.star import EVENT_TO_STAR

__all__ = [
    "FIELDS", "HASHED_FIELDS", "NAMES", "any_of", "first_reason", "impossible", "key_hash", "name_of_event", "outside", "texts_are_texts", "unknown_fields",
]  # fmt: skip

FIELDS = {field.name: field for field in EVENT_FIELDS}
NAMES = [*FIELDS]
_FIELD_OF = {column: name for name, column in EVENT_TO_STAR.items()}
HASHED_FIELDS = {f"{name}_hash": [_FIELD_OF[column] for column in columns] for name, columns in NATURAL_KEYS.items()}
"""Column of a dimension's hash → the event's fields that it is made of, in order."""


def any_of(conditions: list[Column]) -> Column:
    """True if one of the conditions is true; NULL counts as false."""
    return reduce(lambda left, right: left | right, (F.coalesce(condition, F.lit(False)) for condition in conditions))


def first_reason(judgements: dict[str, Column]) -> Column:
    """The first reason, in the order of the dict, whose condition is true; or NULL."""
    return F.coalesce(*(F.when(condition, F.lit(reason)) for reason, condition in judgements.items()))


def texts_are_texts(text: Column) -> Column:
    """True if the two free text fields are JSON strings. Spark's reader takes a number for a text without a word."""
    return text.rlike(r'"Location"\s*:\s*("|null)') & text.rlike(r'"Police_ref"\s*:\s*("|null)')


def unknown_fields(text: Column) -> Column:
    """JSON of the fields beyond the contract, or NULL; looked for only where there are more fields than the contract has."""
    rest = F.map_filter(F.from_json(text, "map<string,variant>"), lambda name, _: ~name.isin(NAMES))
    return F.when((F.size(F.json_object_keys(text)) > len(NAMES)) & (F.size(rest) > 0), F.to_json(rest))


def outside(name: str) -> list[Column]:
    """Conditions that are true where a field is outside the contract's range: length of a text, size of a number, allowed numbers."""
    field = FIELDS[name]
    size = F.length(name) if field.type == "string" else F.col(name)
    low = [size < field.minimum] if field.minimum is not None else []
    high = [size > field.maximum] if field.maximum is not None else []
    return low + high + ([~F.col(name).isin(*field.values)] if field.values else [])


def impossible() -> Column:
    """True if an accident counts more people or vehicles of a kind than it has."""
    return any_of(
        [
            F.col("Children") + F.col("OAPs") > F.col("Casualties"),
            F.col("Pedestrian") > F.col("Casualties"),
            F.col("Cycles") + F.col("P2W") > F.col("Vehicles"),
        ]
    )


def name_of_event() -> Column:
    """The uuid5 of police reference and revision, computed by Spark itself: SHA-1 of namespace and name, with version and variant set."""
    name = F.concat(F.col("Police_ref"), F.lit(":"), F.col("revision").cast("string")).cast("binary")
    digest = F.sha1(F.concat(F.unhex(F.lit(NAMESPACE.hex)), name))
    variant = F.translate(F.substring(digest, 17, 1), "0123456789abcdef", "89ab89ab89ab89ab")
    return F.concat(
        F.substring(digest, 1, 8), F.lit("-"), F.substring(digest, 9, 4), F.lit("-5"), F.substring(digest, 14, 3), F.lit("-"), variant,
        F.substring(digest, 18, 3), F.lit("-"), F.substring(digest, 21, 12),
    )  # fmt: skip


def key_hash(names: list[str]) -> Column:
    """Lab 06's key_hash: SHA-256 (32 bytes) of the parts, each written as <characters>:<text>."""
    parts = [F.col(name).cast("string") for name in names]
    written = [F.coalesce(F.concat(F.length(part).cast("string"), F.lit(":"), part), F.lit("-")) for part in parts]
    return F.unhex(F.sha2(F.concat(*written), 256))
