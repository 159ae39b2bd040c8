"""What an operator sees: numbers, log lines and spans, and never a word that was said."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aura_core.engines.base import StepStats
from aura_core.events import Delta, Error, Question, Reply, RequestAdded, RequestEnded, RequestFired, Silent, Skipped
from aura_core.logs import JsonFormatter, log_event
from aura_core.metrics import Metrics
from aura_core.spans import ChunkSpans
from aura_core.ui.visit import Assistant, Visit
from tests.command_line import COMMAND, ROOT, TIMEOUT, environment
from tests.fake_vllm import FakeVllm
from tests.outlet import FakeOutlet
from tests.recorded import Actor, picture
from tests.video_files import gray, write_video

SECRET = "my secret"
EVENTS = [
    Question(0.5, SECRET, "q1"),
    RequestAdded(0.5, "q1", SECRET, True),
    Delta(1.0, 0, SECRET),
    Reply(1.0, SECRET, "q1", "ack", 0, ttft_ms=20.0, step_ms=60.0),
    Silent(2.0, 1, step_ms=15.0),
    Skipped(3.0, 2),
    Reply(4.0, SECRET, "q1", "alert", 3, ttft_ms=20.0, step_ms=11_000.0, interrupted=True),
    RequestFired(4.0, "q1", 1),
    RequestEnded(5.0, "q1", "stopped"),
    Error(6.0, SECRET),
]


def samples(text: str) -> dict[str, float]:
    """The numbers of a page in Prometheus' format, read strictly."""
    found, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            name, value = line.rsplit(" ", 1)
            assert name not in found
            found[name] = float(value)
            base = name.partition("{")[0]
            assert types.get(base) or types.get(base.rsplit("_", 1)[0]) == "histogram", line
    assert text.endswith("\n")
    return found


def test_events_become_numbers() -> None:
    metrics = Metrics()
    for event in EVENTS:
        metrics(event)
    text = metrics.text()
    assert SECRET not in text
    found = samples(text)
    for outcome in ("silent", "ack", "alert", "skipped"):
        assert found[f'aura_chunks_total{{outcome="{outcome}"}}'] == 1
    assert found['aura_requests_total{what="stopped"}'] == 1
    assert (found["aura_questions_total"], found["aura_errors_total"], found["aura_interruptions_total"]) == (1, 1, 1)
    assert (found["aura_step_seconds_count"], found["aura_step_seconds_sum"]) == (3, pytest.approx(11.075))
    assert found['aura_step_seconds_bucket{le="0.02"}'] == 1
    assert found['aura_step_seconds_bucket{le="10.0"}'] == 2
    assert found['aura_step_seconds_bucket{le="+Inf"}'] == 3
    assert found["aura_resident_memory_bytes"] > 0
    assert samples(Metrics().text())["aura_questions_total"] == 0


def test_the_page_serves_them_only_when_asked() -> None:
    pytest.importorskip("fastrtc", reason="the page needs fastrtc")
    from fastapi.testclient import TestClient

    from aura_core.ui.page import build_app

    metrics = Metrics()
    with TestClient(build_app(Assistant(Actor({}), listeners=[metrics]), {})) as client:
        metrics(EVENTS[0])
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = samples(answer.text)
        assert (found["aura_questions_total"], found["aura_connections"]) == (1, 0)
    with TestClient(build_app(Assistant(Actor({})), {})) as client:
        assert "aura_" not in client.get("/metrics").text


