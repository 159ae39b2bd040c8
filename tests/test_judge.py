"""The judge, against a server that is malformed, slow, broken or gone; every verdict under its own key."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evals.benchmark import Claim
from evals.judge import Judge, JudgeError, judge, verdicts
from evals.predictions import Journal


class FakeJudge:
    """A chat server whose behavior depends on words in the prediction; `seen` counts requests by prediction."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.released = threading.Event()  # what is slow waits for this
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, text = fake.answer(body)
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                data = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "j",
                                   "choices": [choice]}).encode()  # fmt: skip
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client did not wait
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=30)

    def answer(self, body: dict[str, Any]) -> tuple[int, str]:
        prediction = body["messages"][1]["content"].rsplit("Answer to grade: ", 1)[1]
        self.bodies.append(body)
        self.seen[prediction] += 1
        again = self.seen[prediction] > 1
        if "forbidden" in prediction:
            return 401, ""
        if "broken" in prediction or ("hiccup" in prediction and not again):
            return 500, ""
        if "slow" in prediction and not again:
            self.released.wait(60)
        if "gibberish" in prediction or ("malformed" in prediction and not again):
            return 200, "{'pred': 'yes', 'score': 4}"
        right = "right" in prediction
        return 200, "```json\n" + json.dumps({"pred": "yes" if right else "no", "score": 5 if right else 1}) + "\n```"


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with closing(FakeJudge()) as server:
        yield server


def claims(*predictions: str) -> list[Claim]:
    return [Claim("SG/7", turn, "What?", "That.", prediction) for turn, prediction in enumerate(predictions, 1)]


async def run(server_url: str, path: Path, asked: list[Claim]) -> tuple[dict[str, bool], dict[str, str]]:
    with closing(Journal(path, {"judge": "j"}, "key")) as journal:
        holes = await judge(asked, journal, Judge(server_url, "j", timeout=2.0, retries=1))
        return verdicts(journal.lines), holes


async def test_verdicts_and_holes_by_turn(server: FakeJudge, tmp_path: Path) -> None:
    asked = claims("right", "gibberish", "wrong", "broken", "malformed right", "hiccup right", "slow right", " ")
    found, holes = await run(server.url, tmp_path / "v.jsonl", asked)
    assert found == {"SG/7#1": True, "SG/7#3": False, "SG/7#5": True, "SG/7#6": True, "SG/7#7": True, "SG/7#8": False}
    assert holes.keys() == {"SG/7#2", "SG/7#4"}
    assert "malformed twice" in holes["SG/7#2"]
    assert server.seen["gibberish"] == 2
    assert " " not in server.seen  # silence is wrong without asking
    assert all(body["temperature"] == 0 and body["model"] == "j" for body in server.bodies)


async def test_what_was_judged_is_not_asked_again(server: FakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    await run(server.url, path, claims("right", "broken"))
    with path.open("ab") as file:
        file.write(b'{"key": "SG/7#2", "verd')  # torn by a kill
    found, holes = await run(server.url, path, claims("right", "broken", "wrong"))
    assert (found, list(holes)) == ({"SG/7#1": True, "SG/7#3": False}, ["SG/7#2"])
    assert server.seen["right"] == 1


async def test_other_replies_are_not_mixed_with_old_verdicts(server: FakeJudge, tmp_path: Path) -> None:
    await run(server.url, tmp_path / "v.jsonl", claims("right"))
    with pytest.raises(JudgeError, match="judges another reply to SG/7#1"):
        await run(server.url, tmp_path / "v.jsonl", claims("changed"))


async def test_a_judge_that_cannot_be_used_stops_the_run(server: FakeJudge, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="answers Error code: 401"):
        await run(server.url, tmp_path / "v.jsonl", claims("right", "forbidden"))
    server.close()
    with pytest.raises(JudgeError, match="there is no judge at"):
        await run(server.url, tmp_path / "w.jsonl", claims("right"))
