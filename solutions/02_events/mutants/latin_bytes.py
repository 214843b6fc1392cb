"""02.2: decodes with another character set than it encodes with: CAFÉ becomes CAFÃ‰, and no bytes are ever refused."""

FAILS = [
    "test_02_2_there_and_back",
    "test_02_2_what_is_no_event_is_not_decoded",
]


def decode(data):
    event = json.loads(data.decode("latin-1"), parse_constant=_refuse)
    if not isinstance(event, dict):
        raise ValueError("no object")
    return event


def _refuse(word):
    raise ValueError(word)
