"""06.5: only authorities that are there in every year count, instead of in both years of a pair."""

FAILS = [
    "test_06_5_an_authority_that_comes_and_goes",
]


_right = like_for_like


def like_for_like():
    everywhere = """ON last.local_authority IN (
        SELECT local_authority FROM counted GROUP BY local_authority
        HAVING COUNT(*) = (SELECT COUNT(DISTINCT year) FROM counted)) AND"""
    return _right().replace("ON last.year", f"{everywhere} last.year")
