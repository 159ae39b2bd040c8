"""StreamingBench: its files, its procedure, and its scorer with all its corners."""

import json
from pathlib import Path

import pytest

from evals.benchmark import AnnotationError, Put, Record, Reply
from evals.streamingbench import FIRST_PROACTIVE, GROUPS, Alert, StreamingBench, load, seconds
from tests.annotations import STREAMINGBENCH, Asked, alert, item, part, records, write

ALERT = Alert("a", "v.mp4", 20, 'When he scores, output "goal".', 23, "goal")


@pytest.fixture
def bench(tmp_path: Path) -> StreamingBench:
    return load([write(tmp_path, STREAMINGBENCH)])


def accuracy(bench: StreamingBench, reply: str) -> dict[str, float]:
    result = bench.score({item.id: Record(item.id, (Reply(0.0, reply),)) for item in bench.items})
    return {task: count.accuracy for task, count in result.tasks.items()}


def test_the_official_annotations_have_4500_questions(shared: Path):
    result = load([shared / "benchmarks"]).score({})
    counts = [367, 128, 317, 306, 161, 321, 108, 246, 353, 193] + [250] * 8
    assert {task: count.total for task, count in result.tasks.items()} == dict(
        zip([task for tasks in GROUPS.values() for task in tasks], counts, strict=True)
    )
    assert {group: score.total for group, score in result.groups.items()} == {"RTVU": 2500, "OSU": 1000, "CU": 1000}
    assert (result.overall.correct, result.overall.total) == (0, 4500)


def test_averages_are_weighted_by_samples(bench: StreamingBench):
    result = bench.score(records(bench, ["A"], ["A"], ["C. c"], ["D"], [], ["B"], ["goal"], t=25.0))
    assert {task: (count.correct, count.total) for task, count in result.tasks.items()} == {
        "OP": (1, 1), "CT": (1, 2), "ER": (1, 1), "SQA": (1, 2), "PO": (1, 1),
    }  # fmt: skip
    assert result.groups["RTVU"].accuracy == pytest.approx(2 / 3)
    assert result.overall.accuracy == pytest.approx(5 / 7)
    assert result.details["SQA of those answered"].accuracy == 1, "the official scorer leaves silence out"
    assert result.notes == ("1 of 7 items are silent (SQA 1); counted wrong",)


@pytest.mark.parametrize("reply", ["", "a", " A", "\nA", "(A)", "The answer is A", "[A]"])
def test_only_the_first_character_counts_as_it_is(bench: StreamingBench, reply: str):
    assert accuracy(bench, reply)["OP"] == 0


@pytest.mark.parametrize("reply", ["A", "A.", "A. a", "An answer"])
def test_and_it_is_enough(bench: StreamingBench, reply: str):
    assert accuracy(bench, reply)["OP"] == 1


def test_nothing_said_is_all_wrong(bench: StreamingBench):
    result = bench.score({})
    assert result.overall.accuracy == 0
    assert "7 of 7 items have no prediction" in result.notes[0]


@pytest.mark.parametrize(("t", "text", "in_time", "right"), [
    (21, "goal", True, True), (25, "a goal!", True, True), (26, "goal", False, False), (20.9, "goal", False, False),
    (23, "Goal", True, False), (23, "", True, False),
])  # fmt: skip
def test_an_alert_has_two_seconds_and_its_text_another_rule(t: float, text: str, in_time: bool, right: bool):
    record = Record("a", (Reply(21, "no"), Reply(t, text)))
    assert (ALERT.in_time(record), ALERT.right(record)) == (in_time, right)


async def test_polling_stops_at_the_first_yes_and_asks_once_more():
    ask = Asked("No.", "no", "Yes!", "goal")
    record = await ALERT.official(ask, 60.0)
    assert record.replies == (Reply(23, "goal"),)
    assert [(t, start) for _, t, start, _ in ask.calls] == [(21, 20), (22, 20), (23, 20), (23, 20)]
    assert 'output "goal"?' in ask.calls[2][0]
    assert "moment" not in ask.calls[3][0]


async def test_polling_gives_up_four_seconds_late():
    ask = Asked()
    assert (await ALERT.official(ask, 60.0)).replies == ()
    assert [t for _, t, _, _ in ask.calls] == [21, 22, 23, 24, 25, 26, 27]


