"""Whatever is given to the command: a clear line or a right result, never a traceback, never a hang."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import COMMAND, TIMEOUT, app, decisions, environment, events
from tests.video_files import corners, gray, write_sound, write_video


def refused(code: int, says: str, *arguments: object) -> None:
    """The command must end with `code` and one line that says why, before it prints anything."""
    done = app(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("app.py: ")
    assert done.stderr.count("\n") == 1


def text_file(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("This is not a video.\n" * 50)
    return path


def truncated(folder: Path) -> Path:
    whole = write_video(folder / "whole.mp4", map(gray, range(20))).read_bytes()
    path = folder / "truncated.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing.mp4", "there is no file"),
        (lambda folder: folder, "is a folder"),
        (text_file, "is not a video file"),
        (truncated, "its index is missing"),
        (lambda folder: write_sound(folder / "sound.mp4"), "has no video in it"),
    ],
)
def test_a_useless_video(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    refused(1, says, "--replay", make(tmp_path), "--headless", "--json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--ask", "hello"), "argument --ask: expected SECONDS:TEXT, not 'hello'"),
        (("--ask", "soon:hello"), "argument --ask: 'soon' is not a number of seconds"),
        (("--ask", "-1:hello"), "argument --ask: "),
        (("--ask", "3:"), "argument --ask: the question is empty"),
        (("--speed", "fast"), "argument --speed: expected max or a number above 0"),
        (("--speed", "0"), "argument --speed: expected max or a number above 0"),
        (("--port", "99999"), "argument --port: expected a number from 1 to 65535"),
        (("--profile", "none"), "argument --profile: invalid choice"),
        (("--checkpoint", ""), "checkpoint must not be empty"),
        (("--remember", "x"), "unrecognized arguments"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    refused(2, says, "--replay", "any.mp4", "--headless", *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--headless",), "--headless needs --replay"),
        (("--replay", "any.mp4"), "--replay needs --headless"),
        (("--ask", "3:hello"), "--ask needs --headless"),
        (("--json",), "--json needs --headless"),
    ],
)
def test_flags_that_need_each_other(arguments: tuple[str, ...], says: str) -> None:
    refused(2, says, *arguments)


def test_a_malformed_script(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", map(gray, range(10)))
    script = tmp_path / "script.txt"
    refused(1, "script.txt cannot be read", "--replay", video, "--headless", "--script", script)
    script.write_text("1: fine\nnot fine\n")
    refused(1, "script.txt, line 2: expected", "--replay", video, "--headless", "--script", script)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk(tmp_path: Path, untrained: Path) -> None:
    video = write_video(tmp_path / "video.mp4", map(gray, range(30)))
    command = [*COMMAND, "--replay", str(video), "--headless", "--json", "--checkpoint", str(untrained)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, env=environment(), check=False
        )
    assert (done.returncode, done.stderr) == (1, "app.py: No space left on device\n")


def test_a_missing_checkpoint_and_a_folder_that_is_none(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", map(gray, range(10)))
    command = ("--replay", video, "--headless", "--json", "--checkpoint")
    refused(1, str(tmp_path / "nowhere"), *command, tmp_path / "nowhere")
    refused(1, str(tmp_path), *command, tmp_path)


def test_a_port_in_use(untrained: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = app("--port", port, "--no-speech", "--checkpoint", untrained)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("app.py: ")
    assert str(port) in last


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: write_video(path, [gray(3)]), [0.1]),
        (lambda path: write_video(path, [corners()] * 10, rotation=90), [1.0]),
        (lambda path: write_video(path, map(gray, range(5)), times=[0, 100, 900, 2050, 2100]), [1.0, 2.0]),
        (lambda path: write_video(path, [corners(3840, 2160)] * 10), [1.0]),
    ],
    ids=["one frame", "rotated", "uneven", "4k"],
)
def test_an_unusual_video(tmp_path: Path, untrained: Path, make: Callable[[Path], Path], expected: list[float]) -> None:
    video = make(tmp_path / "video.mp4")
    done = app("--replay", video, "--ask", "60:Late?", "--headless", "--json", "--checkpoint", untrained)
    assert (done.returncode, done.stderr) == (0, "")
    assert decisions(done.stdout) == expected
    types = [event["type"] for event in events(done.stdout)]
    assert types.count("error") == 1, "the question after the end is reported"
    assert types[-1] == "end"
