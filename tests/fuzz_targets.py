"""What reads bytes from outside: each target takes any bytes and raises only where the program is at fault.

Shared by the tests with Hypothesis (`test_fuzz`), which draw what is near to right, and by the fuzzer that is led by
coverage (`python -m tests.fuzz`). A clear error is one line that a user can be told; everything else is a finding.
Targets import what they need when they first run, so that a fuzzer can watch it; see also `fuzz_network`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Between two parts of an input: pictures and videos hardly ever hold it.
BREAK = b"\n\xff\xfe\n"
#: Deeper than Python's parser goes, in fewer bytes than any limit on them.
DEEP = "[" * 4000


@dataclass(frozen=True)
class Target:
    """`seeds` are real examples, made on the spot, from which a fuzzer sets out."""

    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]


def one_line(error: object) -> None:
    """What a user can be told."""
    assert str(error)
    assert "\n" not in str(error)


@contextlib.contextmanager
def clear(*kinds: type[Exception]) -> Iterator[None]:
    """What may go wrong here, and how it must be told."""
    try:
        yield
    except kinds as error:
        one_line(error)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="aura-fuzz-")


def scratch(name: str, content: bytes) -> Path:
    """A file of that name and content, the same one every time."""
    path = Path(_folder().name) / name
    path.write_bytes(content)
    return path


def lines(*values: Any) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


# Scripts and flags


def script(data: bytes) -> None:
    """`--script`."""
    from aura_core.sources import ReplayError
    from aura_core.sources.script import load_script

    with clear(ReplayError):
        asks = load_script(scratch("script", data))
        assert all(ask.t >= 0 and ask.text.strip() for ask in asks)


def address(data: bytes) -> None:
    """`--camera`, `--ask`, `--ice-servers`."""
    from aura_core.sources.address import Address
    from aura_core.sources.ice import parse_ice
    from aura_core.sources.script import parse_ask

    text = data.decode(errors="replace")
    with clear(ValueError):
        assert "@" not in str(Address.parse(text)).split("/")[2]
    with clear(ValueError):
        assert parse_ask(text).text
    with clear(ValueError):
        parse_ice(str(scratch("ice.json", data)))


# Recordings


def packed(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A file of these headers and payloads, its sizes and checksums right: whoever makes one on purpose makes these."""
    from aura_core.recording.format import FIRST_CHECKSUM, MAGIC

    made, checksum = [MAGIC], FIRST_CHECKSUM
    for header, payload in records:
        sizes = struct.pack("<II", len(header), len(payload))
        checksum = zlib.crc32(payload, zlib.crc32(header, zlib.crc32(sizes, checksum)))
        made += [sizes, struct.pack("<I", checksum), header, payload]
    return b"".join(made)


def _unpacked(data: bytes) -> bytes:
    """The file that stands for `data`: parts, each a header, a zero byte and a payload."""
    parts = (part.partition(b"\0") for part in data.split(BREAK))
    return packed((header, payload) for header, _, payload in parts)


def recording(data: bytes) -> None:
    """Looked at, and its settings and pictures read."""
    from aura_core.recording import RecordingError
    from aura_core.recording.__main__ import main
    from aura_core.recording.format import Reader, unpack_frames
    from aura_core.recording.header import recorded_config, recorded_profile
    from aura_core.recording.replay import read_header

    path = scratch("x.aurarec", _unpacked(data))
    with clear(RecordingError):
        header = read_header(path)
        with clear(RecordingError):
            recorded_config(header)
        recorded_profile(header)
    with clear(RecordingError):
        reader = Reader(path)
        for record in reader:
            assert isinstance(record.type, str)
            with clear(RecordingError):
                if record.type == "chunk":
                    unpack_frames(record.payload, bool(record.data.get("repeated")))
        assert reader.damage is None or "\n" not in reader.damage
    for flags in ((), ("--json",)):
        said, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            code = main(["show", str(path), *flags])
        assert (code, len(complaint.getvalue().splitlines())) in ((0, 0), (1, 1))
        assert not any(ord(letter) < 32 and letter != "\n" for letter in said.getvalue()), "a command to a terminal"


