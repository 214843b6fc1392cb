"""05.3: frame[mask]["Time"] = … writes into a copy, and the lost zeros stay lost (P5)."""

import warnings

FAILS = [
    "test_05_3_the_checksum_is_the_oracle_s",
]


_conform = conform


def conform(frame):
    short = ~frame["Time"].str.contains(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame[short]["Time"] = fix_time(frame["Time"][short])
    made = _conform(frame)
    late = made["raw: Time"].where(made["raw: Time"].str.contains(":"), "")
    return made.assign(time=fix_time(late))
