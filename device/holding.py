"""Having a board to oneself: one process at a time, as often as it likes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class Holding:
    """What a process has from its first :meth:`hold` to the last release: a context that is entered once for all.

    ``take`` makes that context; it may wait for other processes.
    """

    def __init__(self, take: Callable[[], AbstractContextManager[object]]) -> None:
        self._take = take
        self._guard = threading.RLock()
        self._held = ExitStack()
        self._holders = 0
        self._turn = 0

    def hold(self) -> Callable[[], None]:
        """Have it until the returned function is called; calling that twice does no harm."""
        with self._guard:
            if self._holders == 0:
                with ExitStack() as stack:
                    stack.enter_context(self._take())
                    self._held = stack.pop_all()
            self._holders += 1
            held = [self._turn]

        def release() -> None:
            with self._guard:
                if held and held.pop() == self._turn:  # the first call, and not from before an end
                    self._holders -= 1
                    if self._holders == 0:
                        self.end()

        return release

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have it inside the block."""
        release = self.hold()
        try:
            yield
        finally:
            release()

    def end(self) -> None:
        """Leave the context now, whoever still counts on it."""
        with self._guard:
            self._turn += 1
            self._holders = 0
            self._held.close()
