"""10.3: NOW(6) for the moments: they are right as long as nobody changes the server's time zone (M3)."""

FAILS = ["test_10_3_few_statements_and_moments_in_utc"]

_in_utc, _in_utc_too = _rejects, _ledger_row


def _rejects():
    return _in_utc().replace("UTC_TIMESTAMP(6)", "NOW(6)")


def _ledger_row():
    return _in_utc_too().replace("UTC_TIMESTAMP(6)", "NOW(6)")
