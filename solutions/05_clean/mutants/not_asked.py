"""05.1: check_file is never asked, so what can be read of half a file is a year."""

FAILS = [
    "test_05_1_half_a_file_is_refused",
]


def read_collisions(path, encoding="utf-8"):
    kind = Path(path).suffix.lower()
    if kind == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding)
    elif kind == ".xlsx":
        header, *rows = sheet_rows(path)
        frame = pd.DataFrame(rows, columns=header)
    else:
        read = json_records if kind == ".json" else jsonl_records
        frame = pd.DataFrame(read(path, encoding))
    return frame.fillna("").set_index(pd.RangeIndex(1, len(frame) + 1, name="line"))
