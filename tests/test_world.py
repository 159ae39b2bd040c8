"""The synthetic world: seeded, its truth consistent with its script and with what is drawn."""

import json

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.world.language import ASK, EVENTS, HELD_OUT, WHEN, WHENEVER, announce, content_words, corpus
from data_pipeline.world.questions import ASKS, JUST_BEFORE, draw_questions
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import BACKGROUNDS, MAX_ACTORS, Actor, Look, Recolor, Scene, make_scene, painted
from data_pipeline.world.video import write_scene
from data_pipeline.world.vocabulary import COLORS, HELD_OUT_COLORS, KINDS, SHAPES

seeds = st.integers(0, 10**6)


@given(seeds)
@settings(max_examples=30)
def test_same_seed_same_scene_and_pixels(seed):
    a, b = make_scene(seed, 30.0), make_scene(seed, 30.0)
    assert a == b
    t = 7.3
    assert np.array_equal(Renderer(a, 96, 72).frame(t), Renderer(b, 96, 72).frame(t))


def test_frames_may_be_drawn_in_any_order():
    renderer = Renderer(make_scene(5, 20.0), 128, 96)
    forwards = [renderer.frame(t) for t in (1.0, 5.0, 9.0)]
    backwards = [renderer.frame(t) for t in (9.0, 5.0, 1.0)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))


@given(seeds, st.floats(0, 60))
@settings(max_examples=60)
def test_events_explain_every_change(seed, t):
    """Replaying the events from the start gives what is there at any time."""
    scene = make_scene(seed, 60.0)
    number = len(scene.there(0.0))
    for event in scene.events():
        if event.t <= t:
            number += {"appear": 1, "leave": -1}.get(event.type, 0)
    assert number == len(scene.there(t)) <= MAX_ACTORS


def test_a_gap_longer_than_the_scene_is_eventless():
    assert all(not make_scene(seed, 600.0, gap=(1e6, 2e6)).events() for seed in range(50))


def _color_of(picture: np.ndarray, x: float, y: float) -> str:
    h, w = picture.shape[:2]
    cy, cx = int(y * h), int(x * w)
    patch = picture[cy - 2 : cy + 3, cx - 2 : cx + 3].reshape(-1, 3).mean(0)
    return min(COLORS, key=lambda c: float(np.abs(np.array(COLORS[c]) - patch).sum()))


def test_a_recolored_shape_is_drawn_in_the_color_the_truth_names():
    actor = Actor(0, "circle", "red", 0.4, 0.0, 0.5, 0.5, 1, 0.0, 99.0, recolors=(Recolor(5.0, "blue"),))
    scene = Scene(1, 10.0, (actor,), Look())
    renderer = Renderer(scene, 160, 120)
    assert _color_of(renderer.frame(4.9), 0.5, 0.5) == "red"
    assert _color_of(renderer.frame(5.1), 0.5, 0.5) == "blue"
    assert [e.t for e in scene.events() if e.type == "recolor"] == [5.0]


@pytest.mark.parametrize("style", ["pop", "fade", "slide", "grow"])
def test_an_actor_is_seen_after_it_entered_and_not_after_it_left(style):
    actor = Actor(0, "square", "green", 0.4, 0.0, 0.5, 0.5, 1, 3.0, 7.0, style, style, 0.6)
    scene = Scene(1, 10.0, (actor,), Look(base=(90.0, 90.0, 90.0)))
    renderer = Renderer(scene, 160, 120)
    empty = renderer.frame(0.0).astype(int)

    def changed(t: float) -> float:
        return float((np.abs(renderer.frame(t).astype(int) - empty).max(2) > 40).mean())

    assert changed(2.0) == 0
    assert changed(3.3) > 0.05
    assert changed(6.5) > 0.05
    assert changed(8.0) == 0


@given(seeds, seeds)
@settings(max_examples=60)
def test_questions_are_ordered_and_their_answers_true_to_time(seed, draw):
    scene = make_scene(seed, 60.0)
    questions = draw_questions(scene, draw)
    assert questions == draw_questions(scene, draw)
    assert [q.t for q in questions] == sorted({q.t for q in questions})
    moments = {e.t for e in scene.events()}
    for qa in questions:
        assert all(a.t >= qa.t for a in qa.answers)
        if qa.type == "realtime":
            assert [a.t for a in qa.answers] == [qa.t]
        elif qa.type == "proactive":
            assert len(qa.answers) <= 1
        assert all(a.t in moments or a.t == qa.t for a in qa.answers)


@given(seeds, seeds)
@settings(max_examples=60)
def test_what_is_there_already_is_announced_at_once(seed, draw):
    """Requests that are all about what is there: each names something in the picture, and is met as it is made."""
    scene = make_scene(seed, 60.0)
    questions = draw_questions(scene, draw, types=(0.0, 1.0, 0.0), topics=("appear",), present=1.0)
    for qa in (q for q in questions if q.type == "proactive"):
        things = [a.thing_at(qa.t - JUST_BEFORE) for a in scene.there(qa.t - JUST_BEFORE)]
        if things:
            (answer,) = qa.answers
            assert answer.t == qa.t
            assert answer.text in {announce("appear", thing) for thing in things}
            named = content_words(qa.question) & {*KINDS, *COLORS}
            assert named
            assert named <= content_words(answer.text)


