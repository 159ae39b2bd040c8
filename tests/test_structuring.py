"""Stage four: mixed by time, acknowledged, one sample per target answer, and the very tokens that are served."""

from collections.abc import AsyncGenerator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura_core.chunks import Chunk
from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.prompt import PromptBuilder
from aura_core.requests import ACKNOWLEDGEMENTS, is_acknowledgement, repeats
from aura_core.samples import ACKNOWLEDGE, Sample, messages_of, mix
from aura_core.session import Session, SessionConfig
from data_pipeline.records import QA, Answer, Video
from data_pipeline.structuring import Plan, drawn_acknowledgement, plan, structure
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from tests.test_prompt import byte_tokenizer

THINGS = ("cat", "dog", "bird", "car", "tree", "boat", "lamp", "door", "kite", "drum", "fork", "shoe")
BUILDER = PromptBuilder(byte_tokenizer(), lambda chunk: (1, 2))


def video(seconds: int, frames: int | None = None) -> Video:
    frames = 2 * seconds if frames is None else frames
    return Video("0123456789abcdef", "0123456789abcdef" * 4, "v.mp4", frames / 2, frames, "test", "test")


def qa(number: int, type: str, t: float, question: str, *answers: tuple[float, str]) -> QA:
    made = tuple(Answer(*answer) for answer in answers)
    return QA(f"v/0/{number:03d}", "0123456789abcdef", type, "", None, t, question, made)  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn, longest: int = 130, most: int = 24) -> tuple[Video, list[QA]]:
    """A video and questions of all kinds about it, crowded now and then, each request about a thing of its own."""
    seconds = draw(st.integers(1, longest))
    qas = []
    moments = st.integers(2, 2 * seconds + 4).map(lambda half: half / 2)
    crowded = draw(st.booleans())
    if crowded:  # more requests at once than may stand
        moments = st.sampled_from([draw(moments), draw(moments)])
    for i, t in enumerate(draw(st.lists(moments, min_size=12 if crowded else 0, max_size=most))):
        thing = f"{THINGS[i % len(THINGS)]}{i}"
        kind = draw(
            st.sampled_from(["proactive", "proactive", "multi"] if crowded else ["realtime", "proactive", "multi"])
        )
        if kind == "realtime":
            qas.append(qa(i, kind, t, f"Which {thing}?", (t, f"This {thing}.")))
            continue
        later = draw(st.lists(st.integers(0, 2 * seconds), max_size=1 if kind == "proactive" else 5))
        times = sorted({t + half / 2 for half in later})
        when = "when" if kind == "proactive" else "every time"
        qas.append(qa(i, kind, t, f"Tell me {when} {thing}.", *[(at, f"{thing} at {at}") for at in times]))
    return video(seconds), draw(st.permutations(qas))


# By hand


def test_acknowledged_then_answered_one_sample_each():
    request = qa(0, "proactive", 3.0, "Tell me when a cat appears.", (6.0, "A cat."))
    samples = structure(video(9), [request])
    assert [(s.window.end_s, s.type) for s in samples] == [(3.0, "proactive"), (6.0, "proactive")]
    assert is_acknowledgement(samples[0].target.text)
    assert samples[1].target.text == "A cat."
    assert [t.assistant for t in samples[1].turns] == [None, None, samples[0].target.text, None, None, "A cat."]
    assert [t.user for t in samples[1].turns] == [None, None, request.question, None, None, None]
    assert samples[1].provenance.parent_ids == (request.id,)


def test_three_kinds_in_one_stream():
    qas = [
        qa(0, "multi", 4.0, "Tell me every time you see a pony.", (7.0, "A brown one."), (9.0, "A pink one.")),
        qa(1, "realtime", 6.0, "What color is the box?", (6.0, "Yellow.")),
        qa(2, "proactive", 5.0, "Tell me when a dog comes.", (9.0, "A dog.")),
    ]
    said = {second.due: second.reply for second in plan(video(12), qas).seconds if second.reply}
    assert {k: said[k] for k in (5, 6)} == {5: "Yellow.", 6: "A brown one."}
    replies = [second.reply for second in plan(video(12), qas).seconds]
    assert replies[8:11] == ["A dog.", "A pink one.", None]
    assert [s.type for s in structure(video(12), qas)] == [
        "multi", "proactive", "realtime", "multi", "proactive", "multi",
    ]  # fmt: skip


