"""07.1: members are the same if they look the same, without case, accents and spaces, as a usual collation has it (J7)."""

import unicodedata

FAILS = ["test_07_1_places_that_look_alike_stay_apart"]

_right = to_star


def to_star(frame):
    star = _right(frame)
    looks = star["dim_location"]["location"].map(
        lambda text: " ".join(
            unicodedata.normalize("NFKD", text).encode("ascii", "ignore").lower().decode().split()
        )
    )
    kept = ~star["dim_location"].assign(location=looks)[list(NATURAL_KEYS["location"])].duplicated()
    return {**star, "dim_location": star["dim_location"][kept].reset_index(drop=True)}
