"""For nbval over the solved notebooks: services are there before the first cell, and stderr is not compared."""


def pytest_sessionstart(session) -> None:
    """Start what the notebooks need; fixtures do not reach the cells that nbval runs."""
    if session.config.getoption("nbval", False) or session.config.getoption("nbval_lax", False):
        import services

        services.up()


def pytest_collectstart(collector) -> None:
    """What Java and Spark write to stderr differs from machine to machine."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
