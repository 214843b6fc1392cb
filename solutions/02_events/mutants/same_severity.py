"""02.4: chooses among all severities, the present one too: a correction that corrects nothing."""

FAILS = [
    "test_02_4_each_correction_changes_one_thing",
]


def revise(event, rng):
    revised = {**event, "revision": event["revision"] + 1}
    if rng.random() < 0.5:
        revised["Casualties"] += 1
    else:
        revised["Severity"] = rng.choice(FIELDS["Severity"].labels)
    return named(revised)
