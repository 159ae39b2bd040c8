"""Ctrl-C and SIGTERM as the cancellation of a task, which may have something to report before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal


class Stop:
    """`with stop:` in a task: a signal cancels the task. Afterwards `code` is the exit code that says so."""

    def __init__(self) -> None:
        self.code: int | None = None
        """128 and the number of the first signal, as shells count; None: none came."""
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> Stop:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # who started us in the background wants it so
            # Not on Windows, nor outside of the main thread: there Ctrl-C stays what it was.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self._stop, task, number)
                self._handled.append(number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in self._handled:
            loop.remove_signal_handler(number)
        self._handled.clear()

    def _stop(self, task: asyncio.Task[object], number: signal.Signals) -> None:
        self.code = self.code or 128 + number
        task.cancel()
