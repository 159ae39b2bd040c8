"""The data engine as its users run it: one command over a folder of videos, with a server that answers badly.

Right counts, reasons for what is left out, and the same rows when it is killed in the middle, whenever that is.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import dataset
from data_pipeline.__main__ import main
from data_pipeline.world.scene import make_scene
from data_pipeline.world.video import write_video as write_scene_video
from tests.command_line import ROOT, TIMEOUT, environment
from tests.fake_llm import FakeLlm, Faults
from tests.video_files import gray, write_video

BAD_DAY = Faults(malformed=4, too_many=5, broken=6, late=45, late_seconds=20.0)
RESULTS = ("videos.jsonl", "2-synthesis.jsonl", "3-refinement.jsonl", "4-structuring.jsonl", "samples.jsonl",
           "rejected.jsonl")  # fmt: skip


def command(videos: Path, out: Path, url: str, *more: object) -> list[str]:
    flags = ["--llm-url", url, "--llm-model", "fake", "--timeout", "4", "--retry-wait", "0.01", "--concurrency", "4"]
    arguments = ["--videos", videos, "--out", out, *flags, *more]
    return [sys.executable, "-m", "data_pipeline", "run", *map(str, arguments)]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(videos: Path, out: Path, url: str, *more: object) -> "subprocess.CompletedProcess[str]":
    process = start(command(videos, out, url, *more))
    output, errors = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def results(out: Path) -> dict[str, str]:
    return {name: (out / name).read_text() for name in RESULTS}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered clip of the world, real footage where there is some, and what a folder of videos also holds."""
    folder = tmp_path_factory.mktemp("videos")
    write_scene_video(make_scene(5, 16.0), folder / "world.mp4", fps=4, size=(160, 120))
    real = ROOT.parent / "shared" / "media" / "nasa_13013.mp4"
    (folder / "documentary").mkdir()
    if real.is_file():
        (folder / "documentary" / real.name).symlink_to(real)
    (folder / "game").mkdir()
    (folder / "game" / "copy of world.mp4").write_bytes((folder / "world.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes((folder / "world.mp4").read_bytes()[:3000])
    write_video(folder / "short.mov", (gray(i) for i in range(20)))
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, FakeLlm, str]]:
    """A run on a bad day that nobody kills: its folder, what the server saw, and what was printed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with FakeLlm(BAD_DAY) as server:
        done = run(videos, out, server.url)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
        yield out, server, done.stdout


def test_all_five_stages_with_the_right_counts(undisturbed: tuple[Path, FakeLlm, str]) -> None:
    out, _, printed = undisturbed
    prepared = rows(out, "videos.jsonl")
    n = len(prepared)
    assert n == 1 + ("documentary" in {video["domain"] for video in prepared})
    assert {video["source"]: video["domain"] for video in prepared}["game/copy of world.mp4"] == "game"
    for video in prepared:
        assert video["frames"] == 2 * video["duration_s"]
        assert (out / video["path"]).is_file()

    found = rows(out, "2-synthesis.jsonl")
    # the fake proposes six real-time candidates (three of them right), one right and two wrong proactive ones, and in
    # each of two scenes one right and one wrong request with two right answers and a wrong one
    assert Counter(qa["type"] for qa in found) == {"realtime": 3 * n, "proactive": n, "multi": 2 * n}
    assert {len(qa["answers"]) for qa in found if qa["type"] == "multi"} == {2}
    refined = rows(out, "3-refinement.jsonl")
    hard = [qa for qa in rows(out, "rejected.jsonl") if qa["stage"] == "refinement"]
    assert len(refined) + len(hard) == len(found)
    questions = Counter(qa["type"] for qa in refined)
    structured = rows(out, "4-structuring.jsonl")
    # an answer of each real-time question; an acknowledgement and the answers of each request
    assert len(structured) == questions["realtime"] + 2 * questions["proactive"] + 3 * questions["multi"]
    kept = rows(out, "samples.jsonl")
    not_kept = [row for row in rows(out, "rejected.jsonl") if row["stage"] == "verification"]
    assert len(kept) + len(not_kept) == len(structured)
    assert len(not_kept) == sum(qa["level"] == 4 for qa in refined)  # the fake answers those with something invisible
    assert len({sample["sample_id"] for sample in structured}) == len(structured)
    assert f"samples kept: {len(kept)} (" in printed


def test_what_is_wrong_is_rejected_with_its_reason(undisturbed: tuple[Path, FakeLlm, str]) -> None:
    out, _, _ = undisturbed
    n = len(rows(out, "videos.jsonl"))
    rejected = rows(out, "rejected.jsonl")
    reasons = Counter((row["stage"], row["reason"]) for row in rejected if row["stage"] in ("preparation", "synthesis"))
    assert reasons == {
        ("preparation", "broken"): 1,
        ("preparation", "too-short"): 1,
        ("preparation", "duplicate"): 1,
        ("synthesis", "answer_supported"): n,
        ("synthesis", "malformed"): n,
        ("synthesis", "refused"): n,
        ("synthesis", "times"): 2 * n,
        ("synthesis", "time_accurate"): n,
        ("synthesis", "inferable_at_that_time"): 2 * n,
        ("synthesis", "several_answers"): 2 * n,
    }
    assert all(row["detail"] and str(ROOT) not in row["detail"] for row in rejected)


def test_the_bad_day_happened_and_every_call_is_on_record(undisturbed: tuple[Path, FakeLlm, str]) -> None:
    out, server, _ = undisturbed
    statuses = Counter(seen.status for seen in server.seen)
    assert all(statuses[status] > 0 for status in (200, 400, 429, 500))
    calls = [json.loads(line) for path in sorted(out.glob("calls/*/*.jsonl")) for line in path.open()]
    assert len({call["key"] for call in calls}) == len(calls)
    for call in calls:
        assert call["prompt"]
        assert call["prompt_version"]
        assert call["model"] == "fake"
        assert isinstance(call["seed"], int)
        assert "refused" in call or call["usage"]["prompt"] == 100
    assert any(call["attempt"] == 2 for call in calls)  # malformed, asked again
    (totals,) = json.loads((out / "summary.json").read_text())["calls"].values()
    assert totals["calls"] == len(calls)
    assert totals["retries"] > 0


def test_no_picture_after_the_answer_was_sent_to_its_check(undisturbed: tuple[Path, FakeLlm, str]) -> None:
    _, server, _ = undisturbed
    checks = [seen for seen in server.seen if seen.schema in ("RealtimeCheck", "ProactiveCheck", "AnswerCheck")]
    assert checks
    for seen in checks:
        said = [int(word) for line in seen.text.splitlines()[:2] for word in _seconds(line)]
        assert seen.pictures == len(seen.times)
        assert seen.times[-1] == max(said) - 0.5


def _seconds(line: str) -> list[str]:
    words = line.split()
    return [b.strip(",.") for a, b in pairwise(words) if a.lower() == "second"]


def test_a_finished_run_asks_nothing_more(videos: Path, undisturbed: tuple[Path, FakeLlm, str]) -> None:
    out, server, printed = undisturbed
    before = results(out), len(server.seen)
    again = run(videos, out, server.url)
    assert (again.returncode, again.stdout) == (0, printed)
    assert (results(out), len(server.seen)) == before


def test_killed_three_times_it_ends_with_the_same_rows(
    videos: Path, undisturbed: tuple[Path, FakeLlm, str], tmp_path: Path
) -> None:
    whole, undisturbed_server, _ = undisturbed
    total = len(undisturbed_server.seen)
    out = tmp_path / "out"
    kills = [total // 5, total // 2, total * 4 // 5]  # in the middle of the stages
    reached = threading.Event()

    def on_request(number: int) -> None:
        if kills and number >= kills[0]:
            reached.set()

    with FakeLlm(BAD_DAY, on_request) as server:
        for kill in list(kills):
            process = start(command(videos, out, server.url))
            assert reached.wait(TIMEOUT), f"never saw {kill} requests"
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=TIMEOUT)
            assert process.returncode == -signal.SIGKILL
            assert not (out / "summary.json").exists()
            kills.pop(0)
            reached.clear()
        done = run(videos, out, server.url)
        assert done.returncode == 0, done.stderr
        assert results(out) == results(whole)
        # only what was in flight (at most 4 requests a kill) and the greeting of each start were asked twice
        answered = sum(seen.status == 200 for seen in server.seen if seen.schema != "Hello")
        once = sum(seen.status == 200 for seen in undisturbed_server.seen if seen.schema != "Hello")
        assert once <= answered <= once + 3 * 4


def test_shares_worked_on_side_by_side_give_the_same_rows_also_when_killed(
    videos: Path, undisturbed: tuple[Path, FakeLlm, str], tmp_path: Path
) -> None:
    whole, undisturbed_server, _ = undisturbed
    out = tmp_path / "out"
    reached = threading.Event()
    with FakeLlm(BAD_DAY, lambda n: reached.set() if n >= len(undisturbed_server.seen) // 2 else None) as server:
        process = start(command(videos, out, server.url, "--tasks", 3, "--workers", 2))
        assert reached.wait(TIMEOUT)
        process.send_signal(signal.SIGKILL)
        # its children notice it by themselves: they share its output, which ends when the last of them has
        process.communicate(timeout=TIMEOUT)
        done = run(videos, out, server.url, "--tasks", 3, "--workers", 2)
        assert done.returncode == 0, done.stderr
    assert results(out) == results(whole)


def test_slurm_gets_the_same_pipeline(
    videos: Path, undisturbed: tuple[Path, FakeLlm, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sbatch` here is a script that runs the tasks of the array one after the other, as a cluster would."""
    bin = tmp_path / "bin"
    bin.mkdir()
    tools = {
        "sbatch": 'for script; do :; done; cp "$script" "$PWD/job.sh"\n'
        'last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" job.sh)\n'
        "grep -q merge_stats job.sh || for i in $(seq 0 $last); do\n"
        "SLURM_ARRAY_TASK_ID=$i SLURM_NODELIST=here RUN_OFFSET=0 bash job.sh >>log 2>&1 || exit 1; done\n"
        "echo Submitted batch job 1",
        "srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done; exec "$@"',
        "scontrol": "echo here",
    }
    for name, script in tools.items():
        (bin / name).write_text(f"#!/bin/bash\n{script}\n")
        (bin / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    whole, server, _ = undisturbed
    flags = ["--executor", "slurm", "--slurm-partition", "cpu", "--tasks", "2"]
    process = subprocess.run(
        command(videos, tmp_path / "out", server.url, *flags), cwd=tmp_path, text=True, capture_output=True,
        env=environment() | {"PYTHONPATH": str(ROOT)}, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    log = tmp_path / "log"
    assert process.returncode == 0, process.stderr + (log.read_text()[-3000:] if log.exists() else "")
    assert "handed to Slurm" in process.stdout
    assert results(tmp_path / "out") == results(whole)


# --- bad input --------------------------------------------------------------------------------------------------------
def test_a_run_is_not_mixed_with_another(videos: Path, undisturbed: tuple[Path, FakeLlm, str], tmp_path: Path) -> None:
    out, server, _ = undisturbed
    done = run(videos, out, server.url, "--tasks", 2, "--max-frames", 8)
    assert done.returncode == 2
    assert "begun with other tasks, max_frames" in done.stderr
    single = tmp_path / "list.txt"
    single.write_text(f"# mine\n{videos / 'world.mp4'}\tgame\n\n")
    done = run(single, out, server.url)
    assert done.returncode == 2
    assert "begun with other videos" in done.stderr


def test_starting_over_pays_for_nothing_twice(videos: Path, undisturbed: tuple[Path, FakeLlm, str]) -> None:
    out, server, _ = undisturbed
    before, asked = results(out), len(server.seen)
    prices = out.parent / "prices.json"
    prices.write_text('{"fake": {"input": 1000, "output": 1000}}')
    done = run(videos, out, server.url, "--again", "--price-table", prices)
    assert done.returncode == 0, done.stderr
    assert "cost: " in done.stdout
    assert {seen.schema for seen in server.seen[asked:]} == {"Hello"}
    assert results(out) == before


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--videos", "{empty}"], 2, "no videos"),
        (["--videos", "{empty}/missing"], 2, "no folder or list"),
        (["--llm-url", "localhost:8000"], 2, "--llm-url"),
        (["--attempts", "1"], 1, "failed 1 times"),
        (["--llm-key-env", "AURA_NO_SUCH_KEY"], 1, "AURA_NO_SUCH_KEY"),
        (["--prompts", "{empty}"], 2, "prompt"),
        (["--price-table", "{empty}/missing.json"], 1, "missing.json"),
        (["--executor", "slurm"], 2, "--slurm-partition"),
    ],
)
def test_what_cannot_work_is_one_line(
    more: list[str], code: int, message: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = command(videos, tmp_path / "out", "http://127.0.0.1:9/v1")[3:]
    assert main([*arguments, *(word.format(empty=empty) for word in more)]) == code
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "not named as videos" not in line]
    assert printed.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_server_that_goes_away_stops_the_run_and_loses_nothing(
    videos: Path, undisturbed: tuple[Path, FakeLlm, str], tmp_path: Path
) -> None:
    whole, _, _ = undisturbed
    out = tmp_path / "out"

    class Leaving(FakeLlm):
        def handle(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
            if len(self.seen) >= 20:
                return 503, {}, {"error": {"message": "gone"}}
            return super().handle(body)

    with Leaving() as server:
        done = run(videos, out, server.url, "--attempts", 2)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "503 gone" in done.stderr
        assert "Traceback" not in done.stderr
    with FakeLlm(BAD_DAY) as server:
        assert run(videos, out, server.url).returncode == 0
    assert results(out) == results(whole)


def test_results_are_the_layout_that_is_documented() -> None:
    assert all(name in str(dataset.__doc__) for name in RESULTS)
