"""05.3: the time on the wall is taken for UTC, an hour off all summer (M3)."""

FAILS = [
    "test_05_3_good_rows_are_what_happened",
    "test_05_3_leap_days_and_changed_clocks",
    "test_05_3_the_checksum_is_the_oracle_s",
]


_conform = conform


def conform(frame):
    made = _conform(frame)
    return made.assign(event_time_utc=made["event_time_local"])
