"""06.2: the length is that of the bytes; accents and emoji get another hash than elsewhere."""

FAILS = [
    "test_06_2_the_hash_is_the_agreed_one",
]


def key_hash(*parts):
    written = ("-" if part is None else f"{len(str(part).encode())}:{part}" for part in parts)
    return hashlib.sha256("".join(written).encode()).digest()
