"""A folder in which sessions leave what they know, so that a program that was killed goes on where it stopped.

A thread of its own writes each state whole, to the disk and under its name in one step: at any moment the file holds
one state or the one before. The session never waits for the disk, and a disk that fails costs it nothing but a line
for the user. A file that cannot be read is kept aside under another name, and the session begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

from aura_core.events import Delta, End, Error, Event
from aura_core.session import Session
from aura_core.state import SessionState, StateError

try:
    import fcntl
except ImportError:  # no such locks on Windows: two programs on one folder are the user's business there
    fcntl = None

log = logging.getLogger(__name__)

SUFFIX = ".state.json"
#: Largest file that is read; the bounds of a context keep ours far below it.
MAX_BYTES = 4 << 20
#: Sessions that a folder remembers; the ones unused for longest go.
MAX_STATES = 200
#: Seconds of stream time after which a state is written although only the time has changed: requests grow old.
REFRESH = 300.0
#: Seconds that closing waits for the disk.
PATIENCE = 5.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file's content in one step that a crash or a power cut does not halve. Raises OSError."""
    part = path.with_name(path.name + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    with contextlib.suppress(OSError):  # not every file system has folders that can be synchronized
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class StateFolder:
    """The states in `folder`, which is made when it is not there. `write` puts bytes on the disk.

    Raises StateError when the folder cannot be had.
    """

    def __init__(self, folder: Path, write: Callable[[Path, bytes], None] = write_whole) -> None:
        self.folder, self._write = folder, write
        self._open: WeakValueDictionary[str, Keeper] = WeakValueDictionary()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(f"{folder}: {error.strerror}") from error

    def open(self, name: str, tell: Callable[[str], object] = log.warning) -> Keeper:
        """The keeper of the session called `name`; `tell` gets a line when its file was damaged.

        A keeper of that name in this program is closed: its visitor has come back. Raises StateError for a name that
        is none, for one that another program keeps, and when the folder cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise StateError("a session's name is 1 to 64 letters, digits, - and _")
        if (former := self._open.pop(name, None)) is not None:
            former.close()
        path = self.folder / (name + SUFFIX)
        try:
            lock = _lock(self.folder / f"{name}.lock")
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        if lock is None:
            raise StateError(f"{path} is in use by another program")
        self._prune()
        keeper = self._open[name] = Keeper(path, lock, _read(path, tell), self._write)
        return keeper

    def _prune(self) -> None:
        """Remove what is too much, also of the damaged."""
        with contextlib.suppress(OSError):
            for pattern in (f"*{SUFFIX}", "*.damaged"):
                found = sorted(self.folder.glob(pattern), key=lambda path: path.stat().st_mtime)
                for path in found[: max(0, len(found) - MAX_STATES)]:
                    path.unlink()
                    path.with_name(path.name.removesuffix(SUFFIX) + ".lock").unlink(missing_ok=True)


class Keeper:
    """Keeps the state of one session. Made by `StateFolder.open`; to be closed."""

    def __init__(
        self, path: Path, lock: IO[bytes], restored: SessionState | None, write: Callable[[Path, bytes], None]
    ) -> None:
        self.path = path
        self.restored = restored
        """What a session before left; None: nothing."""
        self._lock, self._write = lock, write
        self._session: Session | None = None
        self._emit: Callable[[Event], None] = lambda event: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking = False
        self._last = restored  # given to the writer
        self._news = threading.Condition()
        self._next: SessionState | None = None  # not written yet
        self._over = self._failed = False
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def listen(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """What a session is to tell its events to in place of `emit`."""
        self._emit = emit

        def listener(event: Event) -> None:
            emit(event)
            if isinstance(event, End):
                self._look()
            elif self._session is not None and not self._looking and not isinstance(event, Delta):
                self._looking = True  # an event comes in the middle of a change; look when it is complete
                self._loop = asyncio.get_running_loop()
                self._loop.call_soon(self._look)

        return listener

    def attach(self, session: Session) -> None:
        """Have `session`, which is not entered yet, go on from what is kept, and keep what it comes to know."""
        if self.restored is not None:
            session.restore(self.restored)
        self._session = session

    def forget(self) -> None:
        """The user starts over: what a session before left is not taken up."""
        self.restored = self._last = None

    def close(self) -> None:
        """Write what is left and let the name go; waits for the disk, but not for ever. May be called twice."""
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.warning("%s: the disk does not answer; what was said last is not kept", self.path)
        self._lock.close()
        self._session, self._emit = None, lambda event: None  # they hold each other otherwise, and the pictures

    def _look(self) -> None:
        self._looking = False
        if self._session is None:
            return
        state = self._session.state()
        if state.same_as(self._last) and state.t < (self._last.t if self._last else 0.0) + REFRESH:
            return
        with self._news:
            if not self._over:
                self._last = self._next = state
                self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                while self._next is None and not self._over:
                    self._news.wait()
                state, self._next = self._next, None
            if state is None:
                return
            try:
                self._write(self.path, state.to_bytes())
                self._failed = False
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                self._complain("the disk is full" if full else error.strerror or str(error), state.t)

    def _complain(self, why: str, t: float) -> None:
        """Tell the user, once until it works again."""
        if self._failed:
            return
        self._failed = True
        line = Error(t, f"what is said is not kept for a restart: {why}")
        log.warning("%s: %s", self.path, line.text)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._emit, line)


def _lock(path: Path) -> IO[bytes] | None:
    """The lock at `path`, held until it is closed, however the program ends; None if another program has it."""
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb")  # noqa: SIM115
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
    return file


def _read(path: Path, tell: Callable[[str], object]) -> SessionState | None:
    """The state in a file, or None. One that cannot be read is kept aside."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StateError("it is too large")
        return SessionState.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    except StateError as error:
        number = 1
        while (aside := path.with_name(f"{path.name}.{number}.damaged")).exists():
            number += 1
        try:
            path.replace(aside)
        except OSError as trouble:
            raise StateError(f"{path}: {trouble.strerror}") from trouble
        tell(f"{path} was not taken up ({error}); it is kept as {aside.name}, and the session begins anew")
        return None
