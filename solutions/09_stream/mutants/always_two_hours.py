"""09.2: window and delay stand in the function: right, as long as nobody asks for others."""

FAILS = [
    "test_09_2_late_rows_count_as_the_oracle_says",
    "test_09_2_the_last_window_waits_for_a_later_report",
    "test_09_2_windows_may_overlap",
]

_right = count_by_window


def count_by_window(events, window=WINDOW, slide=None, delay=DELAY):
    return _right(events)
