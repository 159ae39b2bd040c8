"""The timeliness benchmark through the real session: every player has the figures, and the vice, that it should have.

The players here are backed by the oracle, so nothing is rendered and no model is loaded.
"""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil
import pytest

from aura_core.engines.base import EngineError
from aura_core.events import Reply
from aura_core.profiles import PROFILES
from aura_core.session import SessionConfig
from data_pipeline.world.language import content_words
from data_pipeline.world.render import Renderer
from data_pipeline.world.vocabulary import NUMBERS
from evals.__main__ import main
from evals.baselines import Player, check_name, needs_model, open_player
from evals.report import summary
from evals.streams import SIZE, STRETCHES, Draw, Film, Plan, make_stream
from evals.timeliness import Played, figures, play, play_draw, run, transcript
from evals.workers import play_all
from tests.command_line import ROOT, left_behind, wait_for

PLAN = Plan(seed=7, hours=0.5, memory=(1.0, 5.0), drift=0.5, so_far=4)


@cache
def made(name: str) -> dict:
    return figures(play_all(PROFILES["nano"], PLAN, [name], processes=1)[name])


# Streams


def test_the_main_streams_are_those_that_earlier_figures_were_measured_with():
    def digest(seed: int, index: int) -> str:
        stream = make_stream(seed, index)
        told = repr((stream.scene, stream.questions, stream.seconds))
        told = re.sub(r", (paint|since)=(None|[\d.]+)", "", told)  # fields of later
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    assert [digest(0, index) for index in range(4)] == [
        "9575f144e6606441", "1c9f6ff572710182", "a18415f60e4d1454", "546d0393f6551106"
    ]  # fmt: skip
    assert (digest(1, 0), digest(4711, 5)) == ("6e6e513487a93b18", "610391a19b0d0614")


def test_a_plan_counts_only_main_streams_into_its_hours():
    draws = list(Plan(3, 0.25, memory=(1.0, 10.0), probes=3, drift=2.0).draws())
    assert sum(draw.seconds for draw in draws if draw.part == "main") == 900
    assert [(draw.length, draw.kind) for draw in draws if draw.part == "memory"] == [
        (minutes, stretch) for minutes in (1.0, 10.0) for stretch in (*STRETCHES, STRETCHES[0])
    ]
    assert [draw.seconds for draw in draws if draw.part == "drift"] == [7200]


@pytest.mark.parametrize("index", range(8))
def test_a_probe_is_a_request_a_stretch_and_an_event(index: int):
    draw = Draw("memory", 5, index, 5.0)
    stream = draw.stream()
    assert stream == draw.stream()
    request, *others = stream.questions
    due = request.answers[0].t
    assert 300 <= due - request.t <= 301
    assert due + 3 <= stream.seconds == draw.seconds
    events = stream.scene.events()
    assert [event.t for event in events if event.type == "appear"][-1] == due
    before = [event for event in events if event.t < due]
    assert all(event.thing.kind not in request.question for event in before)
    if draw.kind == "eventless":
        assert not before
        assert not others
    else:
        assert len(before) > 5
        assert len(others) > 15  # far more than the history keeps
        assert all(qa.type == "realtime" for qa in others)


def test_a_long_stream_asks_for_the_same_in_all_of_its_parts():
    stream = Draw("drift", 2, 0, 7200.0).stream()
    for quarter in range(4):
        qas = [qa for qa in stream.questions if quarter * 1800 <= qa.t < (quarter + 1) * 1800]
        assert sum(qa.type == "realtime" for qa in qas) > 20
        assert any(qa.answers for qa in qas if qa.type == "proactive")
    for qa in stream.questions:  # no more open requests than a session remembers
        opened = [q for q in stream.questions if q.type != "realtime" and q.t <= qa.t]
        assert sum(q.type == "multi" or not q.answers or q.answers[0].t > qa.t for q in opened) <= 8


def test_a_film_shows_what_the_scene_shows():
    stream = Draw("drift", 2, 0, 400.0).stream()
    film, renderer = Film(stream), Renderer(stream.scene, *SIZE)
    for t in (0.46, 59.96, 60.46, 185.0, 399.46):
        assert (film.frame(t) == renderer.frame(t)).all()


