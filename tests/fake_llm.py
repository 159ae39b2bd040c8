"""A language model server of a few lines for the data engine: the OpenAI chat protocol on a free loopback port.

What it answers depends on the content of the request alone, and is valid in the schema that was asked for, with faults
planted in it: questions and answers that are wrong (their text says so, and its own checks find them), answers that are
not JSON or leave the schema (once, or always for the word "gibberish"), requests that it refuses ("forbidden"). What
passes happens to the first try only: 429, 500, and an answer that comes too late.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Seen:
    """A request: its schema's name, its text, the times of its pictures, and how the server took it."""

    schema: str
    text: str
    times: tuple[float, ...]
    pictures: int
    body: dict[str, Any]
    status: int


@dataclass
class Faults:
    """Which requests go wrong: those whose hash is divisible by the number (0: none)."""

    malformed: int = 0
    too_many: int = 0
    broken: int = 0
    late: int = 0
    late_seconds: float = 3.0


@dataclass
class FakeLlm:
    """`with FakeLlm() as server:` serves at `server.url`; `on_request(n)` is called with the number of each request."""

    faults: Faults = field(default_factory=Faults)
    on_request: Callable[[int], None] | None = None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> "FakeLlm":
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self._closed = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = fake.handle(body)
                data = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client was killed, or did not wait
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def count(self, schema: str) -> int:
        """How many requests with this schema were answered."""
        return sum(seen.schema == schema and seen.status == 200 for seen in self.seen)

    # --- one request --------------------------------------------------------------------------------------------------
    def handle(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and body of the answer."""
        content = body["messages"][1]["content"]
        texts = [part["text"] for part in content if part["type"] == "text"]
        pictures = [part for part in content if part["type"] == "image_url"]
        times = tuple(float(m[1]) for text in texts[:-1] if (m := re.fullmatch(r"\[([\d.]+) s\]", text)))
        format = body["response_format"]["json_schema"]
        text, name = texts[-1], format["name"]
        digest = hashlib.sha256(json.dumps([text, name, body["seed"], len(body["messages"])]).encode()).digest()
        draw = int.from_bytes(digest[:8], "big")
        with self._lock:
            self._tries[digest.hex()] += 1
            first_try = self._tries[digest.hex()] == 1
            status, headers, answer = self._answer(text, name, format["schema"], draw, first_try, body)
            self.seen.append(Seen(name, text, times, len(pictures), body, status))
            number = len(self.seen)
        if self.on_request is not None:
            self.on_request(number)
        if status == 200 and first_try and self._hit(self.faults.late, draw // 7):
            self._closed.wait(self.faults.late_seconds)
        return status, headers, answer

    @staticmethod
    def _hit(every: int, draw: int) -> bool:
        return every > 0 and draw % every == 0

    def _answer(
        self, text: str, name: str, schema: dict[str, Any], draw: int, first_try: bool, body: dict[str, Any]
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        if "forbidden" in text:
            return 400, {}, {"error": {"message": "I will not look at that", "type": "invalid_request_error"}}
        if first_try and self._hit(self.faults.too_many, draw // 3):
            return 429, {"Retry-After": "0.01"}, {"error": {"message": "slow down", "type": "rate_limit"}}
        if first_try and self._hit(self.faults.broken, draw // 5):
            return 500, {}, {"error": {"message": "out of memory", "type": "server_error"}}
        answer = json.dumps(reply(text, name, schema))
        if "gibberish" in text:
            answer = '{"reason": "gibber'
        elif len(body["messages"]) == 2 and self._hit(self.faults.malformed, draw):
            answer = "I would rather talk." if draw // 11 % 2 else '{"more": 1}'
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return 200, {}, {**completion, "choices": [choice], "usage": usage}


def bounds(schema: dict[str, Any]) -> tuple[int, int]:
    """The seconds that the schema allows."""
    found = re.search(r'"minimum": (\d+), "maximum": (\d+)', json.dumps(schema))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def reply(text: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A valid answer for the schema with this name."""
    first, last = bounds(schema)
    match name:
        case "Hello":
            return {"color": "blue"}
        case "VideoDomain":
            return {"reason": "Somebody talks to the camera.", "domain": "documentary"}
        case "Scenes":
            middle = (first + last) // 2
            halves = [(first, middle), (middle, last)]
            return {
                "scenes": [{"start": a, "end": b, "description": f"From {a} to {b} a hand moves."} for a, b in halves]
            }
        case "Candidates":
            return {"candidates": candidates(first, last)}
        case "OpenQuestions":
            asked = {"topic": "action", "asked_at": first + 1}
            questions = ("Tell me every time a hand moves.", "Tell me every time a pig flies.")
            return {"questions": [{**asked, "question": question} for question in questions]}
        case "TimedAnswers":
            answers = ((first + 2, "A hand moves."), (first + 3, "This is wrong."), (first + 5, "The hand moves back."))
            return {"answers": [{"answered_at": t, "answer": answer} for t, answer in answers]}
        case "LevelQuestions":
            questions = {1: "Who is there?", 2: "How many are there?", 4: "What was there before?", 5: "Why is that?"}
            return {"questions": [{"level": level, "question": q} for level, q in questions.items()]}
        case "FreshAnswer":
            question = quoted(text)[0]
            answer = "An invisible thing." if "before" in question else f"A person. ({question[:8]})"
            return {"evidence": "It is seen.", "answerable": NO if "Why" in question else YES, "answer": answer}
        case "Rephrased":
            question, template = quoted(text)[:2]
            event = re.sub(r"^Tell me (when|every time) |\.$", "", question)
            added = " red" if template.startswith("Remind") else ""  # once too much, always
            return {"kept": [event], "question": template.replace("...", event + added)}
        case _:  # checks and the judge: what is wrong says so
            said = " ".join(quoted(text))
            fields = {field: YES for field in schema["required"] if field != "reason"}
            for word, field in FOUND.items():
                if word in said and field in fields:
                    fields[field] = NO
            return {"reason": "That is what the pictures show.", **fields}


#: What a check finds wrong with what holds this word.
FOUND = {
    "wrong": "answer_supported",
    "too late": "time_accurate",
    "pig": "several_answers",
    "This is wrong": "inferable_at_that_time",
    "invisible": "grounded",
}


def candidates(first: int, last: int) -> list[dict[str, Any]]:
    """Three real-time and one proactive candidates that are right; and six that are not."""

    def one(kind: str, asked: int, answered: int, question: str, answer: str) -> dict[str, Any]:
        about = {"kind": kind, "topic": "action", "question": question, "answer": answer}
        return {**about, "asked_at": asked, "answered_at": answered}

    def now(t: int, question: str, answer: str = "A person talks.") -> dict[str, Any]:
        return one("realtime", t, t, question, answer)

    return [
        now(first + 3, "What is going on?"),
        now(first + 5, "What does the person do?"),
        now(last - 2, "What is the hand doing?"),
        one("proactive", first + 2, first + 6, "Tell me when a cup appears.", "A cup is there."),
        now(first + 4, "What is that?", "Something wrong."),
        now(first + 4, "Is this gibberish?"),
        now(first + 4, "Is this forbidden?"),
        one("realtime", first + 4, first + 5, "What comes next?", "A cup."),
        one("proactive", first + 6, first + 6, "Tell me when it rings.", "It rings."),
        one("proactive", first + 4, last - 1, "Tell me when a dog comes.", "A dog came too late."),
    ]
