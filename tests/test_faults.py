"""Every part of the running program stalls, dies, talks nonsense and comes back: the user is told, nothing that was
said or asked is lost, and the session goes on.

Here: engine, disk, slowness and sleep, of `app.py` in a process of its own; see also `test_faults_page`.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aura_core.state import SessionState
from aura_core.state_folder import SUFFIX
from tests.command_line import ROOT, TIMEOUT, environment, wait_for
from tests.fake_vllm import FakeVllm
from tests.impatient import PATIENCE
from tests.video_files import gray, write_video

pytestmark = pytest.mark.skipif(
    not os.environ.get("AURA_FAULTS"), reason="a minute of waiting for a program that is ill: set AURA_FAULTS=1"
)

STANDING = "Tell me every time it rains."
ANSWER = ["A ", "cup.", "<|im_end|>"]
FAULTS = ("stalls", "dies", "nonsense")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes, of which a test plays what it needs."""
    return write_video(tmp_path_factory.mktemp("faults") / "video.mp4", (gray(i // 2) for i in range(2400)), fps=2)


class Weather:
    """A model that acknowledges, answers, and tells of rain while it rains, but only if it was asked to."""

    raining = False

    def __call__(self, uid: str, body: Mapping[str, Any]) -> Sequence[str]:
        content = [
            m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}] for m in body["messages"]
        ]
        texts = [item["text"] for parts in content for item in parts if item.get("text")]
        if texts[-1] == STANDING:
            return ["Okay, I will ", "tell you.", "<|im_end|>"]
        if texts[-1].endswith("?"):
            return ANSWER
        return ["It ", "rains.", "<|im_end|>"] if self.raining and STANDING in texts else ["<|silent|>"]


class Program:
    """`app.py --headless --json` with little patience, its lines one by one; no wait for it is without an end."""

    def __init__(self, video: Path, server: FakeVllm, *arguments: object, speed: float = 8) -> None:
        command = [
            sys.executable, "-m", "tests.impatient", "--replay", video, "--headless", "--json", "--speed", speed,
            "--engine-url", server.url, *arguments,
        ]  # fmt: skip
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1, cwd=ROOT,
            env=environment(),
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self._coming: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line)
        self._coming.put(None)

    def until(self, done: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read on until a line is as wanted."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"it did not happen: {self.lines[-3:]}") from None
            if line is None:
                raise AssertionError(f"the program ended: {self.lines[-3:]}")
            self.lines.append(json.loads(line))
            if done(self.lines[-1]):
                return self.lines[-1]

    def until_type(self, type: str, **values: object) -> dict[str, Any]:
        return self.until(lambda line: line["type"] == type and values.items() <= line.items())

    def ready(self) -> None:
        """Wait until it was asked and has decided something, which a busy machine may take a while for."""
        self.until_type("question")
        self.until(lambda line: line["type"] in ("silent", "reply") and self.lines[-2]["type"] != "error")

    def ended(self) -> str:
        """Wait for its end; what it had to complain of."""
        self.process.wait(TIMEOUT)
        self._errors.seek(0)
        return self._errors.read()

    def end(self) -> str:
        """Ctrl-C; what it had to complain of."""
        self.process.send_signal(signal.SIGINT)
        complaint = self.ended()
        assert self.process.returncode in (0, 1, 130)
        return complaint

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        for file in (self.process.stdout, self._errors):
            if file is not None:
                file.close()


@contextlib.contextmanager
def program(*arguments: object, **options: Any) -> Iterator[Program]:
    running = Program(*arguments, **options)
    try:
        yield running
    finally:
        running.kill()


def fall_ill(server: FakeVllm, how: str) -> None:
    if how == "dies":
        server.stop()
    else:
        server.faults.append({"stalls": "stall", "nonsense": "malformed"}[how])


# Engine


@pytest.mark.parametrize("fault", FAULTS)
def test_engine(fault: str, video: Path) -> None:
    weather = Weather()
    with FakeVllm(weather) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}") as running:
        running.ready()
        if fault == "nonsense":
            weather.raining = True  # what is malformed comes behind a first word
        fall_ill(server, fault)
        told = running.until_type("error")
        assert told["text"], "one clear line"
        assert "\n" not in told["text"]
        if fault == "dies":
            server.start()
        weather.raining = True
        alert = running.until_type("reply", interrupted=False, kind="alert")
        assert (alert["text"], alert["request"]) == ("It rains.", "q1")
        assert "Traceback" not in running.end()


