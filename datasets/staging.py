"""From a staging table to the dimensions, inside the server: one INSERT a dimension, of the members that it lacks.

Used by lab 07 for yearly files (stg_collision) and by lab 10 for the stream (stg_record). Text only; nothing here speaks to a database.
"""

from datasets.star import HASHED

__all__ = ["NATURAL_KEYS", "dimension_statements"]

NATURAL_KEYS = {table.name.removeprefix("dim_"): table.natural_key for table in HASHED}
"""Dimension → the columns that tell its members apart; dim_date and dim_time have the day and the minute itself as key."""

_CALENDAR = (
    """INSERT INTO dim_date (date_key, date, day, day_name, month, month_name, quarter, year)
       SELECT n.date_key, n.d, DAY(n.d), DAYNAME(n.d), MONTH(n.d), MONTHNAME(n.d), QUARTER(n.d), YEAR(n.d)
       FROM (SELECT DISTINCT s.date_key, DATE(s.event_time_local) AS d FROM {staging} s WHERE {these}) AS n
       LEFT JOIN dim_date k ON k.date_key = n.date_key WHERE k.date_key IS NULL
       ON DUPLICATE KEY UPDATE dim_date.date_key = dim_date.date_key""",
    """INSERT INTO dim_time (time_key, time, hour, minute)
       SELECT n.time_key, n.t, HOUR(n.t), MINUTE(n.t)
       FROM (SELECT DISTINCT s.time_key, TIME(s.event_time_local) AS t FROM {staging} s WHERE {these}) AS n
       LEFT JOIN dim_time k ON k.time_key = n.time_key WHERE k.time_key IS NULL
       ON DUPLICATE KEY UPDATE dim_time.time_key = dim_time.time_key""",
)
_MEMBERS = """INSERT INTO dim_{name} ({name}_hash, {columns}) SELECT n.{name}_hash, {listed}
    FROM (SELECT DISTINCT s.{name}_hash, {staged} FROM {staging} s WHERE {these}) AS n
    LEFT JOIN dim_{name} k ON k.{name}_hash = n.{name}_hash WHERE k.{name}_hash IS NULL
    ON DUPLICATE KEY UPDATE dim_{name}.{name}_hash = dim_{name}.{name}_hash"""


def dimension_statements(staging: str, these: str) -> list[str]:
    """One INSERT a dimension: the members that the staged rows have and the dimension lacks.

    Args:
        staging: the staging table.
        these: a condition in SQL, which of its rows, named s: "s.fingerprint = :fingerprint".
    """
    made = [text.format(staging=staging, these=these) for text in _CALENDAR]
    for name, columns in NATURAL_KEYS.items():
        listed, staged = (", ".join(f"{alias}.{column}" for column in columns) for alias in "ns")
        made.append(_MEMBERS.format(name=name, columns=", ".join(columns), listed=listed, staged=staged, staging=staging, these=these))
    return made
