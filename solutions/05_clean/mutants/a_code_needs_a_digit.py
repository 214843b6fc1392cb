"""05.2: the pattern asks for a digit, so ". Not applicable" keeps its full stop."""

FAILS = [
    "test_05_2_a_lost_code_and_labels_without_one",
]


def strip_code(series):
    return series.str.replace(r"^[0-9]+[.] *", "", regex=True).str.strip()
