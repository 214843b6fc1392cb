"""08.6: a broadcast counts as a move, and a join without an equality as none."""

FAILS = ["test_08_6_what_a_plan_does", "test_08_6_other_plans"]


def explain_facts(frame):
    names = [name for _, name in nodes(frame)]
    return PlanFacts(
        scans=sum("Scan" in name for name in names),
        moves=sum(name.endswith("Exchange") for name in names),
        broadcast_joins=sum(name == "BroadcastHashJoin" for name in names),
    )
