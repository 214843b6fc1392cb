"""09.6: only the first operator is asked what it dropped; which one drops depends on the plan."""

FAILS = ["test_09_6_what_any_operator_drops_is_counted"]

_right = progress


def progress(query):
    operators = (query.lastProgress or {}).get("stateOperators") or []
    late = operators[0]["numRowsDroppedByWatermark"] if operators else 0
    return {**_right(query), "dropped_late": late}
