"""The file of a recording and who writes it: whole up to any damage, and never in the session's way."""

import errno
import io
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aura_core import events
from aura_core.chunks import Chunk
from aura_core.profiles import get_profile
from aura_core.recording import SUFFIX, RecordingError
from aura_core.recording.__main__ import main
from aura_core.recording.folder import Recordings, delete
from aura_core.recording.format import MAGIC, Reader, Record, pack_frames, unpack_frames
from aura_core.recording.header import describe, recorded_profile
from aura_core.recording.writer import WAITING, Recorder
from aura_core.session import SessionConfig
from tests.recorded import Actor, again, picture, recorded, recorder
from tests.scripted import Journal, idle

CONFIG = SessionConfig()


def write(path: Path, count: int = 4) -> list[Record]:
    """A recording of `count` chunks; its records."""
    writer = recorder(path, CONFIG)
    for index in range(count):
        frames = np.stack([picture(2 * index), picture(2 * index + 1)])
        writer.put_chunk(Chunk(index, float(index), index + 1.0, frames, f"x-{index}"), "advance")
        writer.put("note", t=index, what="page", text="wörd \ud83d")
    writer.close()
    assert writer.failed is None
    return list(Reader(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[Record]]:
    path = tmp_path_factory.mktemp("recording") / f"whole{SUFFIX}"
    records = write(path)
    return path, path.read_bytes(), records


def read(path: Path, content: bytes) -> tuple[list[Record], Reader]:
    path.write_bytes(content)
    reader = Reader(path)
    return list(reader), reader


def test_what_was_put_in_comes_out(whole: tuple[Path, bytes, list[Record]]) -> None:
    path, content, records = whole
    assert [record.type for record in records] == ["recording", *["chunk", "note"] * 4, "end"]
    reader = Reader(path)
    assert len(list(reader)) == len(records)
    assert (reader.size, reader.damage, reader.ended) == (len(content), None, "closed")
    frames = unpack_frames(records[3].payload, records[3].data["repeated"])
    assert np.array_equal(frames, np.stack([picture(2), picture(3)]))
    assert records[2].data["text"] == "wörd \ud83d"
    assert path.stat().st_mode & 0o777 == 0o600, "it holds what a camera saw"


@given(data=st.data())
def test_cut_off_at_any_byte_the_beginning_is_whole(data: st.DataObject, whole, tmp_path_factory) -> None:
    path, content, records = whole
    length = data.draw(st.integers(len(MAGIC), len(content) - 1))
    kept, reader = read(path.with_name("cut"), content[:length])
    assert kept == records[: len(kept)]
    assert reader.size <= length
    assert (reader.damage is None) == (reader.size == length)
    assert reader.ended is None
    if len(kept) < len(records):  # and nothing that is there is left out
        more, _ = read(path.with_name("cut"), content[: reader.size])
        assert more == kept


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject, whole: tuple[Path, bytes, list[Record]]) -> None:
    path, content, records = whole
    place = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    if place < len(MAGIC):
        with pytest.raises(RecordingError, match="not a recording"):
            read(path.with_name("changed"), changed)
        return
    kept, reader = read(path.with_name("changed"), changed)
    assert kept == records[: len(kept)]
    assert reader.damage is not None
    assert reader.size <= place


def test_a_record_taken_out_is_noticed(whole: tuple[Path, bytes, list[Record]]) -> None:
    path, content, records = whole
    first, _ = read(path.with_name("a"), content[: len(MAGIC) + 100])
    assert first == []
    ends = [size for size in range(len(MAGIC), len(content)) if _ends_at(path, content, size)]
    changed = content[: ends[2]] + content[ends[3] :]
    kept, reader = read(path.with_name("a"), changed)
    assert (kept, reader.size, reader.damage is None) == (records[:2], ends[2], False)


def _ends_at(path: Path, content: bytes, size: int) -> bool:
    _, reader = read(path.with_name("ends"), content[:size])
    return reader.damage is None


@given(arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9), st.just(3))), st.booleans())
def test_pictures_come_back_as_they_were(frames: np.ndarray, repeated: bool) -> None:
    if repeated:
        frames = np.broadcast_to(frames[0], frames.shape)
    payload, once = pack_frames(frames)
    assert once or not repeated
    assert np.array_equal(unpack_frames(payload, once), frames)