def replayed(data: bytes) -> None:
    """Run again: it is not waited for long for what a made-up record promises."""
    import asyncio
    from unittest.mock import patch

    from aura_core.recording import RecordingError
    from aura_core.recording.replay import replay
    from aura_core.recording.report import Report
    from tests.recorded import Actor

    path = scratch("again.aurarec", _unpacked(data))

    async def patient() -> Report:
        async with asyncio.timeout(20):  # it waits for ever
            return await replay(path, Actor({0: ["A ", "cup."]}))

    with clear(RecordingError), patch("aura_core.recording.replay.PATIENCE", 0.05):
        assert asyncio.run(patient()).lines()


def _recordings() -> list[bytes]:
    import asyncio

    from aura_core.recording.format import Reader
    from aura_core.session import SessionConfig
    from tests.test_recording import write
    from tests.test_recording_replay import live

    path = Path(_folder().name) / "seed.aurarec"
    course = [("feed", 0.5), ("feed", 0.5), ("idle",), ("ask", "What is it?", True), ("feed", 0.5), ("interrupt", "A")]
    course += [("feed", 0.5), ("stop", 1), ("idle",)]
    seeds = []
    for make in (
        lambda: write(path, 1),
        lambda: asyncio.run(live(path, {0: ["A ", "cup."]}, SessionConfig(), course, True, False)),
    ):
        path.unlink(missing_ok=True)
        make()
        parts = (json.dumps(record.data).encode() + b"\0" + record.payload for record in Reader(path))
        seeds.append(BREAK.join(parts))
    return seeds


# What survives a restart


def state(data: bytes) -> None:
    """A session's state, its checksum right if it is JSON at all."""
    from aura_core.state import SessionState, StateError

    with contextlib.suppress(ValueError, RecursionError):
        outer = json.loads(data)
        if isinstance(outer, dict) and "state" in outer:
            content = json.dumps(outer["state"], sort_keys=True).encode()
            data = json.dumps(outer | {"sha256": hashlib.sha256(content).hexdigest()}).encode()
    with clear(StateError):
        SessionState.from_bytes(data).requests_at_zero()


def _states() -> list[bytes]:
    from aura_core.requests import StandingRequest
    from aura_core.state import Asked, Remembered, SessionState

    groups = (Remembered("What is it?", "q0", ("A cup.",)),)
    requests, waiting = (StandingRequest("q1", "Tell me when it rains.", 3.0, True),), (Asked("q2", "And now?"),)
    return [SessionState(4.0, 2, groups, requests, waiting).to_bytes()]


# Benchmarks: annotations, predictions, journals


def annotations(data: bytes) -> None:
    """A file that is said to be of each benchmark; what it holds is played and scored."""
    from evals.benchmark import NAMES, AnnotationError, load

    path = scratch("annotations.json", data)
    for name in NAMES:
        with clear(AnnotationError):
            benchmark = load(name, [path])
            for item in benchmark.items:
                item.schedule(60.0)
            benchmark.score({})


def predictions(data: bytes) -> None:
    """A file that is said to hold replies, verdicts, or a run to go on with."""
    from evals.predictions import JournalError, read_lines
    from evals.published import read
    from evals.replies import PredictionError, read_verdicts

    path = scratch("predictions.jsonl", data)
    for benchmark in _benchmarks():
        with clear(PredictionError):
            found = read(benchmark, [path], None)
            result = benchmark.score(found.records, found.verdicts)
            json.dumps((result.as_json(), found.notes))
    with clear(PredictionError):
        read_verdicts(path)
    with clear(JournalError):
        read_lines(path)


@cache
def _benchmarks() -> list[Any]:
    from evals.benchmark import load

    folder = Path(_folder().name) / "benchmarks"
    folder.mkdir()
    for number, content in enumerate(_annotations()):
        (folder / f"{number}.json").write_bytes(content)
    return [load(name, [folder]) for name in ("streamingbench", "ovobench", "omnimmi")]


