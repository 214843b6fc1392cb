"""10.1: batchsize is set, and the driver sends row after row all the same: nobody told it to rewrite (J2)."""

FAILS = [
    "test_10_1_the_server_gets_real_batches",
    "test_10_2_only_its_own_rows_and_few_connections",
]

_right = jdbc_options


def jdbc_options(settings):
    options = _right(settings)
    return {**options, "url": options["url"].replace("rewriteBatchedStatements=true&", "")}
