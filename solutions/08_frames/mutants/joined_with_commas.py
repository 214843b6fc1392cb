"""08.4: the parts of a hash are joined with commas: other bytes than lab 06's, and look-alikes become one."""

FAILS = ["test_08_4_the_hashes_are_lab_06_s"]

_right = enrich


def enrich(events, keep=("extra_fields",), place=tuple(PLACE)):
    crossing = F.unhex(F.sha2(F.concat_ws(",", "crossing_facility", "crossing_control"), 256))
    return _right(events, keep, place).withColumn("crossing_hash", crossing)
