"""Looks at something again and again while a block runs."""

import threading

import psutil


class Watch:
    """Calls look() every so many seconds, in a thread of its own, from the block's beginning to its end; a subclass says what look() does."""

    every_s = 0.2

    def __enter__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every_s):
            self.look()


class Resident(Watch):
    """The highest resident memory of some processes while a block runs, in MB."""

    def __init__(self, watched: dict[str, psutil.Process]):
        self.watched, self.mb = watched, dict.fromkeys(watched, 0)

    def look(self) -> None:
        """Note what each process holds now; one that has ended holds nothing."""
        for name, process in self.watched.items():
            try:
                self.mb[name] = max(self.mb[name], process.memory_info().rss // 2**20)
            except psutil.Error:
                continue