@pytest.mark.parametrize("index", range(6))
async def test_so_far_is_what_has_been_told_since_it_was_asked_for(index: int):
    """The truth comes from the script; who listened to a perfect player would count the same."""
    draw = Draw("so_far", 11, index, 150.0)
    stream = draw.stream()
    events = await play(open_player("oracle", stream, None), stream, SessionConfig())
    request, *others = [qa for qa in stream.questions if qa.type == "multi"]
    assert not others
    wanted = content_words(request.question)
    asked = [qa for qa in stream.questions if qa.topic == "so_far"]
    assert asked
    for qa in asked:
        heard = [e for e in events if isinstance(e, Reply) and e.kind == "alert" and request.t < e.t < qa.t]
        assert all(wanted <= content_words(e.text) for e in heard)
        assert NUMBERS[len(heard)] in content_words(qa.answers[0].text)
        assert wanted <= content_words(qa.answers[0].text)


# Players


def test_the_oracle_is_perfect():
    got = made("oracle")
    for key in ("question_accuracy", "alert_hit_rate", "silence_accuracy", "acknowledged"):
        assert got[key] == 1.0
    for key in ("early_alerts", "repeated_alerts", "wrong_alerts", "false_alerts", "false_alerts_per_hour", "errors"):
        assert got[key] == 0
    assert got["counts"]["alerts_due"] > 10
    assert 0 < got["alert_delay_p50"] <= 1.0  # it speaks at the end of the second of the event
    assert got["alert_delay_p95"] <= 3.0
    assert all(row["hit"] == row["due"] == 1 for row in got["memory"])
    assert got["so_far"]["correct"] == got["so_far"]["total"] > 10
    assert got["drift"]["change"] == dict.fromkeys(got["drift"]["change"], 0.0)
    assert got["generations_per_second"] == 1.0


def test_silence_misses_everything():
    got = made("silent")
    assert (got["question_accuracy"], got["alert_hit_rate"], got["silence_accuracy"]) == (0.0, 0.0, 1.0)
    assert (got["false_alerts"], got["alert_delay_p50"], got["generations_per_second"]) == (0, None, 0.0)
    assert got["so_far"]["accuracy"] == 0.0
    assert all(row["hit"] == 0 for row in got["memory"])


def test_captions_are_true_and_not_wanted():
    got = made("caption-every-5:oracle")
    assert got["question_accuracy"] == 1.0
    assert got["silence_accuracy"] < 0.85
    assert got["false_alerts_per_hour"] > 100
    assert got["alert_hit_rate"] < 0.7
    assert got["by_density"]["eventless"]["false_alerts_per_hour"] > 100
    assert made("caption-every-20:oracle")["silence_accuracy"] > got["silence_accuracy"]


def test_asking_every_second_repeats_itself_and_costs():
    got = made("ask-every-second:oracle")
    assert (got["question_accuracy"], got["alert_hit_rate"]) == (1.0, 1.0)
    assert got["repeated_alerts"] > 3 * got["counts"]["alerts_due"]
    assert got["silence_accuracy"] < 0.9
    assert got["generations_per_second"] > 1.2
    assert all(row["hit"] == 1 for row in got["memory"])


def test_the_last_frames_alone_forget_what_was_asked():
    got = made("recency-4:oracle")
    assert (got["question_accuracy"], got["silence_accuracy"]) == (1.0, 1.0)
    events = [counts for kind, counts in got["alerts_by_kind"].items() if kind != "present"]
    assert sum(counts["hit"] for counts in events) < 0.2 * sum(counts["due"] for counts in events)
    assert all(row["hit"] == 0 for row in got["memory"])
    assert made("recency-60:oracle")["alert_hit_rate"] > got["alert_hit_rate"]


async def test_a_context_that_forgets_is_seen_in_the_probes(monkeypatch: pytest.MonkeyPatch):
    """The oracle reads its requests from the prompt. Without pins they are cut where much else is asked."""
    monkeypatch.setattr("aura_core.context.Context.pin", lambda self, question_id: None)
    played = [await play_draw(Draw("memory", 7, i, 5.0), "oracle", None, SessionConfig()) for i in range(2)]
    assert [(row["stretch"], row["hit"]) for row in figures(played)["memory"]] == [("eventless", 1), ("busy", 0)]


@pytest.mark.parametrize("name", ["oracle", "silent", "caption-every-5", "recency-8:oracle", "ask-every-second"])
def test_names_of_baselines(name: str):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "model", "caption-every-0", "recency", "silent:oracle", "oracle:nano"])
def test_other_names(name: str):
    with pytest.raises(ValueError, match="no baseline"):
        check_name(name)


