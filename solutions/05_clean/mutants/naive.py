"""The naive way: pandas guesses, times are cut at fixed places, a code needs a digit, all in place, what is odd is dropped."""

FAILS = [
    "test_05_1_every_cell_is_the_text_of_the_file",
    "test_05_1_none_is_a_word",
    "test_05_1_line_counts_the_records",
    "test_05_1_half_a_file_is_refused",
    "test_05_1_typed_cells_of_a_workbook",
    "test_05_1_line_ends_and_encodings",
    "test_05_2_lost_zeros_come_back",
    "test_05_2_what_is_no_minute_is_missing",
    "test_05_2_a_lost_code_and_labels_without_one",
    "test_05_3_good_rows_are_what_happened",
    "test_05_3_what_cannot_be_read_is_missing",
    "test_05_3_the_cells_come_along",
    "test_05_3_leap_days_and_changed_clocks",
    "test_05_3_the_checksum_is_the_oracle_s",
    "test_05_4_every_row_is_in_one_of_two_frames",
    "test_05_4_each_reject_has_its_reason",
    "test_05_4_a_reject_shows_what_was_there",
    "test_05_4_the_first_reason_counts",
    "test_05_4_of_good_rows_the_first_counts",
    "test_05_4_run_twice_it_says_the_same",
    "test_05_4_good_rows_are_whole",
    "test_05_5_the_encoding_is_found",
    "test_05_5_the_last_letter_decides",
    "test_05_5_what_is_none_of_them_is_refused",
]


def read_collisions(path, encoding="utf-8"):
    kind = Path(path).suffix
    if kind == ".xlsx":
        return pd.read_excel(path)
    if kind == ".csv":
        return pd.read_csv(path)
    return pd.json_normalize(json.loads(Path(path).read_text())["collisions"])


def fix_time(series):
    digits = series.astype(str).str.zfill(4)
    return digits.str[:2] + ":" + digits.str[2:]


def strip_code(series):
    return series.str.replace(r"^\d+\.\s*", "", regex=True)


def conform(frame):
    frame["Date"] = pd.to_datetime(frame["Date"], format="%Y%m%d")
    frame["Time"] = fix_time(frame["Time"])
    for name in LABELLED:
        frame[name] = strip_code(frame[name])
    return frame[list(COLUMNS)].rename(columns=EVENT_TO_STAR)


def split_valid(frame):
    frame["year"] = frame["date"].str[:4]
    return frame.dropna(), frame.iloc[:0]


def encoding_of(path):
    return "utf-8"
