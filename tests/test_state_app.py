"""The program is killed and started again; what it was asked to watch for is still obeyed."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aura_core.prompt import SILENT
from aura_core.state_folder import SUFFIX, StateFolder
from aura_core.ui.visit import Assistant, Visit
from tests.command_line import TIMEOUT, app, events, start, wait_for
from tests.fake_vllm import FakeVllm
from tests.outlet import FakeOutlet
from tests.recorded import Actor, picture
from tests.video_files import gray, write_video

STANDING = "Tell me every time it rains."


def said(body: dict[str, Any]) -> list[str]:
    """The texts of a request's messages."""
    parts = [m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}] for m in body["messages"]]
    return [item["text"] for content in parts for item in content if item.get("text")]


def weather(uid: str, body: dict[str, Any]) -> Sequence[str]:
    """Acknowledges, and tells of rain in the fourth chunk of every stream, but only if it was asked to."""
    texts = said(body)
    if texts[-1] == STANDING:
        return ["Okay, ", "I will ", "tell you.", "<|im_end|>"]
    if texts[-1] == "What is it?":
        return ["A ", "long ", "story.", "<|im_end|>"]
    return ["It rains.", "<|im_end|>"] if uid.endswith("-3") and STANDING in texts else ["<|silent|>"]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five seconds."""
    return write_video(tmp_path / "video.mp4", map(gray, range(50)))


def test_killed_within_a_reply_it_goes_on_with_what_it_was_asked(video: Path, tmp_path: Path) -> None:
    with FakeVllm(weather) as server:
        kept = ("--engine-url", server.url, "--state-dir", tmp_path / "kept")
        command = ("--replay", video, "--headless", "--json", *kept)
        file = tmp_path / "kept" / f"headless{SUFFIX}"
        first = app(*command, "--ask", f"1.2:{STANDING}")
        assert (first.returncode, first.stderr) == (0, "")
        assert [line["kind"] for line in events(first.stdout) if line["type"] == "reply"] == ["ack", "alert"]

        server.step = threading.Semaphore(0)  # a reply stays at its first word
        count = len(server.bodies)
        with start(*command, "--ask", "1.2:What is it?") as process:
            server.wait(lambda: any(said(body)[-1] == "What is it?" for body in server.bodies[count:]))
            wait_for(lambda: "What is it?" in file.read_text())
            process.kill()
            assert process.wait(TIMEOUT) < 0

        server.step = None
        second = app(*command)
        assert (second.returncode, second.stderr) == (0, "")
        lines = events(second.stdout)
        assert [(line["t"], line["type"], line["text"], line["request"]) for line in lines if line["text"]] == [
            (0.0, "question", "What is it?", "q2"),
            (0.0, "reply", "A long story.", "q2"),
            (3.0, "reply", "It rains.", "q1"),
        ]
        assert [text for text in said(server.bodies[-1])[1:] if text != SILENT] == [
            STANDING, "Okay, I will tell you.", "It rains.", "What is it?", "A long story.", "It rains.",
        ]  # fmt: skip
        left = json.loads(file.read_text())["state"]
        assert [(request["text"], request["count"]) for request in left["requests"]] == [(STANDING, 2)]


def test_a_damaged_file_is_one_line_and_a_fresh_session(video: Path, tmp_path: Path) -> None:
    (tmp_path / f"headless{SUFFIX}").write_text('{"version": 1, "sha256": "0", "state": {}}')
    with FakeVllm(weather) as server:
        done = app("--replay", video, "--headless", "--json", "--engine-url", server.url, "--state-dir", tmp_path)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "its checksum is wrong" in done.stderr
    assert events(done.stdout)[-1]["type"] == "end"
    assert (tmp_path / f"headless{SUFFIX}.1.damaged").exists()


def test_a_folder_that_is_none_is_one_line(video: Path) -> None:
    done = app("--replay", video, "--headless", "--state-dir", video)
    assert done.returncode == 1
    assert done.stderr == f"app.py: {video}: File exists\n"


async def visit(states: StateFolder, *messages: dict[str, Any]) -> list[str]:
    """What a page is told that sends these messages and leaves; types, and the texts of requests."""
    page = FakeOutlet()
    visit = Visit(Assistant(Actor({}), states=states), page)
    for message in messages:
        await visit.message(message)
        visit.picture(0.0, picture(1))
    await visit.close()
    return [m["text"] if m["type"] in ("request_added", "error") else m["type"] for m in page.sent]


async def test_a_page_goes_on_under_its_name_until_it_starts_over(tmp_path: Path) -> None:
    begin = {"type": "watch", "demo": None, "session": "tab-1"}
    ask = {"type": "ask", "text": STANDING, "standing": True}
    assert "restored" not in await visit(StateFolder(tmp_path), begin, ask)
    again = await visit(StateFolder(tmp_path), begin)
    assert again[:4] == ["started", "restored", "state", STANDING]
    other = await visit(StateFolder(tmp_path), begin | {"session": "tab-2"})
    assert STANDING not in other
    nameless = await visit(StateFolder(tmp_path), {"type": "watch", "demo": None})
    assert STANDING not in nameless
    cleared = await visit(StateFolder(tmp_path), begin, {"type": "clear"})
    assert cleared.count(STANDING) == 1
    assert STANDING not in await visit(StateFolder(tmp_path), begin)


async def test_a_page_is_told_what_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / f"tab{SUFFIX}").write_text("{}")
    begin = {"type": "watch", "demo": None, "session": "tab"}
    assert "What was kept of this session is damaged; it begins anew." in await visit(StateFolder(tmp_path), begin)
    refused = await visit(StateFolder(tmp_path), begin | {"session": "../tab"})
    assert any(text.startswith("What is said now is not kept for a restart") for text in refused)
