"""05.3: the cells are written over in the frame that was given; run twice, it sees its own work."""

FAILS = [
    "test_05_3_the_cells_come_along",
]


_conform = conform


def conform(frame):
    for name in LABELLED:
        frame[name] = strip_code(frame[name])
    return _conform(frame)
