"""Recording and running again from the command line, with an untrained model; a test made from a recording."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aura_core.recording import SUFFIX
from aura_core.recording.folder import Recordings, recordings
from aura_core.recording.format import Reader
from aura_core.ui.kept import Kept
from aura_core.ui.visit import Assistant, Visit
from tests.command_line import ROOT, TIMEOUT, app, environment, events, start
from tests.outlet import FakeOutlet
from tests.recorded import Actor, again, picture
from tests.video_files import corners, gray, write_video

DECISIONS = ("silent", "reply")


def commands(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, env=environment(), cwd=ROOT, check=False
    )


@pytest.fixture(scope="module")
def made(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """A recording of seven seconds with questions, and what was printed as it was made."""
    folder = tmp_path_factory.mktemp("app")
    pictures = [gray(i, 96, 64) if i % 20 < 10 else corners() for i in range(70)]
    video = write_video(folder / "video.mp4", pictures)
    done = app(
        "--replay", video, "--ask", "2.3:What do you see?", "--ask", "5 standing:Tell me when a cat appears.",
        "--headless", "--json", "--checkpoint", untrained, "--record", folder / f"a{SUFFIX}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return folder / f"a{SUFFIX}", events(done.stdout)


def test_it_is_written_as_the_model_saw_it(made: tuple[Path, list[dict]]) -> None:
    path, printed = made
    reader = Reader(path)
    records = list(reader)
    assert (reader.damage, reader.ended) == (None, "closed")
    assert [
        r.data["event"] for r in records if r.type == "event" and r.data["event"]["type"] in ("silent", "reply")
    ] == [line for line in printed if line["type"] in ("silent", "reply")]
    decided = [record for record in records if record.type == "decided"]
    assert all(len(record.data["tokens"]) == 64 for record in decided)
    assert [record.data["text"] for record in records if record.type == "ask"] == [
        "What do you see?", "Tell me when a cat appears.",
    ]  # fmt: skip


def test_it_runs_again_the_same(made: tuple[Path, list[dict]]) -> None:
    path, printed = made
    decisions = sum(line["type"] in DECISIONS for line in printed)
    done = app("--replay-recording", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{decisions} decisions, all the same" in done.stdout


def test_a_crash_loses_nothing_that_was_printed(untrained: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", (gray(i) for i in range(100)))
    path = tmp_path / f"a{SUFFIX}"
    with start(
        "--replay", video, "--headless", "--json", "--speed", "2", "--checkpoint", untrained, "--record", path
    ) as process:
        assert process.stdout is not None
        printed = [json.loads(process.stdout.readline()) for _ in range(4)]
        process.kill()
    done = app("--replay-recording", path, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["same"], report["ended"]) == (0, True, None)
    assert report["decisions"] >= sum(line["type"] in DECISIONS for line in printed) - 1


def test_another_checkpoint_shows_the_first_difference(made: tuple[Path, list[dict]], tmp_path: Path) -> None:
    from train.model import build

    path, _ = made
    other = build(tmp_path / "other", seed=1)
    done = app("--replay-recording", path, "--checkpoint", other)
    assert done.returncode == 1, done.stdout
    assert "changed: checkpoint" in done.stdout
    assert "decisions differ; the first, at" in done.stdout
    assert "as recorded" in done.stdout
    assert "  | <|im_start|>system" in done.stdout
    assert "<|video_pad|>x" in done.stdout
    report = json.loads(app("--replay-recording", path, "--checkpoint", other, "--json").stdout)
    assert report["same"] is False
    assert report["course"] is None
    assert report["different"] == len(report["differences"]) > 0
    assert report["prompts_different"] == 0
    assert report["first"]["prompt"]["now"] == report["first"]["prompt"]["recorded"]


def test_a_test_is_made_from_it_in_one_command(made: tuple[Path, list[dict]], tmp_path: Path) -> None:
    path, _ = made
    out = tmp_path / "test_the_fault.py"
    done = commands("-m", "aura_core.recording", "make-test", path, out)
    assert done.returncode == 0, done.stderr
    assert out.with_suffix(SUFFIX).read_bytes() == path.read_bytes()
    passed = commands("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, out)
    assert passed.returncode == 0, passed.stdout
    again = commands("-m", "aura_core.recording", "make-test", path, out)
    assert again.returncode == 1
    assert again.stderr.endswith("is there already\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--replay-recording", "none"), "none: No such file or directory"),
        (("--replay-recording", "README.md"), "README.md is not a recording"),
        (("--replay-recording", "README.md", "--record", "a"), "goes with neither"),
        (("--record", "README.md"), "README.md is not a folder"),
        (("--replay", "README.md", "--headless", "--record", "app.py"), "app.py is there already"),
        (("--record-limit", "0"), "above 0"),
    ],
)
def test_bad_usage_is_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    done = commands("app.py", *arguments)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_visit_is_recorded_and_says_so(tmp_path: Path) -> None:
    page, clock = FakeOutlet(), iter(range(10000))
    assistant = Assistant(Actor({1: ["Hello."]}), kept=Kept(Recordings(tmp_path / "new")))
    visit = Visit(assistant, page, lambda: next(clock) / 100)
    await visit.message({"type": "watch", "demo": None})
    for tick in range(8):
        visit.picture(tick / 2, picture(tick))
    await visit.message({"type": "ask", "text": "What is it?"})
    await visit.close()
    (started,) = (message for message in page.sent if message["type"] == "started")
    assert started["recording"]
    (path,) = recordings(tmp_path / "new")
    assert {record.data["what"] for record in Reader(path) if record.type == "note"} == {"page"}
    assert (await again(path, {1: ["Hello."]})).same


async def test_a_visit_goes_on_when_it_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    page = FakeOutlet()
    visit = Visit(Assistant(Actor({}), kept=Kept(Recordings(tmp_path / "file"))), page)
    await visit.message({"type": "watch", "demo": None})
    (error,) = (message["text"] for message in page.sent if message["type"] == "error")
    assert error.startswith("This is not recorded")
    await visit.message({"type": "ask", "text": "Still here?"})
    await visit.close()
    assert "question" in [message["type"] for message in page.sent]
