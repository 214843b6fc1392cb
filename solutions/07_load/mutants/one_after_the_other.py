"""07.5: a loop: no two loaders ever meet, so nothing is proven."""

FAILS = ["test_07_5_all_loaders_run_at_once"]


def load_together(engine, paths):
    with ThreadPoolExecutor(max_workers=1) as loaders:
        running = [loaders.submit(load_file, engine, path) for path in paths]
    return [load.result() for load in running]
