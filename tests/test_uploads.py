"""Videos that visitors bring, and the WebSocket that carries a visit where WebRTC cannot."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from fastapi.testclient import TestClient
from PIL import Image
from starlette.testclient import WebSocketTestSession

from aura_core.sources import socket as socket_module
from aura_core.ui.entrance import Entrance
from aura_core.ui.page import build_app
from aura_core.ui.visit import Assistant
from tests.browser import ANSWER, ScriptedEngine, write_clip
from tests.video_files import write_long

FOREIGN = {"origin": "https://elsewhere.example"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = build_app(Assistant(ScriptedEngine()), {}, Entrance(max_sessions=20, max_upload=1 << 20))
    with TestClient(app) as running:
        yield running


def received(socket: WebSocketTestSession) -> dict[str, Any]:
    """The next message, but for those about sound."""
    while (message := socket.receive_json())["type"] in ("drop", "playing"):
        pass
    return message


def let_in(client: TestClient) -> str:
    answer = client.post("/aura/place", json={}).json()
    assert answer["state"] == "in"
    return answer["token"]


def upload(client: TestClient, token: str, content: bytes) -> tuple[int, dict]:
    answer = client.post("/aura/upload", content=content, headers={"x-aura-token": token})
    return answer.status_code, answer.json()


def test_ones_own_video_is_shown_to_oneself_and_deleted(client: TestClient, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", seconds=1)
    content = (tmp_path / "clip.mp4").read_bytes()
    token = let_in(client)
    status, demo = upload(client, token, content)
    assert status == 200
    assert client.get(demo["url"]).content == content
    status, second = upload(client, token, content)
    assert client.get(demo["url"]).status_code == 404  # one for each
    with client.websocket_connect("/aura/socket") as socket:
        socket.send_json({"token": token})
        assert received(socket) == {"type": "ready"}
        socket.send_json({"type": "watch", "demo": demo["name"]})
        assert received(socket) == {"type": "error", "text": "There is no such recording."}
        socket.send_json({"type": "watch", "demo": second["name"]})
        assert received(socket)["type"] == "started"
    assert client.post("/aura/leave", content=token).json() == {"known": True}
    assert client.get(second["url"]).status_code == 404


def test_what_is_refused(client: TestClient, tmp_path: Path) -> None:
    write_long(tmp_path / "long.mp4", hours=5)
    write_clip(tmp_path / "cut.mp4", seconds=2)
    cut = (tmp_path / "cut.mp4").read_bytes()
    token = let_in(client)
    assert upload(client, "nobody", cut)[0] == 403
    assert client.post("/aura/upload", headers=FOREIGN).status_code == 403
    for content, status, line in (
        (b"", 400, "The file is empty."),
        (b"#EXTM3U\nfile:///etc/passwd\n", 415, "This is no video that can be taken"),
        (b"\0\0\0\x20ftypisom" + bytes(1000), 415, "The file is"),
        (cut[: len(cut) // 3], 415, "The file is damaged"),
        (cut[:12] + bytes(1 << 20), 413, "at most 1 MB are taken"),
        ((tmp_path / "long.mp4").read_bytes(), 413, "The video lasts 5 h 0 min; at most 60 minutes are taken."),
    ):
        answer = upload(client, token, content)
        assert answer[0] == status, answer
        assert line in answer[1]["detail"]

    undeclared = iter([cut[:12], *[bytes(1 << 18)] * 5])  # httpx declares no length for these
    answer = client.post("/aura/upload", content=undeclared, headers={"x-aura-token": token})
    assert answer.status_code == 413


def test_a_visit_over_a_socket(client: TestClient) -> None:
    token = let_in(client)
    with client.websocket_connect("/aura/socket", headers={"cookie": ""}) as socket:
        socket.send_json({"type": "hello", "token": token, "rate": 48_000})
        assert received(socket) == {"type": "ready"}
        socket.send_text("[1]")
        assert "no message" in received(socket)["text"]
        socket.send_json({"type": "watch", "demo": None})
        assert received(socket)["type"] == "started"
        socket.send_bytes(b"\x01" + jpeg(64, 48))
        socket.send_bytes(b"\x02" + bytes(3841))  # 40 ms, and half a sample too many
        socket.send_bytes(b"\x07nonsense")
        socket.send_json({"type": "ask", "text": "What do you see?", "id": "1"})
        sent = [received(socket)]
        while sent[-1]["type"] != "reply":
            sent.append(received(socket))
        assert sent[-1]["text"] == ANSWER
        assert {"type": "taken", "id": "1"} in sent
    with client.websocket_connect("/aura/socket") as socket:  # the same visit goes on
        socket.send_json({"token": token})
        received(socket)
        socket.send_json({"type": "resume", "seen": 0})
        assert [received(socket)["type"] for _ in range(3)] == ["resumed", "question", "reply"]


@pytest.mark.parametrize("hello", ["[]", "{", json.dumps({"token": "nobody"}), json.dumps({"token": 7})])
def test_strangers_get_no_socket(client: TestClient, hello: str) -> None:
    with client.websocket_connect("/aura/socket") as socket:
        socket.send_text(hello)
        assert socket.receive()["type"] in ("websocket.close", "websocket.send")


def test_only_pictures_of_moderate_size_are_decoded() -> None:
    assert socket_module._decode(jpeg(64, 48)).shape == (48, 64, 3)
    with pytest.raises(ValueError, match="too large"):
        socket_module._decode(jpeg(4000, 10))
    with pytest.raises(OSError, match="cannot identify"):
        socket_module._decode(b"GIF89a" + bytes(100))


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "JPEG")
    return out.getvalue()
