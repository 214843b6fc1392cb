"""02.3: stops at the first rule that is broken; the sender mends that one and comes again."""

FAILS = [
    "test_02_3_broken_rules_are_named",
]


def _impossible(event):
    if event["Children"] + event["OAPs"] > event["Casualties"]:
        return ["impossible: Children + OAPs > Casualties"]
    if event["Pedestrian"] > event["Casualties"]:
        return ["impossible: Pedestrian > Casualties"]
    return (
        ["impossible: Cycles + P2W > Vehicles"]
        if event["Cycles"] + event["P2W"] > event["Vehicles"]
        else []
    )
