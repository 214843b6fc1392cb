"""02.2: json.dumps as it comes escapes every letter beyond ASCII, half a character among them, and adds spaces."""

FAILS = [
    "test_02_2_bytes_are_compact_utf_8",
    "test_02_2_what_is_no_json_is_not_encoded",
]


def encode(event):
    return json.dumps(event, allow_nan=False).encode()
