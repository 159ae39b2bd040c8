"""OVO-Bench: its file, its prompts, and its lenient scorer."""

from pathlib import Path

import pytest

from evals.benchmark import AnnotationError, Record, Reply
from evals.ovobench import OVOBench, Probe, load
from tests.annotations import OVOBENCH, Asked, item, records, write


@pytest.fixture
def bench(tmp_path: Path) -> OVOBench:
    return load([write(tmp_path, {"bench": OVOBENCH})])


def test_the_official_annotations_have_3035_prompts(shared: Path):
    result = load([shared / "benchmarks"]).score({})
    assert {task: count.total for task, count in result.tasks.items()} == {
        "OCR": 149, "ACR": 109, "ATR": 116, "STU": 178, "FPD": 101, "OJR": 184,
        "EPM": 297, "ASI": 148, "HLD": 186, "REC": 698, "SSR": 629, "CRR": 240,
    }  # fmt: skip
    assert result.overall.total == 3035


@pytest.mark.parametrize(("truth", "reply", "right"), [
    ("A", "A", True), ("A", "a", False), ("A", "", False), ("A", "The answer is (A).", True), ("C", "B", False),
    ("A", "All of them: B", True),  # lenient: any capital A will do
    ("12", "12", True), ("12", "1 or 2", True), ("12", "12.0", False), ("2", "Twice", False), ("0", "", False),
    ("1", "They did it 1 time.", True), ("1", "1 in 10 s", False),
    ("Yes", "Yes.", True), ("Yes", "yes", False), ("Yes", "Y", True), ("Yes", "Y.", False), ("No", "N", True),
    ("No", "Yes. No.", True), ("Yes", "Yes. No.", True), ("No", "Not now", True), ("No", "None", True),
    ("Yes", "N", False), ("No", "", False),
])  # fmt: skip
def test_replies_are_read_leniently(truth: str, reply: str, right: bool):
    assert Probe(0.0, "", truth).right(reply) is right


def test_groups_are_means_of_tasks_and_the_whole_a_mean_of_groups(bench: OVOBench):
    result = bench.score(records(bench, ["B"], ["B"], ["1", "12"], ["Yes", "Yes"], ["Yes", ""]))
    assert {task: (c.correct, c.total) for task, c in result.tasks.items()} == {
        "OCR": (0, 1), "EPM": (1, 1), "REC": (2, 2), "SSR": (1, 2), "CRR": (0, 2),
    }  # fmt: skip
    assert {group: score.accuracy for group, score in result.groups.items()} == {"RTVP": 0.0, "BT": 1.0, "FAR": 0.5}
    assert result.overall.accuracy == pytest.approx(0.5)
    assert (result.overall.correct, result.overall.total) == (4, 8)
    assert result.details["mean of the tasks"].accuracy == pytest.approx(0.5)


def test_always_the_first_letter_is_right_by_chance_only(bench: OVOBench):
    result = bench.score({item.id: Record(item.id, (Reply(0, "A"),)) for item in bench.items})
    assert [count.correct for count in result.tasks.values()] == [1, 0, 0, 0, 0]


def test_missing_replies_are_wrong(bench: OVOBench):
    assert bench.score({}).overall.accuracy == 0
    result = bench.score({"2": Record("2", (Reply(5, "1"),))})
    assert result.tasks["REC"] == bench.items[2].count(Record("2", (Reply(5, "1"),)))
    assert (result.tasks["REC"].correct, result.tasks["REC"].total) == (1, 2)


async def test_prompts_come_at_the_end_of_their_seconds(bench: OVOBench):
    ask = Asked("A")
    assert (await item(bench, "EPM").official(ask, 400.0)).replies == (Reply(21.5, "A"),)
    assert ask.calls[0][:2] == (
        "Question: Who?\nOptions:\nA. x; B. y;\n"
        "Reply with the letter of the right option (A, B, C ...) and nothing else.",
        22,
    )
    await item(bench, "REC").official(ask, 8.5)
    assert [t for _, t, _, _ in ask.calls[1:]] == [5, 8.5], "never after the end"
    assert "How many times did they jump?" in ask.calls[1][0]


def test_a_stream_is_asked_in_time_and_recorded_in_the_order_of_the_file(bench: OVOBench):
    steps = item(bench, "SSR")
    puts = steps.schedule(100.0)
    assert [put.t for put in puts] == [26, 30]
    assert "fry" in puts[0].text
    heard = [(puts[0], [Reply(26, "No")]), (puts[1], [Reply(30, ""), Reply(31, "Yes")])]
    assert steps.record(heard).replies == (Reply(31, "Yes"), Reply(26, "No"))
    assert steps.record(heard[:1]).replies == (Reply(30, ""), Reply(26, "No"))


@pytest.mark.parametrize("value", [[{"id": 0, "task": "XXX"}], [{"task": "REC"}], ["text"], [OVOBENCH[0], OVOBENCH[0]]])
def test_what_is_no_annotation_is_refused(tmp_path: Path, value: list):
    write(tmp_path, {"bench": value})
    with pytest.raises(AnnotationError):
        load(sorted(tmp_path.iterdir()))
