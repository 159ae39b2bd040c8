"""Worker processes that end with the process which started them.

One that waits for work of a `ProcessPoolExecutor` does not hear that its parent was killed: it holds the other end of
its own queue, and would wait, with all its memory, for ever.
"""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this worker process as soon as its parent has gone; the `initializer` of a pool."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), name="parent", daemon=True).start()
