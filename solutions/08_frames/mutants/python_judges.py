"""08.3: a Python function judges: each row travels to another process and back."""

FAILS = ["test_08_3_no_python_runs_in_the_plan"]

_right = judge


def judge(events):
    same = F.udf(lambda reason: reason, "string")
    return _right(events).withColumn("reason", same("reason"))