def test_who_needs_the_model():
    needing = ["model", "recency-4", "caption-every-5", "ask-every-second"]
    assert [name for name in (*needing, "silent", "oracle", "recency-4:oracle") if needs_model(name)] == needing


class Broken(Player):
    """A server that is down."""

    async def reply(self, messages):
        raise EngineError("connection refused")


async def test_a_model_that_never_answers_is_an_error_and_not_a_silent_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("evals.timeliness.open_player", lambda *_: Broken())
    with pytest.raises(EngineError, match="connection refused"):
        await play_draw(Draw("main", 0, 0, 20.0), "model", None, SessionConfig())


# Runs


def test_two_runs_agree_whatever_the_number_of_processes():
    plan = Plan(seed=1, hours=0.15, memory=(0.5,))
    names = ["oracle", "caption-every-5:oracle"]
    one, two = (play_all(PROFILES["nano"], plan, names, processes=n) for n in (1, 2))
    assert list(two) == names
    assert one == two


def test_a_run_in_this_process_has_the_same_figures():
    got = asyncio.run(run(None, SessionConfig(), seed=1, hours=0.1, name="oracle"))
    played = play_all(PROFILES["nano"], Plan(seed=1, hours=0.1), ["oracle"], processes=1)["oracle"]
    assert got.pop("wall_s") >= 0
    assert got == {"seed": 1, **figures(played)}


async def test_a_transcript_tells_what_was_due_and_said():
    draw = Draw("main", 0, 0, 60.0)
    stream = draw.stream()
    events = await play(open_player("oracle", stream, None), stream, SessionConfig())
    lines = transcript(Played(draw, [], events, 0)).splitlines()
    assert lines[0] == "main stream 0 of seed 0, packed, 60 s"
    truth = next(qa for qa in stream.questions if qa.type == "realtime")
    at = f"{truth.t:8.2f} "
    assert [line.removeprefix(at) for line in lines if line.startswith(at)] == [
        f"question {truth.question}", f"truth    {truth.answers[0].text}", f"reply    {truth.answers[0].text}"
    ]  # fmt: skip


def command(*arguments: str) -> int:
    short = ("--seed", "1", "--hours", "0.1", "--memory", "0.5", "--processes", "1", "--baselines-only")
    return main(["timeliness", *short, *arguments])


def test_the_command_prints_json_and_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "new" / "report"
    chosen = ("--baseline", "oracle", "--baseline", "recency-4:oracle", "--drift", "0.1")
    assert command(*chosen, "--json", "--report", str(folder)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seed"] == 1
    assert {"alert_hit_rate", "alert_delay_p95", "counts"} <= result["baselines"]["oracle"].keys()
    text = (folder / "report.md").read_text()
    assert summary(result) in text
    names = ["delay.png", "drift.png", "memory.png", "questions.png", "report.md"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert all(f"({name})" in text for name in names[:-1])


def test_the_command_shows_what_was_said(capsys: pytest.CaptureFixture[str]):
    assert command("--baseline", "oracle", "--show") == 0
    printed = capsys.readouterr()
    assert "oracle, main stream 0 of seed 1" in printed.err
    assert "silent when nothing is due" in printed.out


def test_killed_it_leaves_no_process_behind():
    command = ("timeliness", "--baselines-only", "--baseline", "oracle", "--hours", "20", "--processes", "2")
    run = subprocess.Popen([sys.executable, "-m", "evals", *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    parent, children = psutil.Process(run.pid), 3  # what plays, and what multiprocessing tidies up with
    try:
        wait_for(lambda: len(parent.children()) == children)
    finally:
        alive = left_behind(run, parent.children())
    assert not alive


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(
        ["timeliness", "--checkpoint", str(tmp_path), "--hours", "0.01", "--memory", "none", "--processes", "1"]
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(tmp_path) in line
    (tmp_path / "file").write_text("")
    assert command("--baseline", "silent", "--report", str(tmp_path / "file" / "report")) == 1
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [(), ("--baseline", "gpt"), ("--baseline", "oracle", "--hours", "0"), ("--memory", "1,x"), ("--processes", "0")],
)
def test_wrong_usage(arguments: tuple[str, ...]):
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2