def test_a_request_that_is_already_fulfilled_is_answered_at_once():
    sample = structure(video(5), [qa(0, "proactive", 2.0, "Tell me when it is red.", (2.0, "It is red."))])[0]
    assert sample.target.text == "It is red."


def test_the_same_words_for_two_requests_are_said_once_and_belong_to_both():
    qas = [qa(i, "multi", 1.0 + i, f"Every time {i}.", (5.0, "Now.")) for i in range(2)]
    samples = structure(video(8), qas)
    assert [s.target.text for s in samples][2:] == ["Now."]
    assert samples[2].provenance.parent_ids == ("v/0/000", "v/0/001")


def test_a_question_in_a_second_that_has_one_waits_for_the_next_chunk():
    qas = [qa(0, "realtime", 2.0, "A?", (2.0, "a")), qa(1, "realtime", 2.0, "B?", (2.0, "b"))]
    assert [second.question for second in plan(video(4), qas).seconds] == [None, "A?", "B?", None]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (qa(0, "realtime", 2.0, "  ", (2.0, "x")), "blank-question"),
        (qa(0, "realtime", 2.0, "?"), "no-answer"),
        (qa(0, "realtime", 2.0, "?", (2.0, "...")), "silent-answer"),
        (qa(0, "realtime", 2.0, "?", (2.0, "<|silent|>")), "silent-answer"),
        (qa(0, "realtime", 2.0, "?", (4.0, "x")), "late-answer"),
        (qa(0, "realtime", 3.0, "?", (1.0, "x")), "answer-before-question"),
        (qa(0, "multi", 2.0, "?", (5.0, "x"), (4.0, "y")), "answer-order"),
        (qa(0, "realtime", 9.5, "?", (9.5, "x")), "after-end"),
        (qa(0, "multi", 2.0, "?", (40.0, "x")), "after-end"),
    ],
)
def test_what_cannot_be_placed_is_reported(bad: QA, reason: str):
    assert [r.reason for r in plan(video(9), [bad]).rejected] == [reason]


def test_two_questions_with_one_id_are_refused():
    with pytest.raises(ValueError, match="v/0/000"):
        plan(video(9), [qa(0, "realtime", 2.0, "A?", (2.0, "a")), qa(0, "realtime", 3.0, "B?", (3.0, "b"))])


def test_acknowledgements_vary_and_are_all_known():
    forms = {drawn_acknowledgement(qa(i, "multi", 1.0, "?")) for i in range(60)}
    assert forms == set(ACKNOWLEDGEMENTS)


def test_json_and_back():
    request = qa(0, "proactive", 3.0, "Tell me when a cat appears.", (50.0, "A cat."))
    for sample in structure(video(60), [request]):
        assert Sample.from_json(sample.to_json()) == sample
    assert "user" not in sample.to_json()["turns"][0]


# Against the steps that training and evaluation already use


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_plan_and_the_steps_of_training_are_the_same(seed: int, draw: int):
    questions = draw_questions(make_scene(seed, 60.0), draw)
    steps = mix(questions, 60)
    qas = [
        # an event on a whole second is first shown by the chunk after it
        qa(i, q.type, q.t, q.question, *((a.t + (1e-3 if a.t > q.t else 0), a.text) for a in q.answers))
        for i, q in enumerate(questions)
    ]
    seconds = plan(video(60), qas, lambda q: ACKNOWLEDGE[q.type]).seconds
    assert [(s.question, s.reply) for s in seconds] == [(s.question, s.reply) for s in steps]


# Against a plain reference, written from the text of the paper


