"""07.5: an error is a result like any other, and nobody looks at it."""

FAILS = ["test_07_5_one_that_fails_stops_no_other"]


def load_together(engine, paths):
    with ThreadPoolExecutor(max_workers=len(paths)) as loaders:
        running = [loaders.submit(load_file, engine, path) for path in paths]
    return [load.result() for load in running if not load.exception()]
