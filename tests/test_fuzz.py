"""Bytes from outside, whatever they are: never anything but a clear error.

What a file or a message could be is drawn by Hypothesis, near to what is right, for far from it is soon refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aura_core.recording import RecordingError
from aura_core.recording.format import FIRST_CHECKSUM, MAGIC, Reader, pack, unpack_frames
from aura_core.sources import ReplayError
from aura_core.sources.address import Address
from aura_core.sources.script import load_script, parse_ask
from aura_core.sources.video import Video
from tests.outlet import FakeOutlet
from tests.scripted import PICTURE, Journal, ScriptedEngine, idle, opened
from tests.video_files import gray, write_video

#: Deeper than Python's parser goes, in fewer bytes than any limit on them.
DEEP = "[" * 4000
NESTED = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "t", "text", "standing", "x"]), inner),
)
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def one_line(error: Exception) -> None:
    """What a user can be told."""
    assert str(error)
    assert "\n" not in str(error)


@FEW
@given(st.binary() | NESTED.map(lambda value: json.dumps(value).encode()) | st.text().map(str.encode))
@example(DEEP.encode())
@example(b'[{"t": 1e999, "text": "x"}]')
@example(b'[{"t": ' + b"9" * 5000 + b', "text": "x"}]')
@example(b'[{"t": 1, "text": "\\ud800"}]')
def test_a_script(tmp_path: Path, content: bytes) -> None:
    script = tmp_path / "script"
    script.write_bytes(content)
    try:
        asks = load_script(script)
    except ReplayError as error:
        one_line(error)
        return
    assert all(ask.t >= 0 and ask.text.strip() for ask in asks)


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
def test_a_recording_whose_checksums_are_right(tmp_path: Path, header: bytes, payload: bytes) -> None:
    """Whoever makes a file on purpose also makes its checksums."""
    sizes = struct.pack("<II", len(header), len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(header, zlib.crc32(sizes, FIRST_CHECKSUM)))
    path = tmp_path / "x.aurarec"
    path.write_bytes(MAGIC + sizes + struct.pack("<I", checksum) + header + payload)
    reader = Reader(path)
    for record in reader:
        assert isinstance(record.type, str)
    assert reader.damage is None or "\n" not in reader.damage


@FEW
@given(st.binary(), st.booleans())
def test_a_recorded_picture(payload: bytes, repeated: bool) -> None:
    with pytest.raises(RecordingError):
        unpack_frames(payload, repeated)


@FEW
@given(NESTED)
@example({"type": "recording", "clock": 0, "session": {"n": -1}})
@example({"type": "recording", "clock": 0, "profile": {"checkpoint": 5}})
def test_the_first_record_of_a_recording(tmp_path: Path, value: Any) -> None:
    from aura_core.recording.replay import read_header

    path = tmp_path / "x.aurarec"
    data = value if isinstance(value, dict) else {"type": "recording", "value": value}
    path.write_bytes(MAGIC + pack(data, b"", FIRST_CHECKSUM)[0])
    try:
        read_header(path)
    except RecordingError as error:
        one_line(error)


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
    """Through the connection's own parser into a true visit; a failure of ours would be a logged exception."""
    from aura_core.sources import wire
    from aura_core.ui.visit import Assistant, Visit
    from tests.browser import ScriptedEngine as Scripted

    outlet = FakeOutlet()
    visit = Visit(Assistant(Scripted()), outlet)
    peer = object.__new__(wire.Wire)
    sent: list[Any] = []
    peer.send = sent.append  # type: ignore[method-assign]
    peer._messages = asyncio.Queue(wire.MAX_WAITING)
    await visit.message({"type": "watch", "demo": None})
    try:
        for raw in messages:
            peer.received(raw)
        while not peer._messages.empty():
            try:
                await visit.message(peer._messages.get_nowait())
            except ValueError as error:
                one_line(error)
    finally:
        await visit.close()
    for message in (*sent, *outlet.sent):
        json.dumps(message).encode()