def test_engine_returns(video: Path, tmp_path: Path) -> None:
    """It is not there at all when the program starts, which says so; then it is, and what was asked before stands."""
    weather = Weather()
    with FakeVllm(weather) as server:
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            running.end()
        server.stop()
        with program(video, server, "--state-dir", tmp_path) as running:
            complaint = running.ended()
            assert (running.process.returncode, len(complaint.splitlines())) == (1, 1)
            with pytest.raises(AssertionError, match=r"the program ended: \[\]"):
                running.until(lambda line: True)
        server.start()
        weather.raining = True
        with program(video, server, "--state-dir", tmp_path) as running:
            assert running.until_type("reply")["request"] == "q1"


# The machine


def test_a_model_slower_than_the_stream_for_a_minute(video: Path) -> None:
    weather, quick = Weather(), threading.Event()

    def late(uid: str, body: Mapping[str, Any]) -> Sequence[str]:
        quick.wait(0.4)  # six seconds of stream at this speed
        return weather(uid, body)

    with FakeVllm(late) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}", speed=16) as running:
        running.ready()
        running.until_type("skipped")
        running.until(lambda line: line["t"] > 60)
        running.until(lambda _: sum(line["type"] in ("silent", "reply") for line in running.lines) > 3)
        quick.set()
        weather.raining = True
        assert running.until_type("reply")["request"] == "q1"
        decided = [line["chunk"] for line in running.lines if "chunk" in line]
        assert decided == list(range(len(decided))), "every chunk, in order, decided or skipped"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_the_machine_sleeps(video: Path) -> None:
    weather = Weather()
    with FakeVllm(weather) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}") as running:
        running.ready()
        running.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG))
        threading.Event().wait(1.5 * PATIENCE)  # time is what passes here
        running.process.send_signal(signal.SIGCONT)
        weather.raining = True
        assert running.until_type("reply", interrupted=False)["request"] == "q1"


# Disk


def kept(folder: Path) -> SessionState:
    return SessionState.from_bytes((folder / f"headless{SUFFIX}").read_bytes())


def spoil(folder: Path, fault: str) -> Callable[[], None]:
    """The disk under `folder` falls ill; returns what makes it well."""
    if fault == "dies":
        away = folder.with_name("away")
        folder.rename(away)
        return lambda: away.rename(folder) and None
    part = folder / f"headless{SUFFIX}.part"

    def stall() -> bool:
        with contextlib.suppress(FileExistsError):  # something is just being written
            os.mkfifo(part)  # who opens it to write waits for a reader that does not come
            return True
        return False

    wait_for(stall)

    def well() -> None:
        reader = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
        part.unlink()
        os.close(reader)

    return well


@pytest.mark.parametrize("fault", ["stalls", "dies"])
def test_disk(fault: str, video: Path, tmp_path: Path) -> None:
    weather, folder, made_well = Weather(), tmp_path / "kept", []

    def spoiling(uid: str, body: Mapping[str, Any]) -> Sequence[str]:
        """The disk falls ill within the first answer, so that there is something to write on it."""
        answer = weather(uid, body)
        if answer == ANSWER and not made_well:
            made_well.append(spoil(folder, fault))
        return answer

    asks = ("--ask", f"0.6 standing:{STANDING}", "--ask", "12:What is it?", "--ask", "16:And now?")
    with FakeVllm(spoiling) as server, program(video, server, "--state-dir", folder, *asks) as running:
        running.until(lambda line: line["text"] == "A cup.")
        if fault == "dies":
            running.until(lambda _: any("not kept for a restart" in line["text"] for line in running.lines))
        (well,) = made_well
        well()
        running.until(lambda _: sum(line["text"] == "A cup." for line in running.lines) >= 2)
        weather.raining = True
        assert running.until_type("reply")["request"] == "q1"
        running.end()
    assert [request.text for request in kept(folder).requests] == [STANDING]
    assert "And now?" in [group.question for group in kept(folder).history]


def test_disk_nonsense_and_returns(video: Path, tmp_path: Path) -> None:
    """What is in the file turns into nonsense, while the program runs and before it starts."""
    weather, file = Weather(), tmp_path / f"headless{SUFFIX}"
    with FakeVllm(weather) as server:
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            file.write_bytes(b"\0" * 100)
            weather.raining = True
            running.until_type("reply", kind="alert")
            running.end()
        assert kept(tmp_path).requests[0].count > 0
        file.write_bytes(file.read_bytes()[:-50])
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            complaint = running.end()
        assert len(complaint.splitlines()) == 1
        assert "kept as" in complaint
        with program(video, server, "--state-dir", tmp_path) as running:
            assert running.until_type("reply")["request"] == "q1"
