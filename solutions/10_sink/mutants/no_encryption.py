"""10.1: useSSL=false, as many tutorials have it: it works until the server forgets who logged in before (M1)."""

FAILS = ["test_10_1_the_line_is_encrypted"]

_right = jdbc_options


def jdbc_options(settings):
    options = _right(settings)
    return {**options, "url": options["url"].replace("sslMode=REQUIRED", "useSSL=false")}