def reference(stream: Plan, k: int, n: int, n_extra: int, m: int) -> tuple[int, list[tuple[str, list[str]]]]:
    """First chunk of the window and the history at the target in chunk `k`, by sections 3.1 and 5.2.

    "When the window size reaches N + N', we remove the oldest N' video chunks at once." "A QA group is defined as a
    user question together with all subsequent non-silent assistant responses." "We simultaneously trim the text QA
    groups that lie outside the video window to M." To this we add that the groups of standing requests stay.
    """
    seconds = stream.seconds
    first = 0
    gone: set[int] = set()  # groups that a cut has dropped, by the chunk of their question (-1: before any)
    for now in range(1, k + 1):  # after each turn that ended
        if now - first < n + n_extra:
            continue
        first += n_extra
        standing = _standing(seconds[: now - 1])  # a cut comes before the last reply is settled
        outside = [key for key in _groups(seconds[:first]) if key not in gone]
        for key in outside[: max(0, len(outside) - m)]:
            if key not in standing:
                gone.add(key)
    return first, [group for key, group in _groups(seconds[:first]).items() if key not in gone]


def _groups(seconds: list) -> dict[int, tuple[str, list[str]]]:
    groups: dict[int, tuple[str, list[str]]] = {}
    newest = -1
    for k, second in enumerate(seconds):
        if second.question is not None:
            newest = k
            groups[newest] = (second.question, [])
        if second.reply is not None:
            groups.setdefault(newest, ("", []))[1].append(second.reply)
    return groups


def _standing(seconds: list) -> set[int]:
    """The chunks in which the newest eight requests that still wait were made.

    An alert for a request that had to go ends no other one, unless a single one is left to take it for.
    """
    waiting: dict[str, tuple[int, str]] = {}
    for k, second in enumerate(seconds):
        if second.reply is None:
            continue
        if second.qa is not None and is_acknowledgement(second.reply):
            if len(waiting) == 8:
                del waiting[next(iter(waiting))]
            waiting[second.qa.id] = k, second.question
            continue
        about = [source.id for source in second.sources if source.id in waiting]
        if not about and second.qa is None and len(waiting) == 1:
            about = list(waiting)
        for request in about:
            if not repeats(waiting[request][1]):
                del waiting[request]
    return {k for k, _ in waiting.values()}


@given(streams(), st.integers(1, 12), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=150)
def test_samples_are_what_the_paper_says(stream: tuple[Video, list[QA]], n: int, n_extra: int, m: int):
    film, qas = stream
    laid_out = plan(film, qas)
    samples = structure(film, qas, n, n_extra, m)
    spoken = [k for k, second in enumerate(laid_out.seconds) if second.reply is not None]
    assert [s.window.end_s for s in samples] == [k + 1.0 for k in spoken]
    for sample, k in zip(samples, spoken, strict=True):
        first, history = reference(laid_out, k, n, n_extra, m)
        assert [(g.q, list(g.a)) for g in sample.history] == history
        window = laid_out.seconds[first : k + 1]
        assert [(t.t, t.user, t.assistant) for t in sample.turns] == [
            (first + i + 1.0, second.question, second.reply) for i, second in enumerate(window)
        ]
        assert len(window) <= n + n_extra
        assert (sample.target.turn, sample.target.text) == (len(window) - 1, laid_out.seconds[k].reply)
        assert sample.window.start_s == first


@given(streams())
@settings(max_examples=100)
def test_nothing_is_lost_or_said_too_early(stream: tuple[Video, list[QA]]):
    film, qas = stream
    laid_out = plan(film, qas)
    refused = {r.id for r in laid_out.rejected}
    asked = [s.qa for s in laid_out.seconds if s.qa]
    assert {q.id for q in asked} | refused >= {q.id for q in qas}
    assert len(asked) == len({q.id for q in asked})
    for k, second in enumerate(laid_out.seconds):
        assert (second.reply is None) == (not second.sources)
        if second.qa is not None:
            assert second.reply is not None
            assert k + 1 >= second.qa.t
        if second.reply is not None:
            assert second.due <= k


# Against a served session


