"""A camera at this machine, read with OpenCV; or a video file that plays its part, at the pace of life.

As with a network camera a thread takes every picture, so that the newest one is never an old one from the driver's
buffer, and a camera that is unplugged is looked for again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from aura_core.sources.address import Address, CameraError
from aura_core.sources.camera import NetworkCamera, Retry
from aura_core.sources.video import Video
from aura_core.sources.watch import Camera, Shot

log = logging.getLogger(__name__)

#: Pictures that may fail in a row before the camera counts as gone.
_FAILURES = 5


class Webcam:
    """A `aura_core.sources.watch.Camera`. `source`: the number of a camera, or a file that ends when it ends.

    `tell` is as in `NetworkCamera`. Raises CameraError when there is no such camera.
    """

    def __init__(
        self,
        source: int | str,
        tell: Callable[[str, bool], None] = lambda line, well: log.warning("%s", line),
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ended = False
        self._source, self._tell, self._retry, self._clock = source, tell, retry or Retry(), clock
        self._name = f"camera {source}" if isinstance(source, int) else str(source)
        self._newest: Shot | None = None
        self._stop = threading.Event()
        capture = self._open()
        if capture is None:
            raise CameraError(f"there is no {self._name} that can be read")
        self._thread = threading.Thread(target=self._run, args=(capture,), name="webcam", daemon=True)
        self._started = False

    def newest(self) -> Shot | None:
        """See `Camera`. The first call begins to film: a file must not have ended before the model is loaded."""
        if not self._started:
            self._started = True
            self._thread.start()
        return self._newest

    def close(self) -> None:
        """Free the camera."""
        self._stop.set()
        if self._started:
            self._thread.join(2.0)

    def _open(self) -> cv2.VideoCapture | None:
        # the driver's complaints about a camera that is not there are not for the user's terminal
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(self._source)
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _run(self, capture: cv2.VideoCapture | None) -> None:
        period = 0.0
        if isinstance(self._source, str) and capture is not None:
            period = 1 / min(120.0, max(1.0, capture.get(cv2.CAP_PROP_FPS) or 25.0))
        due, failures = self._clock(), 0
        while not self._stop.is_set():
            done, picture = capture.read() if capture is not None else (False, None)
            if done and picture is not None:
                if failures >= _FAILURES:
                    self._tell(f"{self._name} is back", True)
                failures = 0
                self._newest = _shot(self._clock(), picture)
                due += period
                self._stop.wait(max(0.0, due - self._clock()))
                continue
            if isinstance(self._source, str):
                self.ended = True
                break
            failures += 1
            if failures == _FAILURES:
                self._tell(f"{self._name} is gone; looking for it", False)
            if failures >= _FAILURES:
                if capture is not None:
                    capture.release()
                self._stop.wait(self._retry.first)
                capture = self._open()
        if capture is not None:
            capture.release()


def _shot(t: float, bgr: np.ndarray) -> Shot:
    return Shot(t, lambda: np.ascontiguousarray(bgr[:, :, ::-1]))


def open_camera(
    where: str, login: str | None = None, tell: Callable[[str, bool], None] = lambda line, well: log.warning("%s", line)
) -> Camera:
    """The camera that a user names: a number, an address, or a file that plays one. Raises CameraError."""
    if where.isascii() and where.isdigit() and len(where) < 4:
        return Webcam(int(where), tell)
    if "://" in where:
        try:
            return NetworkCamera.open(Address.parse(where, login), tell)
        except ValueError as error:
            raise CameraError(str(error)) from None
    Video.open(where)  # says clearly what is wrong with it
    return Webcam(os.path.abspath(where), tell)
