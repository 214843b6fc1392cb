"""The star schema, described once: every table, column, key and index of the warehouse, as plain data.

This file creates nothing and speaks to no database; whoever needs metadata builds it from TABLES.
Every dimension has a row with key -1 for "unknown"; its attributes stand in Table.unknown.
A hash column is SHA-256 over the parts of the natural key, so that one index covers texts of any length and
nothing depends on a collation.
"""

from dataclasses import dataclass

UNKNOWN_KEY = -1
UNKNOWN_HASH = bytes(32)
"""The hash of the unknown member: no SHA-256 of real parts is all zeros."""


@dataclass(frozen=True)
class Column:
    """type: MySQL's, as text. auto: AUTO_INCREMENT. unit: of the number, or None."""

    name: str
    type: str
    meaning: str
    unit: str | None = None
    nullable: bool = False
    auto: bool = False


@dataclass(frozen=True)
class ForeignKey:
    """columns point to the primary key of table."""

    columns: tuple[str, ...]
    table: str


@dataclass(frozen=True)
class Index:
    """A plain index, for reading."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """grain: what one row is. natural_key: what makes it that row in the world.

    unique: unique keys beside the primary one. unknown: the row with key -1, column to value, or None.
    """

    name: str
    grain: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    natural_key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[Index, ...] = ()
    unknown: dict | None = None

    def column(self, name: str) -> Column:
        """The column of that name; KeyError if there is none."""
        return {column.name: column for column in self.columns}[name]


_ASCII = "CHARACTER SET ascii COLLATE ascii_bin"
_EXACT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_SEEN_ONLY = "empty for the unknown member alone"


def _hash(name: str, of: str) -> Column:
    return Column(name, "BINARY(32)", f"SHA-256 of {of}")


def _key(name: str) -> Column:
    return Column(name, "INT", "surrogate key; -1 is the unknown member", auto=True)


_COUNTS = (
    Column("casualties", "SMALLINT UNSIGNED", "people hurt", "people"),
    Column("oaps", "SMALLINT UNSIGNED", "of them: old-age pensioners", "people"),
    Column("children", "SMALLINT UNSIGNED", "of them: children", "people"),
    Column("cycles", "SMALLINT UNSIGNED", "of the vehicles: pedal cycles", "vehicles"),
    Column("p2w", "SMALLINT UNSIGNED", "of the vehicles: powered two-wheelers", "vehicles"),
    Column("pedestrians", "SMALLINT UNSIGNED", "of the people hurt: pedestrians", "people"),
    Column("vehicles", "SMALLINT UNSIGNED", "vehicles of every kind, pedal cycles too", "vehicles"),
)

_DATE = Table(
    "dim_date",
    "one row = one calendar day",
    (
        Column("date_key", "INT", "the day as yyyymmdd; -1 is the unknown member"),
        Column("date", "DATE", f"the day, wall clock Europe/London; {_SEEN_ONLY}", nullable=True),
        Column("day", "TINYINT", "day of the month, 1 to 31", nullable=True),
        Column("day_name", "VARCHAR(9)", "Monday to Sunday", nullable=True),
        Column("month", "TINYINT", "1 to 12", nullable=True),
        Column("month_name", "VARCHAR(9)", "January to December", nullable=True),
        Column("quarter", "TINYINT", "1 to 4", nullable=True),
        Column("year", "SMALLINT", "four digits", nullable=True),
    ),
    primary_key=("date_key",),
    natural_key=("date",),
    unique=(("date",),),
    unknown={"date_key": UNKNOWN_KEY},
)

_TIME = Table(
    "dim_time",
    "one row = one minute of the day",
    (
        Column("time_key", "INT", "the minute as hhmm (7:05 is 705); -1 is the unknown member"),
        Column("time", "TIME", f"the minute, wall clock Europe/London; {_SEEN_ONLY}", nullable=True),
        Column("hour", "TINYINT", "0 to 23", "hours", nullable=True),
        Column("minute", "TINYINT", "0 to 59", "minutes", nullable=True),
    ),
    primary_key=("time_key",),
    natural_key=("time",),
    indexes=(Index("ix_dim_time_hour_minute", ("hour", "minute")),),
    unknown={"time_key": UNKNOWN_KEY},
)

_LOCATION = Table(
    "dim_location",
    "one row = one place as reported: grid reference, text and authority together",
    (
        _key("location_key"),
        _hash("location_hash", "easting, northing, location, local_authority"),
        Column("easting", "INT", f"British National Grid (EPSG:27700); {_SEEN_ONLY}", "metres", nullable=True),
        Column("northing", "INT", f"British National Grid (EPSG:27700); {_SEEN_ONLY}", "metres", nullable=True),
        Column("location", f"VARCHAR(255) {_EXACT}", "the place in words, letter for letter"),
        Column("local_authority", "CHAR(9)", "GSS code"),
    ),
    primary_key=("location_key",),
    natural_key=("easting", "northing", "location", "local_authority"),
    unique=(("location_hash",),),
    unknown={
        "location_key": UNKNOWN_KEY,
        "location_hash": UNKNOWN_HASH,
        "location": "Unknown",
        "local_authority": "Unknown",
    },
)

_SEVERITY = Table(
    "dim_severity",
    "one row = one severity",
    (
        _key("severity_key"),
        _hash("severity_hash", "severity"),
        Column("severity", "VARCHAR(20)", "the worst injury of the accident"),
    ),
    primary_key=("severity_key",),
    natural_key=("severity",),
    unique=(("severity_hash",),),
    unknown={"severity_key": UNKNOWN_KEY, "severity_hash": UNKNOWN_HASH, "severity": "Unknown"},
)

_ROAD_CONDITION = Table(
    "dim_road_condition",
    "one row = one combination of surface, weather, visibility and speed limit",
    (
        _key("road_condition_key"),
        _hash("road_condition_hash", "road_condition, weather, visibility, speed_limit_mph"),
        Column("road_condition", "VARCHAR(60)", "surface of the road"),
        Column("weather", "VARCHAR(60)", "weather at the time"),
        Column("visibility", "VARCHAR(60)", "daylight or darkness, and lighting"),
        Column("speed_limit_mph", "SMALLINT", f"speed limit; {_SEEN_ONLY}", "miles per hour", nullable=True),
    ),
    primary_key=("road_condition_key",),
    natural_key=("road_condition", "weather", "visibility", "speed_limit_mph"),
    unique=(("road_condition_hash",),),
    unknown={
        "road_condition_key": UNKNOWN_KEY,
        "road_condition_hash": UNKNOWN_HASH,
        "road_condition": "Unknown",
        "weather": "Unknown",
        "visibility": "Unknown",
    },
)

_CROSSING = Table(
    "dim_crossing",
    "one row = one combination of crossing facility and crossing control",
    (
        _key("crossing_key"),
        _hash("crossing_hash", "crossing_facility, crossing_control"),
        Column("crossing_facility", "VARCHAR(60)", "pedestrian crossing within 50 m"),
        Column("crossing_control", "VARCHAR(60)", "person who controls the crossing"),
    ),
    primary_key=("crossing_key",),
    natural_key=("crossing_facility", "crossing_control"),
    unique=(("crossing_hash",),),
    unknown={
        "crossing_key": UNKNOWN_KEY,
        "crossing_hash": UNKNOWN_HASH,
        "crossing_facility": "Unknown",
        "crossing_control": "Unknown",
    },
)

CALENDAR = (_DATE, _TIME)
"""The dimensions whose key is the natural key itself: the day, the minute."""
HASHED = (_LOCATION, _SEVERITY, _ROAD_CONDITION, _CROSSING)
"""The dimensions with a surrogate key, whose members are told apart by a hash."""
DIMENSIONS = (*CALENDAR, *HASHED)

_FACT = Table(
    "fact_incident",
    "one row = one accident, at the revision that is in force",
    (
        Column("incident_key", "BIGINT", "surrogate key", auto=True),
        Column("police_ref", f"CHAR(8) {_ASCII}", "police reference: two digits of the year, six running"),
        Column("event_id", f"CHAR(36) {_ASCII}", "uuid5 of police reference and revision"),
        Column("revision", "SMALLINT", "the revision in force, 1 or more; of a yearly file always 1, its issue is in file_ledger"),
        Column("source", "VARCHAR(6)", "'stream' or 'file'"),
        Column("event_time_utc", "DATETIME", "moment of the accident", "UTC"),
        Column("event_time_local", "DATETIME", "the same moment on the wall clock", "Europe/London"),
        Column("ingested_at_utc", "DATETIME(6)", "when the warehouse took the row", "UTC"),
        *(Column(table.primary_key[0], "INT", f"to {table.name}") for table in DIMENSIONS),
        *_COUNTS,
        Column("extra_fields", "JSON", "the event's fields beyond the contract, or NULL", nullable=True),
    ),
    primary_key=("incident_key",),
    natural_key=("police_ref",),
    unique=(("police_ref",),),
    foreign_keys=tuple(ForeignKey(table.primary_key, table.name) for table in DIMENSIONS),
    indexes=tuple(Index(f"ix_fact_incident_{table.primary_key[0]}", table.primary_key) for table in DIMENSIONS),
)

_KAFKA_PLACE = (
    Column("topic", "VARCHAR(249)", "Kafka topic"),
    Column("kafka_partition", "INT", "partition of the topic"),
    Column("kafka_offset", "BIGINT", "offset in the partition"),
)
_KAFKA_RECORD = (
    Column("kafka_key", "VARBINARY(1024)", "the record's key as it came", "bytes", nullable=True),
    Column("kafka_value", "LONGBLOB", "the record's value as it came", "bytes", nullable=True),
)

_REJECTS = Table(
    "rejects",
    "one row = one dead-letter record of a topic",
    (
        *_KAFKA_PLACE,
        *_KAFKA_RECORD,
        Column("kafka_timestamp_ms", "BIGINT", "the record's time", "UTC epoch milliseconds"),
        Column("reason", "VARCHAR(20)", "code of schema.REASONS"),
        Column("query_id", f"CHAR(36) {_ASCII}", "the stream's query that rejected it"),
        Column("batch_id", "BIGINT", "its micro-batch"),
        Column("rejected_at_utc", "DATETIME(6)", "when it was rejected", "UTC"),
    ),
    primary_key=("topic", "kafka_partition", "kafka_offset"),
    natural_key=("topic", "kafka_partition", "kafka_offset"),
    indexes=(Index("ix_rejects_reason", ("reason",)),),
)

_LEDGER = Table(
    "load_ledger",
    "one row = one micro-batch that is merged; its five outcomes add up to records_read",
    (
        Column("query_id", f"CHAR(36) {_ASCII}", "the stream's query"),
        Column("batch_id", "BIGINT", "its micro-batch"),
        Column("records_read", "INT UNSIGNED", "records in the batch", "records"),
        Column("inserted", "INT UNSIGNED", "new facts", "records"),
        Column("updated", "INT UNSIGNED", "newer revisions of facts", "records"),
        Column("stale", "INT UNSIGNED", "older revisions of facts", "records"),
        Column("duplicate", "INT UNSIGNED", "revisions that were there already", "records"),
        Column("dead", "INT UNSIGNED", "rejected", "records"),
        Column("merged_at_utc", "DATETIME(6)", "when the batch was merged", "UTC"),
    ),
    primary_key=("query_id", "batch_id"),
    natural_key=("query_id", "batch_id"),
)


def _staged(column: Column, type: str | None = None) -> Column:
    """The column as staging holds it: nothing is required of a record that is not yet judged."""
    return Column(column.name, type or column.type, column.meaning, column.unit, nullable=True)


def _staged_dimension(table: Table) -> tuple[Column, ...]:
    """A dimension's own columns; of a calendar's the key alone, which says it all."""
    if table in CALENDAR:
        return (_staged(table.columns[0]),)
    return tuple(_staged(column) for column in table.columns[1:])


_STAGING = Table(
    "stg_record",
    "one row = one record of a micro-batch that waits to be merged",
    (
        Column("query_id", f"CHAR(36) {_ASCII}", "the stream's query"),
        Column("batch_id", "BIGINT", "its micro-batch"),
        *_KAFKA_PLACE,
        *_KAFKA_RECORD,
        _staged(_REJECTS.column("kafka_timestamp_ms")),
        _staged(_REJECTS.column("reason")),
        _staged(_FACT.column("police_ref")),
        _staged(_FACT.column("event_id")),
        _staged(_FACT.column("revision")),
        # times as text, so that no driver's time zone touches them
        _staged(_FACT.column("event_time_utc"), "CHAR(19)"),
        _staged(_FACT.column("event_time_local"), "CHAR(19)"),
        *(column for table in DIMENSIONS for column in _staged_dimension(table)),
        *(_staged(column) for column in _COUNTS),
        _staged(_FACT.column("extra_fields"), f"LONGTEXT {_EXACT}"),
        Column(
            "outcome",
            "VARCHAR(9)",
            "inserted, updated, stale, duplicate or dead; until merged: inserted or dead",
            nullable=True,
        ),
        Column("is_fact", "TINYINT", "1 where the merge writes this row as the accident's fact", nullable=True),
    ),
    primary_key=("query_id", "batch_id", "kafka_partition", "kafka_offset"),
    natural_key=("query_id", "batch_id", "kafka_partition", "kafka_offset"),
)

_FILE = Column("fingerprint", f"CHAR(64) {_ASCII}", "SHA-256 of the file's bytes, in hexadecimal")
_LINE = Column("line", "INT UNSIGNED", "number of the record in the file, from 1")

_FILE_LEDGER = Table(
    "file_ledger",
    "one row = one yearly file that is loaded; inserted, updated, unchanged and rejected add up to records_read",
    (
        _FILE,
        Column("file_name", "VARCHAR(255)", "its name when it was loaded"),
        Column("year", "SMALLINT", "the one year that it holds"),
        Column("issue", "SMALLINT", "1 for the first issue of a year, higher for each corrected one"),
        Column("records_read", "INT UNSIGNED", "records in the file", "records"),
        Column("inserted", "INT UNSIGNED", "accidents that had no fact", "records"),
        Column("updated", "INT UNSIGNED", "facts that the file changed or verified for the first time", "records"),
        Column("unchanged", "INT UNSIGNED", "facts that held it all already", "records"),
        Column("rejected", "INT UNSIGNED", "records that can be no fact", "records"),
        Column("loaded_at_utc", "DATETIME(6)", "when it was loaded", "UTC"),
    ),
    primary_key=("fingerprint",),
    natural_key=("fingerprint",),
    indexes=(Index("ix_file_ledger_year", ("year",)),),
)

_FILE_REJECTS = Table(
    "file_rejects",
    "one row = one record of a yearly file that can be no fact",
    (
        _FILE,
        _LINE,
        Column("police_ref", f"VARCHAR(255) {_EXACT}", "as it stands in the file"),
        Column("reason", "VARCHAR(20)", "code of schema.FILE_REASONS"),
        Column("raw", f"LONGTEXT {_EXACT}", "the record's cells as JSON"),
    ),
    primary_key=("fingerprint", "line"),
    natural_key=("fingerprint", "line"),
    indexes=(Index("ix_file_rejects_reason", ("reason",)),),
)

_FILE_STAGING = Table(
    "stg_collision",
    "one row = one good record of a yearly file that waits to be merged",
    (
        _FILE,
        _LINE,
        _staged(_FACT.column("police_ref")),
        _staged(_FACT.column("event_id")),
        _staged(_FACT.column("revision")),
        _staged(_FACT.column("event_time_utc"), "CHAR(19)"),
        _staged(_FACT.column("event_time_local"), "CHAR(19)"),
        *(column for table in DIMENSIONS for column in _staged_dimension(table)),
        *(_staged(column) for column in _COUNTS),
    ),
    primary_key=("fingerprint", "line"),
    natural_key=("fingerprint", "line"),
)

_WINDOW = Table(
    "agg_incident_window",
    "one row = one severity and local authority in one event-time window; counted from valid first revisions of the stream, each event id once",
    (
        Column("window_start_utc", "DATETIME", "first moment of the window", "UTC"),
        Column("window_end_utc", "DATETIME", "first moment after the window", "UTC"),
        Column("severity", "VARCHAR(20)", "the worst injury of the accident"),
        Column("local_authority", "CHAR(9)", "GSS code"),
        Column("incidents", "INT UNSIGNED", "accidents", "accidents"),
        Column("casualties", "INT UNSIGNED", "people hurt", "people"),
        Column("updated_at_utc", "DATETIME(6)", "when the stream last changed the row", "UTC"),
    ),
    primary_key=("window_start_utc", "window_end_utc", "severity", "local_authority"),
    natural_key=("window_start_utc", "window_end_utc", "severity", "local_authority"),
)

TABLES: dict[str, Table] = {
    table.name: table for table in (*DIMENSIONS, _FACT, _REJECTS, _LEDGER, _STAGING, _FILE_LEDGER, _FILE_REJECTS, _FILE_STAGING, _WINDOW)
}
"""Every table by name, in an order in which they can be created."""

EVENT_TO_STAR: dict[str, str] = {
    "event_id": "event_id",
    "revision": "revision",
    "event_time": "event_time_utc",
    "Date": "date",
    "Time": "time",
    "Easting": "easting",
    "Northing": "northing",
    "Location": "location",
    "Local_Auth": "local_authority",
    "Severity": "severity",
    "Road_cond": "road_condition",
    "Weather": "weather",
    "Visibility": "visibility",
    "Speed_Lim": "speed_limit_mph",
    "Cross_fac": "crossing_facility",
    "Cross_ctrl": "crossing_control",
    "Police_ref": "police_ref",
    "Casualties": "casualties",
    "OAPs": "oaps",
    "Children": "children",
    "Cycles": "cycles",
    "P2W": "p2w",
    "Pedestrian": "pedestrians",
    "Vehicles": "vehicles",
}
"""Event field to column of the star. schema_version has none: what is in the star is past its version."""

FACTS_QUERY = """
SELECT police_ref, event_id, revision, source, event_time_utc, event_time_local, date, time, easting, northing, location, local_authority, severity,
       road_condition, weather, visibility, speed_limit_mph, crossing_facility, crossing_control, casualties, oaps, children, cycles, p2w, pedestrians,
       vehicles, extra_fields
