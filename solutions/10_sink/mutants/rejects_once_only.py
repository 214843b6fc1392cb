"""10.3: a plain INSERT of the rejects: a second query reads the same poison, and can never get past it."""

FAILS = ["test_10_3_a_ledger_that_knows_its_query"]

_lenient = _rejects


def _rejects():
    return _lenient().partition("ON DUPLICATE KEY")[0]
