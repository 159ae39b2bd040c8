"""Ten sessions of different kinds, each run again twice with the same result; and one that was cut off anywhere."""

import random
from pathlib import Path
from typing import Any

import pytest

from aura_core.recording import RecordingError
from aura_core.recording.format import Reader
from aura_core.recording.report import Report
from aura_core.session import SessionConfig
from tests.recorded import FAILS, again
from tests.test_recording_replay import PIECES, QUESTIONS, live

#: What sets each of the ten apart: settings, and what happens in it besides watching.
KINDS: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("quiet", {}, []),
    ("many questions", {}, [("ask", QUESTIONS[0], None)] * 12),
    ("standing requests", {}, [("ask", QUESTIONS[2], True), ("stop", 2), ("ask", QUESTIONS[1], None), ("stop", 1)] * 3),
    ("talked over", {}, [("ask", QUESTIONS[0], False), ("speak", 1), ("interrupt", "It"), ("interrupt", None)] * 4),
    ("small window", {"n": 2, "n_extra": 1, "m": 1}, [("ask", QUESTIONS[0], None), ("ask", QUESTIONS[1], True)] * 3),
    ("too slow", {"max_waiting": 1, "max_questions": 1}, [("feed", 3.0), ("ask", QUESTIONS[0], None)] * 4),
    ("no early close", {"early_close": False, "prewarm": False}, [("ask", QUESTIONS[0], None)] * 5),
    ("gaps", {}, [("feed", 30.0), ("ask", QUESTIONS[1], None), ("feed", 700.0)]),
    ("requests expire", {"request_lifetime": 2.0}, [("ask", QUESTIONS[2], True)] * 4),
    (
        "all at once",
        {"n": 3, "n_extra": 2},
        [("ask", QUESTIONS[2], None), ("interrupt", ""), ("stop", 1), ("speak", 3)] * 5,
    ),
]


async def record(path: Path, number: int) -> dict[int, list[str]]:
    """Record the session of this number; what its model says, by chunk."""
    _, settings, acts = KINDS[number]
    chance = random.Random(number)
    script = {chunk: chance.choices(PIECES, k=3) for chunk in range(60) if chance.random() < 0.4}
    if number < 3:
        script = {chunk: [piece for piece in pieces if piece != FAILS] for chunk, pieces in script.items()}
    course: list[Any] = [("feed", 0.5)] * 40 + [("speak", 2)] * 20 + [("wait", 3)] * 10 + [("idle",)] * 6 + acts
    chance.shuffle(course)
    await live(path, script, SessionConfig(**settings), course, drain=number % 2 == 0, by_clock=number % 3 == 0)
    return script


def outcomes(report: Report) -> list[Any]:
    return [(o.chunk, o.t, o.recorded, o.now, o.same, o.same_prompt) for o in report.outcomes]


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind for kind, _, _ in KINDS])
async def test_it_runs_again_twice_the_same(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    script = await record(path, number)
    first, second = await again(path, script), await again(path, script)
    assert first.same, first.lines()
    assert second.same, second.lines()
    assert outcomes(first) == outcomes(second)
    assert first.skipped == second.skipped
    assert len(first.outcomes) > 5


async def test_cut_off_at_200_places_it_runs_again_up_to_there(tmp_path: Path) -> None:
    path, cut = tmp_path / "a", tmp_path / "cut"
    script = await record(path, 9)
    content, whole = path.read_bytes(), outcomes(await again(path, script))
    header = next(size for size in range(len(content)) if _records(cut, content[:size]))
    chance, compared = random.Random(0), 0
    for length in sorted(chance.sample(range(1, len(content)), 200)):
        cut.write_bytes(content[:length])
        if length < header:
            with pytest.raises(RecordingError):
                await again(cut, script)
            continue
        report = await again(cut, script)
        assert report.course is None, report.lines()
        assert report.different == [], report.lines()
        found = outcomes(report)
        assert found == whole[: len(found)]
        compared += len(found)
    assert compared > 200


def _records(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    try:
        return len(list(Reader(path)))
    except RecordingError:
        return 0
