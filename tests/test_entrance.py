"""Who gets in: flags, certificate, password on every route, ICE servers that stay secret."""

from __future__ import annotations

import base64
import datetime
import json
import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from aura_core.options import build_parser
from aura_core.sources.ice import parse_ice
from aura_core.ui import entrance as entrance_module
from aura_core.ui import guard
from aura_core.ui.entrance import Credentials, Entrance
from aura_core.ui.page import build_app
from aura_core.ui.visit import Assistant
from tests.browser import ScriptedEngine

RIGHT = ("ada", "correct horse: battery")
CREDENTIALS = Credentials(*RIGHT)


def entrance_of(*flags: str) -> Entrance:
    return entrance_module.from_flags(build_parser().parse_args(flags))


@pytest.fixture(scope="module")
def guarded() -> FastAPI:
    return build_app(Assistant(ScriptedEngine()), {"profile": "nano"}, Entrance(credentials=CREDENTIALS))


@pytest.fixture
def client(guarded: FastAPI) -> TestClient:
    for layer in _layers(guarded):
        if isinstance(layer, guard.Guard):  # wrong passwords of the test before
            layer._wrong.clear()
            layer._wrong_together.clear()
    return TestClient(guarded, follow_redirects=False)


def _layers(app: FastAPI) -> Iterator[Any]:
    layer: Any = app.middleware_stack
    while layer is not None:
        yield layer
        layer = getattr(layer, "app", None)


