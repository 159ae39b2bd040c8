"""Runs one command and takes its whole process group along when it ends, or when we do.

Started by `aura_core.services.supervisor` with a pipe as standard input whose other end nobody else holds. However the
supervisor ends, SIGKILL included, the pipe closes, and the guard stops the command: SIGTERM to its group, SIGKILL when
that did not help. Standard library only, run by path: `python -I guard.py GRACE COMMAND...`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run `sys.argv[2:]`; the exit code is the command's, 128 + N when signal N ended it."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)

    def stop() -> None:
        send(signal.SIGTERM)
        timer = threading.Timer(grace, send, (signal.SIGKILL,))
        timer.daemon = True
        timer.start()

    def watch() -> None:
        while os.read(0, 1024):
            continue
        stop()

    signal.signal(signal.SIGTERM, lambda *_: stop())
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    send(signal.SIGKILL)  # what it left behind
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
