"""The dual sliding window, against its rules and against a plain second account of them."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.chunks import Chunk
from aura_core.context import MAX_REPLIES, Context, Message, Turn

FRAMES = np.zeros((2, 4, 4, 3), np.uint8)


def chunk(index: int) -> Chunk:
    return Chunk(index, float(index), index + 1.0, FRAMES, f"test-{index}")


@dataclass(frozen=True)
class Step:
    """One turn of a random stream; `amend` is an interruption after it ("": nothing was heard)."""

    question: str | None
    reply: str | None
    pinned: bool
    amend: str | None


TEXT = st.text(min_size=1, max_size=5)
STEPS = st.lists(
    st.builds(
        Step,
        question=st.none() | st.text(max_size=5),
        reply=st.none() | TEXT,
        pinned=st.booleans(),
        amend=st.none() | st.just("") | TEXT,
    ),
    max_size=50,
)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))


def run(context: Context, steps: list[Step]) -> list[Turn]:
    """Play a stream into a context; return what was finally said, turn by turn, as far as the context can know."""
    said: list[Turn] = []
    for i, step in enumerate(steps):
        if step.question is not None and step.pinned:
            context.pin(str(i))
        context.open_turn(chunk(i), step.question, str(i))
        context.close_turn(step.reply)
        said.append(Turn(chunk(i), step.question, str(i), step.reply))
        if step.amend is not None and context.amend_last_reply(step.amend):
            next(turn for turn in reversed(said) if turn.reply is not None).reply = step.amend or None
    return said


def texts(messages: list[Message]) -> list[tuple[str, str | None]]:
    return [(message.role, message.text) for message in messages]


def expected(said: list[Turn], sizes: tuple[int, int, int], pinned: set[str]) -> list[tuple[str, str | None]]:
    """The same rules, written as one function of everything that was said."""
    n, n_extra, m = sizes
    cuts = max(0, len(said) - n) // n_extra
    left, stayed = said[: cuts * n_extra], said[cuts * n_extra :]
    groups: list[tuple[str, str, list[str]]] = []
    for turn in left:
        if turn.question is not None:
            groups.append((str(turn.question_id), turn.question, []))
        if turn.reply is not None:
            if not groups:
                groups.append(("none", "", []))
            groups[-1][2].append(turn.reply)
    lines: list[tuple[str, str | None]] = [("system", "SYSTEM")]
    for place, (name, question, replies) in enumerate(groups, start=-len(groups)):
        if place >= -m or name in pinned:
            lines.append(("user", question))
            lines.append(("assistant", replies[0] if replies else None))
            for reply in replies[1:]:
                lines += [("user", ""), ("assistant", reply)]
    for turn in stayed:
        lines += [("user", turn.question or ""), ("assistant", turn.reply)]
    return lines


@given(STEPS, SIZES)
def test_messages_are_what_the_rules_say(steps: list[Step], sizes: tuple[int, int, int]):
    n, n_extra, m = sizes
    context = Context("SYSTEM", n, n_extra, m)
    said = run(context, [Step(step.question, step.reply, step.pinned, None) for step in steps])
    assert texts(context.messages()) == expected(said, sizes, set(context.pinned))


@given(STEPS, SIZES)
def test_roles_alternate_and_sizes_are_bounded(steps: list[Step], sizes: tuple[int, int, int]):
    n, n_extra, m = sizes
    context = Context("SYSTEM", n, n_extra, m)
    for end, step in enumerate(steps):
        context.open_turn(chunk(end), step.question, str(end))
        roles = [message.role for message in context.messages()]
        assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"]
        context.close_turn(step.reply)
        if step.amend is not None:
            context.amend_last_reply(step.amend)
        roles = [message.role for message in context.messages()]
        assert roles == ["system", *["user", "assistant"] * (len(roles) // 2)]
        assert min(end + 1, n) <= len(context.window) < n + n_extra
        assert [turn.chunk.index for turn in context.window] == list(range(end + 1))[-len(context.window) :]
        if context.next_cut() == n_extra:  # a cut just was: only now is the history short
            assert len(context.history) <= m or end + 1 < n + n_extra


@given(STEPS, SIZES)
def test_between_two_cuts_messages_only_grow_at_the_end(steps: list[Step], sizes: tuple[int, int, int]):
    context = Context("SYSTEM", *sizes)
    before = context.messages()
    for i, step in enumerate(steps):
        cut = context.next_cut() == 1
        context.open_turn(chunk(i), step.question, str(i))
        during = context.messages()
        assert texts(during[:-1]) == texts(before)
        context.close_turn(step.reply)
        after = context.messages()
        if not cut:
            assert texts(after[: len(during)]) == texts(during)
            assert [message.chunk and message.chunk.uid for message in after[: len(during)]] == [
                message.chunk and message.chunk.uid for message in during
            ]
        before = after


@given(STEPS, SIZES)
def test_what_stands_after_the_cut_is_known_before(steps: list[Step], sizes: tuple[int, int, int]):
    context = Context("SYSTEM", *sizes)
    for i, step in enumerate(steps):
        ahead, cut = context.after_cut_messages(), context.next_cut() == 1
        half = context.after_cut_messages(turns=1)
        assert texts(ahead[: len(half)]) == texts(half)
        context.open_turn(chunk(i), step.question, str(i))
        context.close_turn(step.reply)
        if cut:
            assert texts(context.messages()[: len(ahead)]) == texts(ahead)


@given(STEPS, SIZES)
def test_a_snapshot_holds_everything(steps: list[Step], sizes: tuple[int, int, int]):
    context = Context("SYSTEM", *sizes)
    run(context, steps)
    state = json.loads(json.dumps(context.snapshot()))
    again = Context.restore(state, {f"test-{i}": chunk(i) for i in range(len(steps))})
    assert texts(again.messages()) == texts(context.messages())
    assert again.snapshot() == context.snapshot()


@given(STEPS, SIZES)
def test_after_interruptions_the_newest_reply_is_what_was_heard(steps: list[Step], sizes: tuple[int, int, int]):
    context = Context("SYSTEM", *sizes)
    run(context, steps)
    said = [text for role, text in texts(context.messages()) if role == "assistant" and text is not None]
    if said:
        assert context.amend_last_reply("heard") or not any(turn.reply for turn in context.window)
    before = texts(context.messages())
    context.amend_last_reply("")
    assert len(texts(context.messages())) in (len(before), len(before) - 2)


def played(turns: dict[int, tuple[str | None, str | None]], count: int, n: int = 30, n_extra: int = 15) -> Context:
    return Context.replay(
        (Turn(chunk(i), turns.get(i, (None, None))[0], f"q{i}", turns.get(i, (None, None))[1]) for i in range(count)),
        n=n,
        n_extra=n_extra,
    )


def test_the_paper_sizes_cut_at_the_end_of_turn_45():
    context = played({}, 44)
    assert (len(context.window), context.next_cut()) == (44, 1)
    context.open_turn(chunk(44))
    assert len([message for message in context.messages() if message.chunk]) == 45
    context.close_turn(None)
    assert (len(context.window), context.next_cut()) == (30, 15)
    assert context.window[0].chunk.index == 15


def test_a_later_reply_joins_its_group_when_it_leaves_the_window():
    turns = {0: ("Watch the pot.", "Okay, I will tell you."), 20: (None, "It boils."), 40: (None, "It boils over.")}
    assert texts(played(turns, 45).messages())[1:3] == [
        ("user", "Watch the pot."),
        ("assistant", "Okay, I will tell you."),
    ]
    assert texts(played(turns, 75).messages())[1:7] == [
        ("user", "Watch the pot."),
        ("assistant", "Okay, I will tell you."),
        ("user", ""),
        ("assistant", "It boils."),
        ("user", ""),
        ("assistant", "It boils over."),
    ]


def test_a_question_met_with_silence_is_not_lost():
    context = played({3: ("Who is there?", None)}, 45)
    assert texts(context.messages())[1:3] == [("user", "Who is there?"), ("assistant", None)]


def test_a_first_reply_that_came_late_answers_the_question_in_the_history():
    context = played({3: ("Who is there?", None), 9: (None, "A cat.")}, 45)
    assert texts(context.messages())[1:3] == [("user", "Who is there?"), ("assistant", "A cat.")]


def test_what_is_said_before_any_question_is_a_group_without_one():
    context = played({2: (None, "Hello."), 5: (None, "There."), 8: ("Who?", "Me.")}, 45)
    assert [(group.question, group.replies) for group in context.history] == [
        ("", ["Hello.", "There."]),
        ("Who?", ["Me."]),
    ]


def test_history_is_cut_only_at_a_cut_and_pinned_groups_stay():
    turns = {i: (f"Question {i}?", f"Answer {i}.") for i in range(12)}
    context = Context(n=4, n_extra=4, m=2)
    context.pin("q1")
    for i in range(16):
        question, reply = turns.get(i, (None, None))
        context.open_turn(chunk(i), question, f"q{i}")
        context.close_turn(reply)
    assert [group.question_id for group in context.history] == ["q1", "q10", "q11"]
    context.unpin("q1")
    assert len(context.history) == 3
    for i in range(16, 20):
        context.open_turn(chunk(i))
        context.close_turn(None)
    assert [group.question_id for group in context.history] == ["q10", "q11"]


def test_a_group_that_never_ends_is_bounded():
    turns: dict[int, tuple[str | None, str | None]] = {i: (None, f"Reply {i}.") for i in range(1, 200)}
    turns[0] = ("Count.", "Reply 0.")
    (group,) = played(turns, 200, n=5, n_extra=5).history
    assert len(group.replies) == MAX_REPLIES
    assert (group.question, group.replies[0], group.replies[-1]) == ("Count.", "Reply 0.", "Reply 194.")


def test_an_interruption_keeps_what_was_heard():
    context = played({3: ("Tell a story.", "Once upon a time.")}, 8)
    assert context.amend_last_reply("Once upon")
    assert context.window[3].reply == "Once upon"
    assert context.amend_last_reply("")
    assert context.window[3].reply is None
    assert not context.amend_last_reply("Once")


def test_an_interruption_reaches_a_reply_that_has_just_left_the_window():
    context = played({0: (None, "Hello there.")}, 45)
    assert context.amend_last_reply("Hello")
    assert context.history[0].replies == ["Hello"]
    assert context.amend_last_reply(None)
    assert context.history == ()


@given(STEPS, SIZES, st.integers(0, 49), TEXT, st.integers(0, 49))
def test_a_question_that_is_forgotten_was_never_asked(
    steps: list[Step], sizes: tuple[int, int, int], place: int, reply: str, later: int
):
    """Forgotten `later` turns after it was asked, in the window or in the history."""
    n, n_extra, _ = sizes
    steps = [replace(step, amend=None) for step in steps[:30]]  # a group holds no more than `MAX_REPLIES`
    asked = replace(Step("", reply, True, None), question="Tell me.")
    place = min(place, len(steps))
    until, whole = place + 1 + later, [*steps[:place], asked, *steps[place:]]
    never = [*steps[:place], Step(None, None, False, None), *steps[place:]]
    forgetful, plain = (Context("SYSTEM", n, n_extra, m=100) for _ in range(2))
    run(forgetful, whole[:until])
    run(plain, never[:until])
    forgetful.forget(str(place))
    assert texts(forgetful.messages()) == texts(plain.messages())
    assert str(place) not in forgetful.pinned
    forgetful.forget(str(place))  # once more changes nothing
    assert forgetful.snapshot()["history"] == plain.snapshot()["history"]


def test_a_question_can_be_forgotten_while_it_is_being_answered():
    context = played({}, 3)
    context.open_turn(chunk(3), "Tell me when a cat appears.", "q1")
    context.forget("q1")
    context.close_turn(None)
    assert all(message.text in ("", None) for message in context.messages()[1:])


def test_turns_are_opened_and_closed_in_order():
    context = Context()
    with pytest.raises(RuntimeError):
        context.close_turn(None)
    context.open_turn(chunk(0))
    with pytest.raises(RuntimeError):
        context.open_turn(chunk(1))
    with pytest.raises(RuntimeError):
        context.snapshot()


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sizes_must_be_positive(sizes: tuple[int, int, int]):
    with pytest.raises(ValueError, match="at least 1"):
        Context("", *sizes)
