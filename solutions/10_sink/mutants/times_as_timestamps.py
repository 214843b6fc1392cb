"""10.2: times become timestamps, because that looks tidier: then the time zone of Spark's session reads them (M3)."""

FAILS = ["test_10_2_no_time_zone_touches_a_row"]

_right = write_staging


def write_staging(frame, settings, batch_id):
    times = ("event_time_utc", "event_time_local")
    typed = frame.withColumns({name: F.to_timestamp(name) for name in times})
    _right(typed, settings, batch_id)
