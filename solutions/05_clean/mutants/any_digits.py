"""05.2: whatever looks like a time is one: 24:00 and 12:75 too."""

FAILS = [
    "test_05_2_what_is_no_minute_is_missing",
]


def fix_time(series):
    digits = series.str.replace(r":00$", "", regex=True).where(series.str.len() == 8, series)
    digits = digits.str.replace(":", "").str.zfill(4).where(series.str.fullmatch(r"[0-9:]+"))
    return digits.str[:2] + ":" + digits.str[2:]