class Scripted:
    """An engine that says what was planned and notes what it was given."""

    def __init__(self, replies: Sequence[str | None]) -> None:
        self.replies = replies
        self.served: dict[int, list[Message]] = {}

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        chunk = messages[-1].chunk
        assert chunk is not None
        self.served[chunk.index] = list(messages)
        reply = self.replies[chunk.index]
        if reply is not None:
            yield reply

    async def prewarm(self, messages: Sequence[Message]) -> None:
        pass

    async def close(self) -> None:
        pass


async def serve(stream: Plan, qas: list[QA], config: SessionConfig) -> dict[int, list[Message]]:
    engine = Scripted([second.reply for second in stream.seconds])
    asked = sorted((second.qa for second in stream.seconds if second.qa), key=lambda q: (q.t, q.id))
    async with Session(engine, config, lambda event: None) as session:
        for tick in range(2 * len(stream.seconds) + 1):
            while asked and asked[0].t <= tick / 2:
                session.ask(asked[0].question, t=asked.pop(0).t)
            session.feed(tick / 2, np.full((2, 2, 3), tick % 256, np.uint8))
            await session.idle()
    return engine.served


async def same_tokens(film: Video, qas: list[QA], config: SessionConfig) -> int:
    stream = plan(film, qas)
    served = await serve(stream, qas, config)
    samples = structure(film, qas, config.n, config.n_extra, config.m)
    chunks: dict[int, Chunk] = {k: messages[-1].chunk for k, messages in served.items() if messages[-1].chunk}
    for sample in samples:
        last = int(sample.window.end_s) - 1
        messages = messages_of(sample, [chunks[int(turn.t) - 1] for turn in sample.turns])
        assert messages[-1] == Message("assistant", sample.target.text)
        ours, theirs = BUILDER.build(messages[:-1]), BUILDER.build(served[last])
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.positions, theirs.positions)
        assert [v.chunk.uid for v in ours.videos] == [v.chunk.uid for v in theirs.videos]
    return len(samples)


async def test_a_sample_and_the_served_prompt_are_the_same_tokens():
    """Three minutes with everything in it, at the real window."""
    scene = make_scene(7, 180.0)
    drawn = draw_questions(scene, 3, gap=(2.0, 4.0))
    qas = [qa(i, q.type, q.t, q.question, *((a.t, a.text) for a in q.answers)) for i, q in enumerate(drawn)]
    assert await same_tokens(video(180), qas, SessionConfig()) >= 40


async def test_standing_requests_far_beyond_the_history_too():
    """The groups of requests that wait are pinned, those that are settled are not; eight at most."""
    requests = []
    for i, thing in enumerate(THINGS):
        kind, when = ("multi", "whenever") if i % 3 == 0 else ("proactive", "when")
        requests.append(qa(i, kind, 1.0 + i, f"Tell me {when} {thing}.", (100.0 + 2 * i, f"{thing} now.")))
    questions = [qa(50 + i, "realtime", 20.0 + 3 * i, f"What {i}?", (20.0 + 3 * i, f"This {i}.")) for i in range(50)]
    assert await same_tokens(video(180), requests + questions, SessionConfig()) == 12 + 12 + 50


async def test_how_often_a_request_was_met_is_in_both():
    alerts = [(10.0 + 7 * i, "The bell rings.") for i in range(8)]
    request = qa(0, "multi", 2.0, "Tell me every time the bell rings.", *alerts)
    question = "How often did the bell ring so far?"
    asked = [qa(1 + i, "realtime", t, question, (t, f"{i}.")) for i, t in enumerate((5.0, 20.0, 63.0))]
    assert await same_tokens(video(70), [request, *asked], SessionConfig()) == 1 + 8 + 3
    last = structure(video(70), [request, *asked])[-1]
    read = [*(group.q for group in last.history), *(turn.user for turn in last.turns if turn.user)]
    told = [f"Announced so far: {count}. {question}" for count in ("two", "eight")]
    assert read == [request.question, question, *told]


@given(streams(longest=70, most=SessionConfig.max_questions), st.integers(1, 8), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=25)
async def test_any_stream_is_served_as_it_is_trained(stream: tuple[Video, list[QA]], n: int, n_extra: int, m: int):
    config = SessionConfig(n=n, n_extra=n_extra, m=m, early_close=False)
    await same_tokens(*stream, config)