def every_route(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of all, those of mounted applications included; "WS" for a WebSocket."""
    for route in routes:
        if isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/anything"
            yield from every_route(list(route.routes or []), prefix + route.path)
            continue
        if (included := getattr(route, "original_router", None)) is not None:  # FastAPI's, of what was included whole
            yield from every_route(included.routes, prefix)
            continue
        path = prefix + re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        if isinstance(route, WebSocketRoute):
            yield "WS", path
        elif isinstance(route, Route) or hasattr(route, "methods"):
            for method in getattr(route, "methods", None) or {"GET"}:
                yield method, path


def test_every_route_asks_for_the_password(guarded: FastAPI, client: TestClient) -> None:
    routes = sorted(set(every_route(guarded.routes)))
    paths = {path for _, path in routes}
    assert {"/", "/webrtc/offer", "/aura/place", "/aura/socket", "/aura/upload", "/config", "/aura/config"} <= paths
    assert "/gradio_api/upload" in paths
    assert len(routes) > 50
    for method, path in routes:
        if method == "WS":
            with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(path):
                pass
            assert refused.value.code == 4401, path
        else:
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert "Basic" in answer.headers["www-authenticate"]
    assert client.get("/no/such/route").status_code == 401


def test_the_right_password_opens_everything(client: TestClient) -> None:
    answer = client.get("/aura/config", auth=RIGHT)
    assert answer.json()["profile"] == "nano"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert client.get("/aura/status").status_code == 200  # by the cookie
    with client.websocket_connect("/aura/socket") as socket:
        socket.send_json({"token": "nobody"})
        assert socket.receive_json() == {"type": "refused"}
    client.cookies.set("aura-auth", "forged")
    assert client.get("/aura/status").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Bearer x",
        "Basic " + base64.b64encode(b"ada").decode(),
        "Basic " + base64.b64encode(b"ada:wrong").decode(),
        "Basic " + base64.b64encode("ada:\u20ac".encode()).decode(),
    ],
)
def test_a_wrong_password_does_not(client: TestClient, header: str) -> None:
    answer = client.get("/", headers={"authorization": header})
    assert (answer.status_code, answer.text) == (401, "That was wrong.")


def test_guessing_is_slow(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(guard.MAX_WRONG):
        assert client.get("/", auth=("ada", "guess")).status_code == 401
    answer = client.get("/aura/status", auth=RIGHT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert client.get("/").status_code == 401  # the browser's first request is no guess
    monkeypatch.setattr(guard, "WINDOW", 0.0)
    assert client.get("/aura/status", auth=RIGHT).status_code == 200


def test_where_the_password_may_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert entrance_of().credentials is None
    assert entrance_of("--auth", "ada:a:b").credentials == Credentials("ada", "a:b")
    file = tmp_path / "auth"
    file.write_text("ada:from a file\n", encoding="utf-8")
    assert entrance_of("--auth-file", str(file)).credentials == Credentials("ada", "from a file")
    monkeypatch.setenv("AURA_AUTH", "ada:from the environment")
    assert entrance_of().credentials == Credentials("ada", "from the environment")
    assert "environment" not in repr(entrance_of())
    for flags in (("--auth", "ada"), ("--auth", ":x"), ("--auth-file", str(tmp_path / "none"))):
        with pytest.raises(ValueError, match=r"USER:PASSWORD|cannot be read"):
            entrance_of(*flags)


def test_a_page_for_all_without_a_password_is_warned_of() -> None:
    assert entrance_of().is_private
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert Entrance(host=host).warnings() == []
    assert "--auth" in Entrance(host="0.0.0.0").warnings()[0]
    assert "unencrypted" in Entrance(host="0.0.0.0", credentials=CREDENTIALS).warnings()[0]


def test_a_certificate_is_looked_at_first(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    assert Entrance(host="0.0.0.0", certificate=certificate, key=key, credentials=CREDENTIALS).warnings() == []
    for bad in ({"key": key}, {"certificate": tmp_path / "none"}, {"certificate": certificate}, {"certificate": key}):
        with pytest.raises(ValueError, match=r"--ssl-certfile|there is no file|are no certificate"):
            Entrance(**bad)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(secret.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(built.sign(secret, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key


SECRET = "s3cr3t"
TURN = {"urls": "turn:turn.example:3478", "username": "u", "credential": SECRET}
STUN = {"urls": ["stun:stun.example"]}


async def test_ice_servers_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ice.json"
    for content, count in (([TURN, STUN], 2), ({"iceServers": [TURN]}, 1), ({"iceServers": TURN}, 1)):
        file.write_text(json.dumps(content), encoding="utf-8")
        ice = parse_ice(str(file))
        servers = await ice.servers()
        assert len(servers) == count
        assert servers[0]["credential"] == SECRET
        assert SECRET not in repr(ice)
    assert await parse_ice(None).servers() == []
    assert await parse_ice("stun:stun.example:3478").servers() == [{"urls": ["stun:stun.example:3478"]}]


@pytest.mark.parametrize(
    "content",
    ["{", "7", '["x"]', '[{"urls": 7}]', '[{"urls": "http://x"}]', f'[{{"urls": "s", "credential": "{SECRET}"}}]'],
)
def test_bad_ice_servers_are_one_line_without_secrets(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ice.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(str(file))) as error:
        parse_ice(str(file))
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


def test_ice_servers_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "CLOUDFLARE_TURN_KEY_ID", "CLOUDFLARE_TURN_KEY_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for text, why in (
        ("huggingface", "HF_TOKEN"),
        ("cloudflare", "CLOUDFLARE_TURN_KEY_API_TOKEN"),
        ("turn:turn.example", "file"),
        ("http://elsewhere.example/ice", "https"),
        (str(tmp_path / "none"), "cannot be read"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_ice(text)


async def test_fetched_ice_servers_are_kept_and_failures_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answers = [json.dumps({"iceServers": TURN}).encode()]
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if answers else 500)
            self.end_headers()
            self.wfile.write(answers.pop() if answers else SECRET.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Not on the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        ice = parse_ice(f"http://127.0.0.1:{server.server_port}/ice?key={SECRET}")
        with caplog.at_level(logging.DEBUG, "aura_core"):
            assert (await ice.servers())[0]["credential"] == SECRET
            assert (await ice.servers())[0]["credential"] == SECRET
            assert len(asked) == 1
            ice._until = 0.0
            assert (await ice.servers())[0]["credential"] == SECRET  # the last known
        assert "could not be fetched" in caplog.text
        assert SECRET not in caplog.text
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