def test_a_stream_is_told_once_and_its_first_alert_counts():
    (put,) = ALERT.schedule(60.0)
    assert put == Put(20, ALERT.question, standing=True)
    heard = [Reply(21, "Okay, I will let you know."), Reply(24, "goal"), Reply(40, "goal again")]
    assert ALERT.record([(put, heard)]).replies == (Reply(24, "goal"),)
    assert ALERT.record([(put, heard[:1])]).replies == ()


async def test_a_question_is_asked_once_with_its_options(bench: StreamingBench):
    ask = Asked("B")
    question = bench.items[1]
    assert (await question.official(ask, 600.0)).replies == (Reply(65, "B"),)
    ((prompt, t, start, opening),) = ask.calls
    assert (t, start, opening) == (65, 0.0, None)
    assert prompt.endswith("Question: How many?\n\nOptions:\nA. a\nB. b\nC. c\nD. d\n\nThe best option is:")


async def test_sequential_questions_are_told_the_true_answers_before(bench: StreamingBench):
    ask = Asked("C", "C")
    first, second = [question for question in bench.items if question.task == "SQA"]
    await first.official(ask, 600.0)
    await second.official(ask, 600.0)
    assert "Who serves?" in ask.calls[0][0]
    assert "Answer: A" not in ask.calls[0][0]
    earlier = "At 00:00:10: Question: Who serves?; Options: A. a, B. b, C. c, D. d; Answer: A; "
    assert earlier in ask.calls[1][0]
    (put,) = second.schedule(600.0)
    assert "Answer: A" not in put.text, "a stream remembers by itself"


def test_the_first_thing_said_is_the_answer(bench: StreamingBench):
    question = bench.items[0]
    (put,) = question.schedule(600.0)
    assert question.record([(put, [Reply(5, ""), Reply(6, "A"), Reply(7, "B")])]).replies == (Reply(6, "A"),)


def test_options_get_letters_and_those_torn_apart_are_cut_to_four(tmp_path: Path):
    row = {
        "task_type": "Counting",
        "question": "?",
        "time_stamp": "0:01",
        "answer": "A",
        "options": [*"wxyz", "!"],
    }
    question = load([write(tmp_path, {"q": [part("v", row)]})]).items[0]
    assert "Options:\nA. w\nB. x\nC. y\nD. z\n\n" in question.schedule(9.0)[0].text


def test_times_are_read_as_the_benchmark_reads_them():
    assert [seconds(text) for text in ("00:01:05", "0:06:36", "00:24", "00:00:8")] == [65, 396, 24, 8]


def test_two_questions_at_one_time_stay_two(tmp_path: Path):
    rows = [part("v", STREAMINGBENCH["questions_real"][0]["questions"][0])] * 2
    assert [item.id for item in load([write(tmp_path, {"q": rows})]).items] == ["v/00:00:05", "v/00:00:05/2"]


def test_a_file_given_twice_counts_once(tmp_path: Path):
    folder = write(tmp_path, {name: STREAMINGBENCH["questions_real"] for name in ("real", "real_stream")})
    bench = load([folder])
    assert len(bench.items) == 3
    assert "3 questions" in bench.notes[0]


def test_the_first_edition_of_po_is_noted(tmp_path: Path):
    rows = [part(f"v{i}", alert("00:00:01", "00:00:09")) for i in range(FIRST_PROACTIVE)]
    result = load([write(tmp_path, {"q": rows})]).score({})
    assert result.tasks["PO"].total == FIRST_PROACTIVE
    assert "first edition" in result.notes[0]


def test_a_trial_says_that_it_is_one(bench: StreamingBench):
    trial = bench.only({item(bench, "PO").id})
    assert trial.score({}).overall.total == 1
    assert trial.notes == ("only 1 of 7 items",)
    assert bench.only({item.id for item in bench.items}) is bench


@pytest.mark.parametrize(
    "content", ["{}", "[]", "nonsense", '[{"video": "a.mp4"}]', '[{"questions": [{}], "video_path": ""}]']
)
def test_what_is_no_annotation_is_refused_in_one_line(tmp_path: Path, content: str):
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(AnnotationError) as error:
        load([file])
    assert "\n" not in str(error.value)
    with pytest.raises(AnnotationError):
        load([tmp_path / "absent.json"])


def test_records_survive_their_file():
    record = Record("a", (Reply(1.5, "A"), Reply(2.0, "")))
    assert Record.from_json(json.loads(json.dumps(record.to_json() | {"seconds": 3}))) == record
    for broken in ({}, None, [], {"id": 1, "replies": []}, {"id": "a", "replies": [{"t": 1, "text": None}]}):
        with pytest.raises(ValueError, match="not a record"):
            Record.from_json(broken)