def test_a_log_line_is_json_and_tells_no_words(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aura.events"):
        for event in EVENTS:
            log_event(event)
        logging.getLogger("aura.events").warning("two\nlines")
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert all("\n" not in line and SECRET not in line for line in lines)
    entries = [json.loads(line) for line in lines]
    assert [entry["message"] for entry in entries[:-1]] == [event.type for event in EVENTS if event.type != "delta"]
    assert (entries[0]["letters"], entries[0]["request"], entries[0]["level"]) == (len(SECRET), "q1", "info")
    assert entries[-1]["message"] == "two\nlines"


class Span:
    def __init__(self, name: str, start_time: int, attributes: dict[str, Any]) -> None:
        self.name, self.start, self.attributes, self.ended = name, start_time, attributes, -1
        self.events: list[tuple[str, int]] = []

    def add_event(self, name: str, timestamp: int) -> None:
        self.events.append((name, timestamp))

    def end(self, end_time: int) -> None:
        assert self.ended < 0
        self.ended = end_time


class Tracer(list[Span]):
    def start_span(self, name: str, start_time: int, attributes: dict[str, Any]) -> Span:
        self.append(Span(name, start_time, attributes))
        return self[-1]


STATS = StepStats(queue_ms=5.0, vision_ms=5.0, prefill_ms=10.0, ttft_ms=20.0)


def test_a_chunk_on_its_whole_way() -> None:
    tracer, now = Tracer(), 10_000_000_000
    spans = ChunkSpans(tracer, lambda: now)
    spans(Delta(1.0, 0, SECRET), 0.3, None)
    spans.sound()
    now += 40_000_000
    spans(Reply(1.0, SECRET, "q1", "answer", 0, step_ms=100.0), 0.5, STATS)
    (span,) = tracer
    assert [name for name, _ in span.events] == ["captured", "queued", "prefilled", "first token", "first audio"]
    assert [round((now - at) / 1e6) for _, at in span.events] == [500, 100, 80, 80, 40]
    assert (span.start, span.ended) == (now - 500_000_000, now)
    assert SECRET not in str(vars(span))
    spans.sound()  # its second sentence
    spans(Silent(2.0, 1, step_ms=15.0), 0.02, STATS)
    assert [name for name, _ in tracer[1].events] == ["captured", "queued", "prefilled", "first token"]


@pytest.mark.parametrize("spoken", [True, False])
def test_a_reply_waits_for_its_sound_until_the_next_decision(spoken: bool) -> None:
    tracer, now = Tracer(), 10_000_000_000
    spans = ChunkSpans(tracer, lambda: now)
    spans(Delta(1.0, 0, SECRET), 0.3, None)
    spans(Reply(1.0, SECRET, "q1", "answer", 0, step_ms=100.0), 0.5, STATS)
    assert tracer[0].ended == -1
    ended = now
    now += 200_000_000
    if spoken:
        spans.sound()
        ended = now
    spans(Silent(2.0, 1), 0.0, None)
    assert tracer[0].ended == ended
    assert (tracer[0].events[-1][0] == "first audio") == spoken
    assert all(span.ended > 0 for span in tracer)


async def test_a_visit_tells_all_of_them() -> None:
    tracer, metrics, now = Tracer(), Metrics(), 0.0
    visit = Visit(Assistant(Actor({1: ["A cup."]}), listeners=[metrics], tracer=tracer), FakeOutlet(), lambda: now)
    await visit.message({"type": "watch", "demo": None})
    for tick in range(8):
        now += 0.5
        visit.picture(now, picture(tick))
        await visit.idle()
    await visit.close()
    assert len(tracer) == samples(metrics.text())["aura_step_seconds_count"] > 2
    assert [span.attributes["aura.outcome"] for span in tracer][:3] == ["silent", "alert", "silent"]
    assert all(span.ended >= span.start for span in tracer)


def test_the_flags(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", map(gray, range(20)))
    with FakeVllm() as server:
        done = subprocess.run(
            [*COMMAND, "--replay", video, "--headless", "--json", "--log-json", "--engine-url", server.url],
            capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=True,
        )  # fmt: skip
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    assert [entry["message"] for entry in logged if entry["logger"] == "aura.events"][-1] == "end"
    for flag in ("--metrics", "--traces"):
        wrong = subprocess.run(
            [sys.executable, "app.py", "--replay", video, "--headless", flag],
            capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, check=False,
        )  # fmt: skip
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
