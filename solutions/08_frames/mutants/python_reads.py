"""08.2: a Python function in the plan: each row travels to another process and back."""

FAILS = ["test_08_2_no_python_runs_in_the_plan"]

_right = parse


def parse(raw):
    same = F.udf(lambda value: value, "boolean")
    return _right(raw).withColumn("readable", same("readable"))