def test_all_three_kinds_and_all_topics_are_drawn():
    asks = (*ASKS, "so_far")
    drawn = {(q.type, q.topic) for seed in range(150) for q in draw_questions(make_scene(seed, 60.0), seed, asks=asks)}
    assert {t for kind, t in drawn if kind == "realtime"} == set(ASK)
    assert {t for kind, t in drawn if kind == "proactive"} == set(EVENTS)
    assert {t for kind, t in drawn if kind == "multi"} == {"appear", "leave", "change", "move"}


def test_held_out_wordings_are_not_among_those_trained_on():
    assert all(not set(forms) & set(ASK[topic]) for topic, forms in HELD_OUT.items())


def test_content_words_ignore_wording_but_not_meaning():
    assert content_words("I see two stars.") == content_words("two STAR!") == {"two", "star"}
    assert content_words("The colour is red") != content_words("The color is blue")
    assert content_words("I will keep watching.") == frozenset()


def test_corpus_holds_every_request_word():
    words = set(" ".join(corpus()).replace(".", " ").replace(",", " ").replace("?", " ").split())
    for form in WHEN + WHENEVER:
        assert {w.strip(".,") for w in form.split() if "{" not in w} <= words


def test_written_files_hold_the_scene(tmp_path):
    scene = make_scene(21, 6.0, gap=(1.5, 2.0))
    write_scene(scene, draw_questions(scene, 0, gap=(2, 3)), tmp_path, "s", fps=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.2fps.mp4", "s.mp4", "s.script.json", "s.truth.json"]
    truth = json.loads((tmp_path / "s.truth.json").read_text())
    assert [e["t"] for e in truth["events"]] == [e.t for e in scene.events()]
    for name, fps in (("s.mp4", 10), ("s.2fps.mp4", 2)):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
        assert len(frames) == 6 * fps
        drawn = Renderer(scene, 640, 480).frame((len(frames) - 1) / fps)
        assert np.abs(frames[-1].astype(int) - drawn).mean() < 12


@given(seeds)
@settings(max_examples=60)
def test_what_is_kept_for_tests_is_never_trained_on(seed):
    trained = make_scene(seed, 120.0, (1.0, 3.0), split="trained")
    shown = {(a.kind, c) for a in trained.actors for c in (a.color, *(r.color for r in a.recolors)) if c}
    assert not shown & set(HELD_OUT_COLORS.items())
    assert trained.look.background in BACKGROUNDS


@given(seeds, seeds)
@settings(max_examples=60)
def test_nobody_asks_for_what_is_kept_for_tests(seed, draw):
    """Where it never comes, that would teach the answer to be no."""
    scene = make_scene(seed, 60.0, split="trained")
    for qa in draw_questions(scene, draw, (1.0, 3.0), standing=9, foresight=0.2, split="trained"):
        words = content_words(qa.question)
        assert not any({kind, color} <= words for kind, color in HELD_OUT_COLORS.items())


@given(seeds)
@settings(max_examples=30)
def test_painted_shapes_are_of_two_colors_at_most_and_never_as_what_is_kept_for_tests(seed):
    scene = make_scene(seed, 12.0, (1.0, 3.0), look=Look(base=(128.0, 128.0, 128.0)), crowd=4, split="trained")
    shown = painted(scene, np.random.default_rng(seed))
    assert [(a.kind, a.enter, a.exit, a.moves) for a in shown.actors] == [
        (a.kind, a.enter, a.exit, a.moves) for a in scene.actors
    ]
    assert [a.paint is not None for a in shown.actors] == [a.kind in SHAPES for a in scene.actors]
    picture = Renderer(shown, 320, 240).frame(0.5)
    named = np.array(list(COLORS.values()))
    for actor in shown.there(0.5):
        if actor.paint is None or actor.moving(0.5):
            continue
        colors = np.array([actor.paint.first, actor.paint.second])
        kept = list(COLORS).index(HELD_OUT_COLORS[actor.kind])
        far = np.linalg.norm(colors[:, None] - named, axis=2)
        assert (far[:, kept] > 70).all()
        assert (far.argmin(1) != kept).all()
        y, x = int(actor.y * 240), int(actor.x * 320)
        inside = picture[y - 5 : y + 6, x - 5 : x + 6].astype(float)  # all of it within every shape
        assert np.abs(inside[:, :, None] - colors).max(-1).min(-1).max() < 16


def test_the_held_out_world_shows_what_is_kept_for_it():
    scenes = [make_scene(seed, 120.0, (1.0, 3.0), split="held_out") for seed in range(40)]
    assert not {scene.look.background for scene in scenes} & set(BACKGROUNDS)
    colors = [(a.kind, a.color) for scene in scenes for a in scene.actors if a.color]
    kept = sum(pair in HELD_OUT_COLORS.items() for pair in colors)
    assert 0.3 < kept / len(colors) < 0.7
    for background in {scene.look.background for scene in scenes}:
        scene = next(scene for scene in scenes if scene.look.background == background)
        look = Look(background=background, base=scene.look.base, accent=scene.look.accent)
        backdrop = Renderer(Scene(scene.seed, 1.0, (), look), 96, 72).frame(0.5)
        assert backdrop.std((0, 1)).max() > 1  # it is drawn: nothing else is in the picture
