"""One question to the model: bound, checked, asked again, tried again, logged, and never paid for twice."""

import asyncio
import contextlib
import email.utils
import json
import pickle
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import schemas
from data_pipeline.calls import CallLog, Lines
from data_pipeline.clips import Clip
from data_pipeline.llm import InvalidAnswer, Llm, LlmConfig, LlmError, Refused, _retry_after, seed_of
from data_pipeline.prices import priced, read_prices
from data_pipeline.prompt_files import FOLDER, PromptError, load_prompt, versions
from data_pipeline.records import Video
from data_pipeline.stages.prepare import Preparation, Source, encode
from tests.fake_llm import FakeLlm, Faults
from tests.video_files import gray, write_video

ASKED = {"asked": 5, "question": "What is it?"}


@pytest.fixture
def server() -> Iterator[FakeLlm]:
    with FakeLlm() as fake:
        yield fake


@asynccontextmanager
async def llm(server: FakeLlm | str, root: Path, **settings: Any) -> AsyncIterator[Llm]:
    url = server if isinstance(server, str) else server.url
    config = LlmConfig(url, "fake", **{"first_wait": 0.001, "attempts": 3, "timeout": 30.0, **settings})
    async with Llm(config, root, CallLog(root / "calls.jsonl")) as client:
        yield client


def logged(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "calls.jsonl").read_text().splitlines()]


async def fresh(client: Llm, question: str = "What is it?", **more: Any):
    variables = {"asked": 5, "question": question}
    return await client.ask("fresh_answer", variables, schemas.FreshAnswer, ids=["a"], **more)


async def test_an_answer_is_checked_and_logged_with_all_that_made_it(server: FakeLlm, tmp_path: Path) -> None:
    async with llm(server, tmp_path) as client:
        answered = await fresh(client)
    assert answered.value.answerable == "yes"
    assert (answered.usage.prompt, answered.usage.completion) == (100, 10)
    assert answered.seed == seed_of("fresh_answer", "a")
    (entry,) = logged(tmp_path)
    assert entry["prompt_version"] == answered.prompt_version == load_prompt(FOLDER, "fresh_answer").version
    assert (entry["model"], entry["seed"], entry["ids"], entry["usage"]["prompt"]) == (
        "fake",
        answered.seed,
        ["a"],
        100,
    )
    (seen,) = server.seen
    assert seen.body["seed"] == answered.seed
    assert seen.body["response_format"]["json_schema"]["strict"] is True


async def test_a_wrong_answer_is_asked_for_once_more_with_the_error(tmp_path: Path) -> None:
    with FakeLlm(Faults(malformed=1)) as server:
        async with llm(server, tmp_path) as client:
            answered = await fresh(client)
    assert answered.usage.prompt == 200
    first, second = server.seen
    assert len(first.body["messages"]) == 2
    assert second.body["messages"][2]["role"] == "assistant"
    assert "cannot be used" in second.body["messages"][3]["content"]


async def test_wrong_twice_is_no_answer(server: FakeLlm, tmp_path: Path) -> None:
    async with llm(server, tmp_path) as client:
        with pytest.raises(InvalidAnswer, match="fresh_answer"):
            await fresh(client, "Is this gibberish?")
    assert len(server.seen) == 2


async def test_a_check_of_the_caller_asks_once_more_too(server: FakeLlm, tmp_path: Path) -> None:
    found = iter(["too short", None])
    async with llm(server, tmp_path) as client:
        await fresh(client, check=lambda value: next(found))
    assert "too short" in server.seen[1].body["messages"][3]["content"]


async def test_seconds_must_lie_in_the_clip(server: FakeLlm, tmp_path: Path, video: tuple[Path, Video]) -> None:
    root, record = video
    clip = Clip(record.path, record.sha256, 2.0, 8.0)
    async with llm(server, root) as client:
        await client.ask("scenes", {"start": 2, "end": 8}, schemas.Scenes, clip, ids=["scenes"])
    (seen,) = server.seen
    assert seen.times == tuple(i / 2 for i in range(4, 16))
    assert seen.pictures == len(seen.times)
    schema = seen.body["response_format"]["json_schema"]["schema"]
    assert schema["$defs"]["Scene"]["properties"]["start"] == {"type": "integer", "minimum": 2, "maximum": 8}
    with pytest.raises(ValueError, match="second from 2 to 8"):
        schemas.Scenes.model_validate(
            {"scenes": [{"start": 2, "end": 9, "description": "x"}]}, context={"bounds": clip.bounds}
        )


async def test_what_the_server_will_not_answer_is_refused_once_and_for_all(server: FakeLlm, tmp_path: Path) -> None:
    for _ in range(2):
        async with llm(server, tmp_path) as client:
            with pytest.raises(Refused, match="I will not look"):
                await fresh(client, "Is this forbidden?")
    assert len(server.seen) == 1