FROM fact_incident JOIN dim_date USING (date_key) JOIN dim_time USING (time_key) JOIN dim_location USING (location_key) JOIN dim_severity
USING (severity_key) JOIN dim_road_condition USING (road_condition_key) JOIN dim_crossing USING (crossing_key)
"""
"""Every fact joined with its dimensions, in the order of checksum.CHECKSUM_COLUMNS."""


def create_statements() -> list[str]:
    """One CREATE TABLE a table, in an order in which they can run."""
    return [f"CREATE TABLE {table.name} (\n  {_body(table)}\n)" for table in TABLES.values()]


def _body(table: Table) -> str:
    lines = [_definition(column) for column in table.columns]
    lines.append(f"PRIMARY KEY ({', '.join(table.primary_key)})")
    lines += [f"UNIQUE KEY uq_{table.name}_{'_'.join(columns)} ({', '.join(columns)})" for columns in table.unique]
    lines += [f"KEY {index.name} ({', '.join(index.columns)})" for index in table.indexes]
    lines += [
        f"FOREIGN KEY ({', '.join(key.columns)}) REFERENCES {key.table} ({', '.join(TABLES[key.table].primary_key)})" for key in table.foreign_keys
    ]
    return ",\n  ".join(lines)


def _definition(column: Column) -> str:
    return f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}{' AUTO_INCREMENT' if column.auto else ''}"
