"""05.2: the label None is taken for a missing value (P4)."""

FAILS = [
    "test_05_2_labels_lose_their_code",
    "test_05_2_a_lost_code_and_labels_without_one",
    "test_05_3_good_rows_are_what_happened",
    "test_05_3_what_cannot_be_read_is_missing",
    "test_05_3_the_checksum_is_the_oracle_s",
]


_strip = strip_code


def strip_code(series):
    stripped = _strip(series)
    return stripped.where(stripped != "None")
