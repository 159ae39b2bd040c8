"""What tests rely on in the fake server: a fault meets the request it is meant for, and dead is dead."""

import json
import socket
import threading
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.fake_vllm import LIMIT, FakeVllm, _Handler


def ask(server: FakeVllm, **more: object) -> int:
    """The status of the answer to a chat request."""
    body = {"messages": [], "max_completion_tokens": 5, "stream_options": {"include_usage": True}, **more}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection.getresponse().status


def test_a_fault_of_a_decision_is_not_spent_on_prewarming() -> None:
    with FakeVllm() as server:
        server.faults.append("503")
        server.prewarm_faults.append("500")
        assert [ask(server, add_generation_prompt=False) for _ in range(2)] == [500, 200]
        assert [ask(server) for _ in range(2)] == [503, 200]


def test_it_is_dead_also_for_who_has_just_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a connection's thread may begin when the server has already stopped."""
    came, begin, setup = threading.Event(), threading.Event(), _Handler.setup

    def late(self: _Handler) -> None:
        came.set()
        begin.wait(LIMIT)
        setup(self)

    monkeypatch.setattr(_Handler, "setup", late)
    with FakeVllm() as server, socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as client:
        assert came.wait(LIMIT)
        server.stop()
        try:
            assert client.recv(1) == b""
        finally:
            begin.set()
