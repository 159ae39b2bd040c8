"""Bytes from outside, whatever they are: never anything but a clear error.

What a file or a message could be is drawn by Hypothesis, near to what is right, for far from it is soon refused. The
same targets are for `python -m tests.fuzz`, which is led by coverage; what it has found once is here for good.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aura_core.recording import RecordingError
from aura_core.recording.format import pack_frames, unpack_frames
from aura_core.sources import ReplayError
from aura_core.sources.address import Address
from aura_core.sources.script import parse_ask
from aura_core.sources.video import Video
from tests import fuzz, fuzz_network, fuzz_targets
from tests.command_line import ROOT, TIMEOUT, environment
from tests.fuzz_targets import DEEP, one_line
from tests.scripted import PICTURE, Journal, ScriptedEngine, idle, opened
from tests.video_files import gray, write_video

TARGETS = fuzz_targets.TARGETS | fuzz_network.TARGETS
NESTED = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "t", "text", "standing", "x"]), inner),
)
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def record(data: Any, **more: Any) -> str:
    return json.dumps({"type": "recording", "clock": 0, **data, **more})


def completion(*choices: Any) -> str:
    return "\0" + json.dumps({"object": "chat.completion", "choices": choices})


def lying_png() -> str:
    """A picture whose data is said to be two gigabytes long."""
    whole, _ = pack_frames(np.arange(2 * 6 * 8 * 3).astype(np.uint8).reshape(2, 6, 8, 3))
    return (whole[:33] + (0x7FFFFFFF).to_bytes(4) + whole[37:]).decode("latin-1")


HUGE = 10**400
OVO = {"id": 0, "task": "EPM", "video": "a.mp4", "realtime": 2, "question": "Who?", "options": ["x", "y"], "gt": 1}
TURN = {"question": "What?", "answer": "cut", "timestamp": "9 -- 14"}
OFFER = "POST /webrtc/offer\nhost: a\ncontent-type: application/json\nx-aura-token: TOKEN"
BREAK = fuzz_targets.BREAK.decode("latin-1")

#: What each target did not stand, and the bytes (as Latin-1) with which it was found.
FOUND = {
    "a whole number that no float can hold": ("state", json.dumps({"version": 1, "sha256": "", "state": {"t": HUGE}})),
    "such a number in a message": ("messages", json.dumps({"type": "tune", "quieter": HUGE})),
    "such a number in a prediction": ("predictions", json.dumps({"id": "x", "replies": [{"t": HUGE, "text": ""}]})),
    "a line break in a message's type": ("messages", '{"type": "\\n"}'),
    "a line break in a version": ("state", '{"version": "\\n", "sha256": "", "state": 1}'),
    "a line break in a key": ("data-set", '{"prov\\nance": 1}'),
    "a command to the terminal in a key": ("data-set", '{"\\u001b[2J": 1}'),
    "a command to the terminal in a recording": ("recording", record({"model": "\x1b[2J"})),
    "an event without a time": ("recording", record({}) + BREAK + '{"type": "event", "event": {"t": []}}'),
    "an event that is none": ("replay", record({"config": {}}) + BREAK + '{"type": "event", "event": 5}'),
    "a picture of gigabytes": ("recording", record({}) + BREAK + '{"type": "chunk"}\0' + lying_png()),
    "an answer that is not among the options": ("annotations", json.dumps([OVO | {"gt": 7}])),
    "a time that is a word": ("annotations", json.dumps([OVO | {"realtime": "soon"}])),
    "a dialogue without a question": (
        "annotations",
        json.dumps([{"video": "g.mp4", "qa": [TURN]}, {"video": "h", "qa": []}]),
    ),
    "annotations too deep": ("annotations", DEEP),
    "predictions too deep": ("predictions", DEEP),
    "a data set too deep": ("data-set", DEEP),
    "a list of models that is a page": ("speech", "\3<html>"),
    "a completion without a message": ("verdict", completion({})),
    "a completion that is a list": ("verdict", "\0[1]"),
    "a completion with a number for its text": ("verdict", completion({"message": {"content": 5}})),
    "an offer that is not a number": ("routes", OFFER + BREAK + '{"webrtc_id": NaN}'),
    "an offer with half a character": ("routes", OFFER + BREAK + '{"webrtc_id": ["\\ud800"]}'),
    "an origin that is no address": ("routes", "POST /webrtc/bye?id=x\norigin: http://[" + BREAK),
    "a length in other digits": ("routes", "POST /aura/upload\nx-aura-token: TOKEN\ncontent-length: \xb2" + BREAK),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_once_is_a_clear_error(what: str) -> None:
    name, content = FOUND[what]
    resource = pytest.importorskip("resource", reason="needs the system's account of memory")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    TARGETS[name].run(content.encode("latin-1"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown / unit < 1000, "a gigabyte for a few hundred bytes"


#: Targets that are always fuzzed a little, so that the fuzzer itself stays usable.
QUICK = ("script", "messages")


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_begins(name: str, tmp_path: Path) -> None:
    """Each target takes its own seeds and a few changed ones, with the runner that people use."""
    if name not in QUICK and not os.environ.get("AURA_FUZZ"):
        pytest.skip("half a minute for all targets: set AURA_FUZZ=1")
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris: pip install -r requirements-extra.txt")
    command = [sys.executable, "-m", "tests.fuzz", name, "--runs", "20", "--seed", "1", "--corpus", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DONE" in done.stderr


def test_what_cannot_be_fuzzed_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fuzz.main(["nothing"])
    assert "there is no target nothing" in capsys.readouterr().err
    assert fuzz.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(TARGETS)
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert fuzz.main(["script"]) == 2
    assert capsys.readouterr().err == "fuzzing needs atheris: pip install -r requirements-extra.txt\n"


@FEW
@given(st.binary() | NESTED.map(lambda value: json.dumps(value).encode()) | st.text().map(str.encode))
@example(DEEP.encode())
@example(b'[{"t": 1e999, "text": "x"}]')
@example(b'[{"t": ' + b"9" * 5000 + b', "text": "x"}]')
@example(b'[{"t": 1, "text": "\\ud800"}]')
def test_a_script(content: bytes) -> None:
    fuzz_targets.script(content)


@FEW
@given(st.text())
@example("9" * 5000 + ":x")
def test_a_question_of_the_command_line(line: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_ask(line).text


@FEW
@given(st.binary(max_size=300), st.binary(max_size=64))
@example(DEEP.encode(), b"")
@example(b'{"type": ["x"]}', b"")
@example(b'"type"', b"")
def test_a_recording_whose_checksums_are_right(header: bytes, payload: bytes) -> None:
    """Whoever makes a file on purpose also makes its checksums."""
    fuzz_targets.recording(header + b"\0" + payload)


@FEW
@given(st.binary(), st.booleans())
def test_a_recorded_picture(payload: bytes, repeated: bool) -> None:
    with pytest.raises(RecordingError):
        unpack_frames(payload, repeated)


@FEW
@given(NESTED)
@example({"type": "recording", "clock": 0, "session": {"n": -1}})
@example({"type": "recording", "clock": 0, "profile": {"checkpoint": 5}})
def test_the_first_record_of_a_recording(value: Any) -> None:
    data = value if isinstance(value, dict) else {"type": "recording", "value": value}
    fuzz_targets.recording(json.dumps(data).encode())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", map(gray, range(12))).read_bytes()


@FEW
@given(st.data())
def test_a_video_file(tmp_path: Path, film: bytes, data: st.DataObject) -> None:
    """Damaged anywhere: what can be read is, the rest is one line."""
    changed = bytearray(film)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(film) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(changed[: data.draw(st.integers(0, len(film)))]))
    try:
        for count, (t, frame) in enumerate(Video.open(path).samples()):
            assert t >= 0
            assert frame.ndim == 3
            if count > 100:  # a damaged time may ask for hours
                break
    except ReplayError as error:
        one_line(error)


@FEW
@given(st.text(alphabet=st.characters(), max_size=60) | st.from_regex(r"(rtsp|https?)://[^/]{0,20}(/.{0,20})?"))
def test_a_camera_s_address(url: str) -> None:
    try:
        assert "@" not in str(Address.parse(url)).split("/")[2]
    except ValueError as error:
        one_line(error)


@FEW
@given(st.text(alphabet=st.characters(exclude_categories=()), min_size=1, max_size=40))
@example("\ud800")
@example("<|im_end|>\ud83d")
async def test_a_question_is_text_that_can_be_written_down(text: str) -> None:
    """Half a surrogate pair is in no encoding: kept in the context it would fail every prompt from then on."""
    engine, journal = ScriptedEngine(), Journal()
    session = opened(engine, journal)
    async with session:
        session.feed(0.0, PICTURE)
        try:
            session.ask(text)
        except ValueError:
            assert not text.strip()
        await idle(session)
        for message in session.context.messages():
            (message.text or "").encode()


MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=200),
    NESTED.map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["watch", "clear", "ask", "stop", "hush"])},
        optional={"demo": NESTED, "text": NESTED, "standing": NESTED, "request": NESTED},
    ).map(json.dumps),
)


@FEW
@given(st.lists(MESSAGES, max_size=4))
@example([DEEP])
@example(['{"type": "ask", "text": "\\ud800"}'])
async def test_messages_of_a_page(messages: list[str | bytes]) -> None:
    await fuzz_network.page(messages)
