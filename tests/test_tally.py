"""How often a request was met is told to the model with a question about it, alike in serving and in training."""

import numpy as np
import pytest

from aura_core import events
from aura_core.requests import StandingRequests, content_words
from aura_core.samples import mix
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from data_pipeline.world.vocabulary import COLORS, KINDS
from tests.scripted import PICTURE, Journal, ScriptedEngine, idle, opened, watch
from train.features import Film
from train.samples import replay

NAMES = content_words("star circle square"), content_words("red blue orange")


def watched(**counts: int) -> StandingRequests:
    """Requests for every star of some color, met so many times."""
    requests = StandingRequests()
    for i, (color, count) in enumerate(counts.items()):
        requests.add(color, f"Tell me every time a {color} star appears.", float(i))
        for _ in range(count):
            requests.fire(color)
    return requests


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, ""), (1, "Announced so far: one. "), (12, "Announced so far: twelve. "), (13, "Announced so far: 13. ")],
)
def test_a_question_how_often_begins_with_what_was_counted(count: int, told: str):
    question = "How many red stars have you seen so far?"
    assert watched(red=count).tallied(question) == told + question


@pytest.mark.parametrize(
    "question",
    ["How many times was there a red star?", "How many red stars have you seen?", "Red stars up to now?",
     "How often did a red star appear?", "How many red stars were there?"],
)  # fmt: skip
def test_so_does_one_in_other_words(question: str):
    assert watched(red=4).tallied(question, NAMES) == f"Announced so far: four. {question}"


@pytest.mark.parametrize(
    "question",
    [
        "How many red stars are there?",
        "How many red stars do you see? They have gone.",
        "Tell me every time a red star leaves.",
        "Is it red?",
        "So?",
    ],
)
def test_no_other_question_does(question: str):
    assert watched(red=2).tallied(question, NAMES) == question


def test_it_is_the_count_of_the_request_that_the_question_is_about():
    requests = watched(red=2, blue=3)
    assert requests.tallied("How often did the red star come?").startswith("Announced so far: two.")
    assert requests.tallied("How often did the blue star come?").startswith("Announced so far: three.")
    assert requests.tallied("How many stars so far?").startswith("Announced so far: three.")  # the newest, as alerts
    none = "How many orange stars so far?"
    assert requests.tallied(none, NAMES) == none
    requests.add("orange", "Tell me whenever an orange star appears.", 5.0)
    assert requests.tallied(none, NAMES) == none  # not met yet
    requests.add("once", "Tell me when a red star leaves.", 6.0)
    assert requests.tallied("How many red stars so far?", NAMES).startswith("Announced so far: two.")


def test_about_no_word_in_common_is_the_only_request_where_names_tell_that_it_is_about_nothing_else():
    requests = StandingRequests()
    requests.add("any", "Tell me every time something comes in.", 0.0)
    requests.fire("any")
    question = "How many objects so far?"
    assert requests.tallied(question, NAMES) == f"Announced so far: one. {question}"
    assert requests.tallied(question) == question
    assert requests.tallied(question, (frozenset(), frozenset())) == question
    requests.add("stars", "Tell me every time a star appears.", 1.0)
    assert requests.tallied(question, NAMES) == question


async def test_the_model_reads_the_tally_and_the_user_what_was_asked():
    script = {0: ["I will keep watching."], 2: ["The bell rings."], 4: ["The bell rings."], 6: ["Twice."]}
    engine, journal, question = ScriptedEngine(script), Journal(), "How often did the bell ring?"
    async with opened(engine, journal, early_close=False) as session:
        session.ask("Tell me every time the bell rings.", t=0.0)
        await watch(session, 0.0, 6.0)
        request = session.ask(question, t=6.0)
        await watch(session, 6.5, 9.0)
        told = f"Announced so far: two. {question}"
        assert engine.seen[6][-1].text == told
        assert [turn.question for turn in session.context.window if turn.question_id == request] == [told]
        assert [event.text for event in journal.of(events.Question)][-1] == question
        state = session.state()
    again = ScriptedEngine()
    later = opened(again, Journal())
    later.restore(state)
    async with later:
        later.feed(0.0, PICTURE)
        later.ask(question, t=0.0)
        await idle(later)
    assert again.seen[0][-1].text == told  # counted on across a restart


@pytest.mark.parametrize("seed", range(8))
async def test_training_reads_the_same_tallies_as_serving(seed: int):
    scene = make_scene(seed, 90.0, (2.0, 5.0), ("star", "cup", "dog"))
    questions = draw_questions(
        scene, seed, (4.0, 9.0), (0.5, 0.1, 0.4), 2, foresight=1.0, topics=("appear",), asks=("so_far",)
    )
    steps = mix(questions, 90)
    engine = ScriptedEngine({k: [step.reply] for k, step in enumerate(steps) if step.reply})
    names = {"kinds": tuple(KINDS), "colors": tuple(COLORS)}
    async with opened(engine, Journal(), n=9, n_extra=5, early_close=False, **names) as session:
        for k, step in enumerate(steps):
            session.feed(float(k), PICTURE)
            session.feed(k + 0.5, PICTURE)
            if step.question:
                session.ask(step.question, t=k + 0.75)
            await idle(session)
    film = Film(scene, (128, 96), np.zeros((90, 2, 12, 192), np.float16))
    trained = replay(film, questions, steps, 9, 5).messages()
    assert [(m.role, m.text) for m in trained] == [(m.role, m.text) for m in session.context.messages()]
    assert any((messages[-1].text or "").startswith("Announced so far:") for messages in engine.seen)
