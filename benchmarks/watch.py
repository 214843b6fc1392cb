"""Looks at something again and again while a block runs."""

import threading


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