class Disk(io.BytesIO):
    """A file that takes `room` bytes, a few at a time, and then is full."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.content = b""

    def write(self, data) -> int:  # type: ignore[override]
        left = self.room - self.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(data[: min(left, 1000)]))

    def close(self) -> None:
        self.content = self.getvalue()
        super().close()


@pytest.mark.parametrize("room", [0, 10, 1200, 5000])
async def test_a_full_disk_ends_the_recording_not_the_session(tmp_path: Path, room: int) -> None:
    disk, journal, actor = Disk(room), Journal(), Actor({9: ["Still here."]})
    session = recorded(tmp_path / "unused", actor, journal)
    session._recorder.close()
    session._recorder = Recorder(tmp_path / "full", describe(CONFIG), sink=lambda path: disk)
    async with session:
        for tick in range(21):
            session.feed(tick / 2, picture(tick))
            await idle(session)
        await journal.until(events.Error)
    assert [error.text for error in journal.of(events.Error)] == ["the recording has ended: the disk is full"]
    assert [reply.text for reply in journal.of(events.Reply)] == ["Still here."]
    assert isinstance(journal[-1], events.End)
    if disk.content:
        (tmp_path / "full").write_bytes(disk.content)
        reader = Reader(tmp_path / "full")
        assert [record.type for record in reader][:1] in ([], ["recording"])
        assert (reader.damage, reader.size) == (None, len(disk.content)), "it ends with a whole record"


async def test_a_disk_that_hangs_ends_the_recording_not_the_session(tmp_path: Path) -> None:
    free = threading.Event()

    class Hung(Disk):
        def write(self, data) -> int:
            free.wait()
            return super().write(data)

    writer = Recorder(tmp_path / "hung", describe(CONFIG), sink=lambda path: Hung(1 << 30))
    told: list[str] = []
    writer.listen(told.append)
    frames = np.zeros((2, 700, 700, 3), np.uint8)
    for index in range(WAITING // frames.nbytes + 1):
        writer.put_chunk(Chunk(index, 0.0, 1.0, frames, "x"), "advance")
    assert told == ["the recording has ended: the disk is too slow"]
    free.set()
    writer.close()


def test_it_ends_at_its_limit(tmp_path: Path) -> None:
    path, told = tmp_path / "a", []
    writer = recorder(path, CONFIG, limit=5000)
    writer.listen(told.append)
    for number in range(1000):
        writer.put("note", t=0.0, what="page", text=str(number))
    writer.close()
    reader = Reader(path)
    assert [record.data["text"] for record in reader if record.type == "note"][:2] == ["0", "1"]
    assert (reader.ended, reader.damage) == ("limit", None)
    assert path.stat().st_size <= 5000
    assert len(told) == 1
    assert "limit" in told[0]


def test_a_recording_never_overwrites_and_says_where_it_cannot_be(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with pytest.raises(RecordingError, match="there already"):
        recorder(tmp_path / "a", CONFIG)
    with pytest.raises(RecordingError, match="No such file"):
        recorder(tmp_path / "none" / "a", CONFIG)


def aged(path: Path, days: float) -> Path:
    write(path, 1)
    os.utime(path, (then := time.time() - days * 86400, then))
    return path


def test_a_folder_forgets_the_old_and_the_too_much(tmp_path: Path) -> None:
    old, older = aged(tmp_path / f"b{SUFFIX}", 2), aged(tmp_path / f"a{SUFFIX}", 3)
    ancient = aged(tmp_path / f"c{SUFFIX}", 40)
    other = tmp_path / f"mine{SUFFIX}"
    other.write_text("not a recording")
    os.utime(other, (0, 0))
    recordings = Recordings(tmp_path, limit=old.stat().st_size + older.stat().st_size, days=30)
    assert recordings.prune() == old.stat().st_size + older.stat().st_size
    assert (ancient.exists(), old.exists(), older.exists(), other.exists()) == (False, True, True, True)
    writer = recordings.open(describe(CONFIG))
    writer.put("note", t=0.0, what="page", text="x")
    writer.close()
    assert (writer.failed, older.exists(), old.exists()) == (None, False, True), "the oldest made room"
    assert delete(tmp_path)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


def test_a_folder_that_cannot_make_room_ends_the_recording(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path / "new", limit=10)
    writer = recordings.open(describe(CONFIG))
    writer.close()
    assert writer.failed is not None
    assert "limit" in writer.failed


def test_delete_deletes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a")
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["delete", str(tmp_path / "a")]) == 0
    assert not (tmp_path / "a").exists()
    assert main(["delete", str(tmp_path / "notes.txt")]) == 1
    assert main(["delete", str(tmp_path / "none")]) == 1
    assert "is not a recording; it was not removed" in capsys.readouterr().err
    writer = recorder(tmp_path / "b", CONFIG)
    writer.delete()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_show_prints_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    assert main(["show", str(tmp_path / "a")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("created")
    assert lines[-1].startswith("9 records")
    assert "cut off" in lines[-1]
    assert main(["show", "--json", str(tmp_path / "a")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_a_profile_comes_back_without_paths_of_ours_and_without_passwords() -> None:
    profile = get_profile("nano").override(n=8, engine_url="http://me:secret@host:1/v1", engine="openai")
    header = describe(CONFIG, "nano", profile)
    assert header["profile"] == {"name": "nano", "n": 8, "engine": "openai", "engine_url": "http://host:1/v1"}
    assert recorded_profile(header, m=3) == profile.override(engine_url="http://host:1/v1", m=3)
    with pytest.raises(RecordingError, match="which model"):
        recorded_profile(describe(CONFIG))


async def test_what_was_cut_off_within_a_decision_runs_again_up_to_there(tmp_path: Path) -> None:
    script = {0: ["One. ", "Two."], 1: ["Three."]}
    session = recorded(tmp_path / "a", Actor(script), Journal())
    async with session:
        for tick in range(9):
            session.feed(tick / 2, picture(tick))
            await idle(session)
    content = (tmp_path / "a").read_bytes()
    seen = set()
    for size in range(content.index(b"PNG") - 200, len(content), 97):
        (tmp_path / "b").write_bytes(content[:size])
        report = await again(tmp_path / "b", script)
        assert report.same, report.lines()
        seen.add(len(report.outcomes))
    assert len(seen) > 2
