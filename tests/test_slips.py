"""Slips of training histories: what they change, what they leave, and that nothing is learned from them."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aura_core.samples import ACKNOWLEDGE, Step, mix
from data_pipeline.world.language import content_words
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from data_pipeline.world.vocabulary import NUMBERS
from train.configs import UNASKED, Draw, StreamStage
from train.features import Film
from train.model import new_model
from train.samples import collate, draw_sample, film_builder, unsettled, waver
from train.slips import Slips, slip

SECONDS = 40
MANY = Slips(share=1.0, false=(0.4,), missed=0.5, wrong=0.5)


def story(seed: int):
    scene = make_scene(seed, float(SECONDS), (1.5, 3.0))
    return scene, mix(draw_questions(scene, seed, (2.0, 5.0)), SECONDS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_what_was_asked_stays_and_every_alert_is_still_to_be_said_once(seed):
    scene, steps = story(seed)
    said, slipped = slip(steps, scene, MANY, np.random.default_rng(seed))
    assert [s.question for s in said] == [s.question for s in steps]
    assert [s.reply for s in said if s.kind == "ack"] == [s.reply for s in steps if s.kind == "ack"]
    learned = [s.reply for k, s in enumerate(said) if s.kind == "alert" and k not in slipped]
    assert learned == [s.reply for s in steps if s.kind == "alert"]
    assert all(s.reply == steps[k].reply for k, s in enumerate(said) if s.kind == "answer" and k not in slipped)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_missed_alert_is_due_within_the_seconds_that_are_allowed(seed, late):
    scene, steps = story(seed)
    slips = replace(MANY, false=(0.0,), wrong=0.0, missed=0.7, late=late)
    said, slipped = slip(steps, scene, slips, np.random.default_rng(seed))
    moved = [k for k, step in enumerate(steps) if step.kind == "alert" and said[k] != step]
    meant = set()
    for k in moved:
        due = next(j for j in range(k + 1, k + late + 1) if said[j] == steps[k])
        assert all(steps[j] == Step() for j in range(k + 1, due + 1))
        meant |= set(range(k, due))
    assert slipped == meant  # it could have been said in each of these: none of them teaches silence


def test_there_are_slips_of_every_kind_and_none_where_none_are_wanted():
    kinds: Counter[tuple[str | None, str | None]] = Counter()
    for seed in range(30):
        scene, steps = story(seed)
        said, slipped = slip(steps, scene, MANY, np.random.default_rng(seed))
        kinds.update((steps[k].kind, said[k].kind) for k in slipped)
        assert slip(steps, scene, replace(MANY, share=0.0), np.random.default_rng(seed)) == (steps, frozenset())
    assert {(None, "alert"), ("alert", None), ("answer", "answer")} <= set(kinds)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_what_was_announced_so_far_is_taught_as_its_number(seed):
    """An alert too many is counted by whoever reads it: the true number is no answer to learn then."""
    scene = make_scene(seed, float(SECONDS), (1.5, 3.0), kinds=("star", "key", "cat"))
    asks = ("so_far",)
    steps = mix(draw_questions(scene, seed, (1.0, 3.0), (0.7, 0.0, 0.3), 3, topics=("appear",), asks=asks), SECONDS)
    said, slipped = slip(steps, scene, MANY, np.random.default_rng(seed))
    for k, step in enumerate(said):
        if k in slipped or not (step.reply or "").startswith("So far"):
            continue
        things = content_words(step.reply) - set(NUMBERS) - {"object"}
        true, read = (
            sum(str(s.reply).startswith("I see a") and things <= content_words(s.reply) for s in story[:k])
            for story in (steps, said)
        )
        assert true == read


def test_slips_are_read_and_not_learned():
    _, tokenizer = new_model(1)
    builder = film_builder(tokenizer)
    scene = make_scene(3, float(SECONDS), (1.5, 3.0))
    film = Film(scene, (96, 64), np.zeros((SECONDS, 2, 24, 4), np.float16))
    true = StreamStage(1, 1, (12, 6), (UNASKED,))
    fewer = 0
    for i in range(20):
        plain = draw_sample([film], true, builder, (5, i))
        sample = draw_sample([film], replace(true, slips=MANY), builder, (5, i))
        assert sample.due == plain.due  # the probes are told what happened
        assert len(sample.decisions) == len(plain.decisions)
        true_words = {a.text for qa in sample.questions for a in qa.answers} | set(ACKNOWLEDGE.values())
        learned = [str(tokenizer.decode(sample.ids[s.start : s.end - 1])).strip() for s in sample.spans if not s.silent]
        assert set(learned) <= true_words
        fewer += len(plain.spans) - len(sample.spans)
    assert fewer > 20


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_an_alert_may_be_said_in_either_second_while_its_event_is_half_shown(seed):
    scene = make_scene(seed, float(SECONDS), (1.5, 3.0))
    questions = draw_questions(scene, seed, (2.0, 5.0), (0.2, 0.4, 0.4), standing=4, topics=("appear", "move"))
    steps = mix(questions, SECONDS)
    begun, hidden = unsettled(questions, steps)
    waiting = begun | hidden
    answers = {a.t: a.text for qa in questions for a in qa.answers if a.t > qa.t}
    entering = [a for a in scene.actors if a.enter in answers]
    half = {
        k
        for k in range(SECONDS)
        for a in entering
        if k + 1 < a.enter and a.shown(k + 1.0)[0] > 1e-6 and steps[k] == Step()
    }
    silent, spoken = set(begun), set(hidden)
    assert all(steps[k].reply is None for k in silent)
    assert all(steps[k].reply == hidden[k] for k in spoken)
    assert half <= silent
    assert all(steps[k].question is None and any(k + 1 <= t < k + 1.6 for t in answers) for k in silent)
    late = {k for t, text in answers.items() if (k := int(t)) + 1 - t < 0.05 and steps[k].reply == text}
    assert late <= spoken
    assert all(any(k + 0.7 <= t < k + 1 for t in answers) for k in spoken)

    said = waver(steps, waiting, np.random.default_rng(seed))
    assert sorted(map(repr, said)) == sorted(map(repr, steps))
    moved = {k for k in range(SECONDS) if said[k] != steps[k]}
    assert moved <= {k + step for k in waiting for step in (0, 1)}
    assert all(said[k].question == steps[k].question for k in moved)
    assert all(said[k + 1].kind == "alert" or said[k].kind == "alert" for k in waiting if k in moved)


def test_to_wait_for_what_is_half_shown_is_taught_and_to_have_spoken_then_is_not():
    _, tokenizer = new_model(1)
    builder = film_builder(tokenizer)
    scenes = [make_scene(seed, float(SECONDS), (1.5, 3.0)) for seed in range(8)]
    films = [Film(scene, (96, 64), np.zeros((SECONDS, 2, 24, 4), np.float16)) for scene in scenes]
    appears = Draw(((1.0, 2.0),), (0.1, 0.3, 0.6), (6,), foresight=0.95, busy=0.0, topics=("appear",))
    seen: Counter[str] = Counter()
    for i in range(100):
        sample = draw_sample(films, StreamStage(1, 1, (12, 6), (appears,)), builder, (7, i))
        begun, hidden = unsettled(sample.questions, mix(list(sample.questions), SECONDS))
        taught = {sample.first + sample.decisions.index(s.start - 1): s.silent for s in sample.spans}
        window = range(sample.first + 1, sample.first + len(sample.decisions))
        assert not taught.keys() & hidden.keys()
        for k in begun.keys() & set(window):
            spoke = bool(sample.due[k - sample.first])
            assert taught.get(k) == (None if spoke else True)
            seen["spoke" if spoke else "waited"] += 1
        judged = draw_sample(films, StreamStage(1, 1, (12, 6), (appears,)), builder, (7, i), patient=False)
        judged_seconds = {judged.first + judged.decisions.index(s.start - 1) for s in judged.spans}
        assert judged_seconds == taught.keys() - begun.keys()
    assert min(seen["spoke"], seen["waited"]) > 3


def test_silence_while_something_happens_weighs_as_the_stage_says():
    _, tokenizer = new_model(1)
    builder = film_builder(tokenizer)
    scene = make_scene(3, float(SECONDS), (3.0, 6.0))
    film = Film(scene, (96, 64), np.zeros((SECONDS, 2, 24, 4), np.float16))
    stage = StreamStage(1, 1, (12, 6), (UNASKED,), firm=0.4)
    happens = {k for e in scene.events() for k in range(SECONDS) if e.since < k + 1 and k - 1 <= e.t}
    for i in range(20):
        sample = draw_sample([film], stage, builder, (5, i))
        seconds = {s: sample.first + sample.decisions.index(s.start - 1) for s in sample.spans}
        assert {seconds[s] for s in sample.firm} == happens & set(seconds.values())
        assert set(sample.firm.values()) <= {0.4}
        targets = collate([sample], "all", 0)
        weight = dict(zip(targets.index.tolist(), targets.weight.tolist(), strict=True))
        idle, busy = ({weight[s.start] for s in sample.spans if s.silent and (s in sample.firm) == x} for x in (0, 1))
        assert len(idle) <= 1
        assert len(busy) <= 1
        if idle and busy:
            number = sum(s.silent for s in sample.spans)
            assert abs(busy.pop() / idle.pop() - 0.4 * number) < 1e-4
