"""06.2: the parts are joined and hashed, so ("ab", "c") and ("a", "bc") are one member."""

FAILS = [
    "test_06_2_known_keys_have_their_known_hash",
    "test_06_2_parts_do_not_run_together",
    "test_06_2_what_differs_has_another_hash",
    "test_06_2_the_hash_is_the_agreed_one",
]


def key_hash(*parts):
    return hashlib.sha256(
        "".join(str(part) for part in parts if part is not None).encode()
    ).digest()
