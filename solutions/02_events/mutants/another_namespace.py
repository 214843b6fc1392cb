"""02.1: an id that repeats, and that nobody else computes: the contract names the namespace."""

FAILS = [
    "test_02_1_the_id_is_the_contract_s",
]


def event_id(police_ref, revision):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{police_ref}:{revision}"))
