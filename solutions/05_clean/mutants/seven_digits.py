"""05.3: a date with a digit too few is read as another day."""

FAILS = [
    "test_05_3_what_cannot_be_read_is_missing",
]


_conform = conform


def conform(frame):
    day = pd.to_datetime(frame["Date"], format="%Y%m%d", errors="coerce")
    date, made = day.dt.strftime("%Y-%m-%d"), _conform(frame)
    date, time = date.reset_index(drop=True), made["time"]
    local = date + " " + time + ":00"
    return made.assign(date=date, event_time_local=local, event_time_utc=in_utc(date, time))