class Scripted(FakeLlm):
    """A server whose first answers are these (status, headers)."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        super().__init__()
        self.script = list(answers)

    def handle(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        if self.script:
            status, headers = self.script.pop(0)
            return status, headers, {"error": {"message": "not\nnow"}}
        return super().handle(body)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_what_passes_is_tried_again(status: int, tmp_path: Path) -> None:
    with Scripted((status, {}), (status, {"Retry-After": "0"})) as server:
        async with llm(server, tmp_path) as client:
            await fresh(client)
    assert [entry["retries"] for entry in logged(tmp_path)] == [2]


async def test_an_answer_that_is_no_completion_is_tried_again(tmp_path: Path) -> None:
    with Scripted((200, {})) as server:
        async with llm(server, tmp_path) as client:
            await fresh(client)
    assert [entry["retries"] for entry in logged(tmp_path)] == [1]


async def test_a_late_answer_is_asked_for_again(tmp_path: Path) -> None:
    with FakeLlm(Faults(late=1, late_seconds=60)) as server:
        async with llm(server, tmp_path, timeout=1.0) as client:
            await fresh(client)
    assert [entry["retries"] for entry in logged(tmp_path)] == [1]


async def test_a_server_that_stays_away_stops_the_run_and_leaves_no_answer(tmp_path: Path) -> None:
    with Scripted(*[(503, {})] * 3) as server:
        async with llm(server, tmp_path) as client:
            with pytest.raises(LlmError, match="failed 3 times, last: 503 not now"):
                await fresh(client)
        url = server.url
    async with llm(url, tmp_path) as client:
        with pytest.raises(LlmError, match="failed 3 times") as error:
            await fresh(client)
    assert "\n" not in str(error.value)
    assert logged(tmp_path) == []


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_key_or_model_stops_the_run_at_once(status: int, tmp_path: Path) -> None:
    with Scripted((status, {})) as server:
        async with llm(server, tmp_path) as client:
            with pytest.raises(LlmError, match=str(status)):
                await fresh(client)
    assert server.seen == []


def test_retry_after_in_all_its_forms() -> None:
    assert _retry_after({"retry-after": "7"}) == 7
    assert _retry_after({"retry-after": "0.5"}) == 0.5
    assert _retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert _retry_after({"retry-after": "86400"}) == 600
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    assert _retry_after({"retry-after": date}) == 600
    assert _retry_after({"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}) == 0
    assert _retry_after({"retry-after": "soon"}) is None
    assert _retry_after({}) is None


async def test_one_429_makes_all_requests_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr("data_pipeline.llm.asyncio.sleep", sleep)
    with Scripted((429, {"Retry-After": "100"})) as server:
        async with llm(server, tmp_path) as client:
            await fresh(client)
            waits.clear()
            await fresh(client, "And now?")  # another request: the server's wish still stands
    assert 0 < waits[0] <= 100


async def test_no_more_requests_are_in_flight_than_allowed(tmp_path: Path) -> None:
    lock, most, now = threading.Lock(), 0, 0
    full = threading.Event()

    def busy(number: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        full.wait(30)
        with lock:
            now -= 1

    with FakeLlm(on_request=busy) as server:
        async with llm(server, tmp_path, concurrency=3) as client:
            await asyncio.gather(*(fresh(client, f"Question {i}?") for i in range(12)))
    assert most == 3
    assert len(server.seen) == 12


# --- the log as cache -------------------------------------------------------------------------------------------------
async def test_an_answer_is_never_paid_for_twice(tmp_path: Path) -> None:
    with FakeLlm(Faults(malformed=1)) as server:
        for _ in range(3):
            async with llm(server, tmp_path) as client:
                await fresh(client)
    assert len(server.seen) == 2  # the wrong one and the right one


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.ask("fresh_answer", {**ASKED, "asked": 6}, schemas.FreshAnswer, ids=["a"]),
        lambda c: c.ask("fresh_answer", ASKED, schemas.FreshAnswer, ids=["b"]),
        lambda c: c.ask("rephrase", {"question": "a", "template": "b"}, schemas.Rephrased, ids=["a"]),
    ],
)
async def test_another_question_is_another_call(change: Callable[[Llm], Any], server: FakeLlm, tmp_path: Path) -> None:
    async with llm(server, tmp_path) as client:
        await fresh(client)
        with contextlib.suppress(InvalidAnswer):  # the fake's answer need not fit; that it was asked is the point
            await change(client)
    assert len(server.seen) >= 2


async def test_other_frames_or_another_edition_of_a_prompt_are_another_call(
    server: FakeLlm, video: tuple[Path, Video]
) -> None:
    root, record = video
    prompts = root / "prompts"
    shutil.copytree(FOLDER, prompts)
    (prompts / "domain.md").write_text((prompts / "domain.md").read_text().replace("What kind", "Which kind"))
    clips = [Clip(record.path, record.sha256, 0.0, end) for end in (5.0, 6.0, 5.0)]
    for clip, folder in zip(clips, (FOLDER, FOLDER, prompts), strict=True):
        async with llm(server, root, prompts=folder) as client:
            await client.ask("domain", {}, schemas.VideoDomain, clip, ids=["a"])
    assert len(server.seen) == 3


async def test_a_torn_line_is_cut_off(server: FakeLlm, tmp_path: Path) -> None:
    async with llm(server, tmp_path) as client:
        await fresh(client)
        await fresh(client, "And now?")
    path = tmp_path / "calls.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    async with llm(server, tmp_path) as client:
        await fresh(client)
        await fresh(client, "And now?")
    assert len(server.seen) == 3
    assert len(logged(tmp_path)) == 2


def test_lines_have_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_pipeline.calls.LOCK_WAIT", 0.0)
    lines = Lines(tmp_path / "a.jsonl")
    with pytest.raises(OSError, match="another run"):
        Lines(tmp_path / "a.jsonl")
    lines.close()
    Lines(tmp_path / "a.jsonl").close()


# --- schemas, prompts, keys, prices
ANSWERS = [
    value
    for value in vars(schemas).values()
    if isinstance(value, type) and issubclass(value, schemas.Reply) and value not in (schemas.Reply, schemas.Check)
]


@pytest.mark.parametrize("model", ANSWERS, ids=lambda model: model.__name__)
def test_schemas_are_strict(model: type[schemas.Reply]) -> None:
    def objects(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for part in node.values():
                yield from objects(part)
        elif isinstance(node, list):
            for part in node:
                yield from objects(part)

    schema = schemas.json_schema(model, (3, 9))
    found = list(objects(schema))
    assert found
    assert all(o["required"] == list(o["properties"]) and o["additionalProperties"] is False for o in found)
    assert not {"title", "default", "minLength", "second"} & set(json.dumps(schema).replace('"', " ").split())
    if issubclass(model, schemas.Check):
        assert next(iter(schema["properties"])) == "reason"


def test_every_prompt_loads_and_an_edit_changes_its_version(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "prompts")
    before = versions(tmp_path / "prompts")
    assert before == versions(FOLDER)
    assert len(before) == len(list(FOLDER.glob("*.md")))
    edited = tmp_path / "edited"
    shutil.copytree(FOLDER, edited)
    (edited / "judge.md").write_text((edited / "judge.md").read_text() + "Be kind.\n")
    after = versions(edited)
    assert {name for name in after if after[name] != before[name]} == {"judge"}


@pytest.mark.parametrize("text", ["", "## system\na\n## user\nb", "---\nversion: x\n---\n## system\na\n## user\nb"])
def test_a_broken_prompt_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "judge.md").write_text(text)
    with pytest.raises(PromptError, match="prompt judge") as error:
        load_prompt(tmp_path, "judge")
    assert "\n" not in str(error.value)


def test_a_prompt_is_filled_once_and_wholly() -> None:
    prompt = load_prompt(FOLDER, "fresh_answer")
    assert "$asked" in prompt.fill({"asked": 1, "question": "$asked?"})
    with pytest.raises(PromptError, match="question"):
        prompt.fill({"asked": 1})


async def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: FakeLlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LlmConfig(server.url, "fake", key_env="AURA_TEST_KEY")
    with pytest.raises(LlmError, match="AURA_TEST_KEY"):
        config.api_key()
    monkeypatch.setenv("AURA_TEST_KEY", "top-secret")
    assert config.api_key() == "top-secret"
    async with llm(server, tmp_path, key_env="AURA_TEST_KEY") as client:
        await fresh(client)
        assert b"top-secret" not in pickle.dumps(client.config)
    assert "top-secret" not in (tmp_path / "calls.jsonl").read_text()


def test_prices(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"a": {"input": 2, "output": 10, "cached": 1}, "b": {"input": 1, "output": 1}}')
    prices = read_prices(table)
    tokens = {"prompt_tokens": 1_000_000, "cached_tokens": 500_000, "completion_tokens": 100_000}
    assert priced({"a": tokens}, prices) == pytest.approx(1.0 + 0.5 + 1.0)
    assert priced({"a": tokens, "b": tokens}, prices) == pytest.approx(2.5 + 1.1)
    assert priced({"c": tokens}, prices) is None
    table.write_text('{"a": {"input": 2}}')
    with pytest.raises(ValueError, match="price table"):
        read_prices(table)


@pytest.fixture
def video(tmp_path: Path) -> tuple[Path, Video]:
    source = write_video(tmp_path / "a.mp4", (gray(i) for i in range(20)), 2)
    return tmp_path, encode(Source("a", str(source), "test"), Preparation(tmp_path))