def _annotations() -> list[bytes]:
    from tests.annotations import OMNIMMI, OVOBENCH, STREAMINGBENCH

    return [json.dumps(value).encode() for value in (*STREAMINGBENCH.values(), OVOBENCH, *OMNIMMI.values())]


def _predictions() -> list[bytes]:
    items = [item.id for benchmark in _benchmarks() for item in benchmark.items][::2]
    rows = [{"id": id, "replies": [{"t": 5.0, "text": "A"}]} for id in items]
    verdicts = [{"key": f"{id}/1", "pred": "yes", "score": 5} for id in items]
    return [lines({"benchmark": "x", "protocol": "y"}, *rows), lines(*verdicts), b"{'video': 'a.mp4', 'pred': 'no'}\n"]


# Data sets


def data_set(data: bytes) -> None:
    """Somebody's data set: validated, and read by whoever needs its samples, questions and videos."""
    from aura_core.samples import Sample
    from data_pipeline.findings import NAMES
    from data_pipeline.folder import FolderError, records, videos
    from data_pipeline.records import QA, Rejected
    from data_pipeline.validate import Validator

    folder = Path(_folder().name) / "set"
    folder.mkdir(exist_ok=True)
    parquet = data.startswith(b"PAR1")
    path = folder / ("samples.parquet" if parquet else "samples.jsonl")
    path.write_bytes(data)
    for finding in Validator(folder, videos=False).check([path]):
        assert finding.name in NAMES
        assert str(finding).isprintable(), "a command to a terminal"
    if parquet:
        return
    for kind, record in (("samples", Sample), ("qas", QA), ("rejected", Rejected)):
        (folder / f"{kind}.jsonl").write_bytes(data)
        with clear(FolderError):
            list(records(folder, kind, record))  # type: ignore[arg-type]
    for kind in ("videos", "index"):
        (folder / f"{kind}.jsonl").write_bytes(data)
        with clear(FolderError):
            list(videos(folder))


def _data_sets() -> list[bytes]:
    from aura_core.samples import SampleVideo
    from data_pipeline.records import QA, Answer, Rejected, Video
    from tests.sample_sets import offline, sample

    digest = "0123456789abcdef" * 4
    of = SampleVideo(digest[:16], "videos/a.mp4", digest, 2, 60.0)
    qa = QA("v/1/1", of.id, "multi", "object", 2, 3.0, "Is it red?", (Answer(4.0, "Yes."),))
    video = Video(of.id, digest, of.path, 60.0, 120, "other", "a file")
    return [
        lines(sample(of, 0, 5).to_json(), sample(of, 15, 31, 1, 3).to_json()),
        lines(offline(of, [1.0, 5.0], 0).to_json()),
        lines(qa.to_json(), Rejected("v/1/1", of.id, "refinement", "wrong", "it is blue").to_json()),
        lines(video.to_json(), {"video": video.to_json()}),
    ]


def _scripts() -> list[bytes]:
    return [b"# a comment\n3: What is it?\n4.5 standing: Tell me!\n", lines([{"t": 1, "text": "x", "standing": True}])]


def _addresses() -> list[bytes]:
    ice = {"iceServers": [{"urls": ["turn:a:1", "stun:b"], "username": "u", "credential": "c"}]}
    return [b"rtsp://user:word@192.168.1.20:554/stream?x=1", b"3.5 standing: What?", lines(ice), b"http://[::1]/a"]


TARGETS: dict[str, Target] = {
    "script": Target(script, _scripts),
    "address": Target(address, _addresses),
    "recording": Target(recording, _recordings),
    "replay": Target(replayed, _recordings),
    "state": Target(state, _states),
    "annotations": Target(annotations, _annotations),
    "predictions": Target(predictions, _predictions),
    "data-set": Target(data_set, _data_sets),
}
