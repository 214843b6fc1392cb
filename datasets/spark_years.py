"""Lab 05's cleaning once more, as Spark columns: yearly files of three formats, read in pieces, conformed and judged. No Python runs per row.

The rules are lab 05's, so the two engines can be compared row by row, and the warehouse has the same checksum whichever loaded it.
"""

from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from datasets.columns import FIELDS, any_of, first_reason, impossible, name_of_event, outside
from datasets.schema import EVENT_FIELDS, TIME_ZONE

__all__ = ["as_text", "conform_years", "judge_years", "read_text"]

CELLS = [field.name for field in EVENT_FIELDS[4:]]
NUMBERS = [name for name in CELLS if FIELDS[name].type == "int"]
LABELLED = [name for name in CELLS if FIELDS[name].labels]


def _leaves(schema: T.StructType, path: str = "") -> Iterator[tuple[str, str]]:
    """Name and path of every leaf of a nested schema."""
    for field in schema:
        here = f"{path}`{field.name}`"
        if isinstance(field.dataType, T.StructType):
            yield from _leaves(field.dataType, f"{here}.")
        else:
            yield field.name, here


def as_text(frame: DataFrame, line: Column) -> DataFrame:
    """line, the 21 cells as text ("" where there is nothing), raw: all cells that are not empty, as JSON."""
    found = {name: F.col(path).cast("string") for name, path in _leaves(frame.schema) if not name.startswith("_")}
    filled = F.struct(*(F.when(cell != "", cell).alias(name) for name, cell in found.items()))
    return frame.select(
        line.cast("int").alias("line"), *(F.coalesce(found[name], F.lit("")).alias(name) for name in CELLS), F.to_json(filled).alias("raw")
    )


def _csv(spark: SparkSession, path: str) -> DataFrame:
    """With line breaks allowed inside quotes it is read in one piece, so the ids count from 0."""
    quoted = {"header": "true", "multiLine": "true", "escape": '"', "encoding": "UTF-8", "mode": "FAILFAST"}
    return as_text(spark.read.options(**quoted).csv(path), F.monotonically_increasing_id() + 1)


def _json(spark: SparkSession, path: str) -> DataFrame:
    """One object with a list of collisions."""
    whole = spark.read.options(multiLine="true", primitivesAsString="true").json(path)
    return as_text(whole.select(F.posexplode("collisions").alias("_at", "collision")), F.col("_at") + 1)


def _jsonl(spark: SparkSession, path: str) -> DataFrame:
    """One object a line, read in pieces without an order: the pieces say where they began, and a window function counts."""
    rows = spark.read.options(primitivesAsString="true", mode="FAILFAST").json(path)
    placed = rows.select("*", F.col("_metadata.file_block_start").alias("_piece"), F.monotonically_increasing_id().alias("_id"))
    in_order = Window.partitionBy(F.lit(1)).orderBy("_piece", "_id")
    return as_text(placed.withColumn("_line", F.row_number().over(in_order)), F.col("_line"))


_READERS = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}


def read_text(spark: SparkSession, path: str | Path) -> DataFrame:
    """A .csv, .json or .jsonl: line (from 1), the 21 cells as text, raw. For a workbook Spark has no reader."""
    return _READERS[Path(path).suffix.lower()](spark, str(path))


def _time(cell: Column) -> Column:
    """HH:MM, or NULL where the text is no minute of a day."""
    four = F.when(cell.rlike(r"^[0-9]{1,4}$"), F.lpad(cell, 4, "0"))
    clock = F.when(
        cell.rlike(r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$"),
        F.lpad(F.translate(F.regexp_extract(cell, r"^([0-9]{1,2}:[0-9]{2})", 1), ":", ""), 4, "0"),
    )
    digits = F.coalesce(four, clock)
    real = (F.substring(digits, 1, 2) <= "23") & (F.substring(digits, 3, 2) <= "59")
    return F.when(real, F.concat(F.substring(digits, 1, 2), F.lit(":"), F.substring(digits, 3, 2)))


def _date(cell: Column) -> Column:
    """YYYY-MM-DD, or NULL where the text is no day."""
    parts = [F.substring(cell, first, long) for first, long in ((1, 4), (5, 2), (7, 2))]
    return F.when(cell.rlike(r"^[0-9]{8}$"), F.concat_ws("-", *parts).try_cast("date").cast("string"))


def _moment() -> Column:
    """event_time of Date and Time: the first of two moments in autumn, NULL where spring skips the hour."""
    wall_clock = F.concat("Date", F.lit(" "), "Time", F.lit(":00")).try_cast("timestamp_ntz")
    moment = F.convert_timezone(F.lit(TIME_ZONE), F.lit("UTC"), wall_clock)
    was = F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), moment) == wall_clock
    return F.when(was, F.date_format(moment, "yyyy-MM-dd'T'HH:mm:ss'Z'"))


def conform_years(rows: DataFrame) -> DataFrame:
    """Typed columns in the names of the event, beside the cells as they were (struct `cells`); what cannot be read is NULL.

    Args:
        rows: fingerprint, and what read_text returned, of one file or of many.
    """
    cells = {name: F.col(f"cells.{name}") for name in CELLS}
    kept = rows.select("fingerprint", "line", F.struct(*CELLS).alias("cells"), "raw")
    numbers = {
        name: F.when(cells[name].rlike(r"^-?[0-9]+([.]0+)?$"), F.regexp_replace(cells[name], r"[.]0+$", "")).try_cast("int") for name in NUMBERS
    }
    labels = {name: F.trim(F.regexp_replace(cells[name], r"^[0-9]*[.] *", "")) for name in LABELLED}
    times = {"Date": _date(cells["Date"]), "Time": _time(cells["Time"])}
    plain = {name: cells[name] for name in ("Location", "Police_ref")}
    typed = kept.withColumns({**plain, **numbers, **labels, **times, "revision": F.lit(1)})
    return typed.withColumns({"event_time": _moment(), "event_id": name_of_event()})


def judge_years(rows: DataFrame) -> DataFrame:
    """The same rows with reason: of lab 05, or NULL. Of good rows with one police reference in one file the first counts, the others are `repeated`.

    Args:
        rows: what conform_years returned.
    """
    judged = rows.withColumn("reason", _reason())
    same = Window.partitionBy("fingerprint", "Police_ref", F.col("reason").isNull()).orderBy("line")
    again = F.col("reason").isNull() & (F.row_number().over(same) > 1)
    return judged.withColumn("reason", F.when(again, F.lit("repeated")).otherwise(F.col("reason")))


def _reason() -> Column:
    known = [name for name in CELLS if name not in ("Date", "Time")]
    return first_reason(
        {
            "missing_field": any_of([F.col(f"cells.{name}") == "" for name in CELLS]),
            "malformed": any_of([F.col(name).isNull() for name in NUMBERS]),
            "bad_time": F.col("event_time").isNull(),
            "bad_label": any_of([~F.col(name).isin(*FIELDS[name].labels) for name in LABELLED]),
            "out_of_range": any_of([part for name in known for part in outside(name)] + [~F.col("Police_ref").rlike("^[0-9]{8}$")]),
            "impossible": impossible(),
        }
    )
