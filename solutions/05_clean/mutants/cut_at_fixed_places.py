"""05.2: filled up and cut in the middle, whatever it was: 16:05 becomes 16::05."""

FAILS = [
    "test_05_2_lost_zeros_come_back",
    "test_05_2_what_is_no_minute_is_missing",
    "test_05_3_good_rows_are_what_happened",
    "test_05_3_what_cannot_be_read_is_missing",
    "test_05_3_leap_days_and_changed_clocks",
    "test_05_3_the_checksum_is_the_oracle_s",
]


def fix_time(series):
    digits = series.str.zfill(4)
    return digits.str[:2] + ":" + digits.str[2:]
