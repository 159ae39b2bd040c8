"""`validate`: a good data set passes; every kind of damage is found at its line and called by its name."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aura_core import typed_json
from aura_core.samples import Sample
from data_pipeline.__main__ import main
from data_pipeline.findings import NAMES
from data_pipeline.folder import json_line, kind_of, write_lines
from data_pipeline.records import ID_DIGITS, QA, Answer, Video, sha256_of
from data_pipeline.structuring import structure
from data_pipeline.validate import Validator
from tests.video_files import gray, write_sound, write_video

SECONDS = 70


def prepared(path: Path, seconds: float = SECONDS) -> Video:
    """A 2-FPS video file and its record."""
    write_video(path, (gray(i, 32, 32) for i in range(round(2 * seconds))), fps=2)
    digest = sha256_of(path)
    return Video(digest[:ID_DIGITS], digest, path.name, seconds, round(2 * seconds), "test", "test")


def questions(video: Video) -> list[QA]:
    def qa(number: int, type: str, t: float, question: str, *answers: tuple[float, str]) -> QA:
        made = tuple(Answer(*answer) for answer in answers)
        return QA(f"{video.id}/0/{number}", video.id, type, "", None, t, question, made)  # type: ignore[arg-type]

    return [
        qa(0, "realtime", 3.0, "What is it?", (3.0, "A cup.")),
        qa(1, "multi", 6.0, "Tell me every time it moves.", (50.0, "It moved."), (64.0, "It moved again.")),
        qa(2, "realtime", 55.0, "And now?", (55.0, "A plate.")),
    ]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder of six samples; the last three have a history."""
    folder = tmp_path_factory.mktemp("good")
    video = prepared(folder / "v.mp4")
    samples = structure(video, questions(video))
    assert write_lines(folder / "samples.jsonl", (sample.to_json() for sample in samples)) == 5
    write_lines(folder / "rejected.jsonl", [])
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "set"))


def findings(folder: Path) -> list[tuple[str, int, str]]:
    validator = Validator(folder)
    return [(f.file, f.line, f.name) for f in validator.check(validator.files())]


def test_a_good_data_set_passes(good: Path, capsys: pytest.CaptureFixture[str]):
    assert findings(good) == []
    assert main(["validate", str(good)]) == 0
    assert main(["validate", str(good / "samples.jsonl")]) == 0
    assert "nothing wrong" in capsys.readouterr().err


# Damage to one sample (line 4, whose window was cut and which has a history)

LINE = 4
Damage = Callable[[dict[str, Any]], Any]


def put(*keys: Any, value: Any) -> Damage:
    def damage(sample: dict[str, Any]) -> None:
        at: Any = sample
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return damage


def drop(*keys: Any) -> Damage:
    def damage(sample: dict[str, Any]) -> None:
        at: Any = sample
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]

    return damage


def without_first_turns(sample: dict[str, Any]) -> None:
    del sample["turns"][:2]
    sample["target"]["turn"] -= 2
    sample["window"]["start_s"] += 2


def longer_window(sample: dict[str, Any]) -> None:
    first = sample["turns"][0]["t"]
    sample["turns"][:0] = [{"t": first - i, "assistant": None} for i in range(int(first) - 1, 0, -1)]
    sample["target"]["turn"] = len(sample["turns"]) - 1
    sample["window"]["start_s"] = 0.0
    sample["history"] = []


def no_request(sample: dict[str, Any]) -> None:
    sample["history"] = []
    for turn in sample["turns"]:
        turn.pop("user", None)
    sample["type"] = "multi"


def turn_after_target(sample: dict[str, Any]) -> None:
    sample["turns"].append({"t": sample["turns"][-1]["t"] + 1, "assistant": None})
    sample["window"]["end_s"] += 1


def silent_target(sample: dict[str, Any]) -> None:
    sample["turns"][-1]["assistant"] = None


def moved(seconds: float) -> Damage:
    def damage(sample: dict[str, Any]) -> None:
        for turn in sample["turns"]:
            turn["t"] += seconds
        sample["window"] = {key: t + seconds for key, t in sample["window"].items()}

    return damage


DAMAGE: list[tuple[str, Damage]] = [
    ("missing-key", drop("target")),
    ("missing-key", drop("turns", 3, "assistant")),
    ("missing-key", drop("provenance", "judge")),
    ("unknown-key", put("color", value="red")),
    ("unknown-key", put("turns", 0, "usr", value="What?")),
    ("wrong-type", put("turns", value="none")),
    ("wrong-type", put("turns", 2, "t", value="17")),
    ("wrong-type", put("turns", 2, "t", value=True)),
    ("wrong-type", put("history", 0, "a", value="one")),
    ("wrong-type", put("target", "turn", value=1.5)),
    ("wrong-type", put("video", value=None)),
    ("not-allowed", put("schema_version", value=2)),
    ("not-allowed", put("type", value="realtimes")),
    ("not-allowed", put("video", "fps", value=30)),
    ("not-finite", put("window", "end_s", value=float("nan"))),
    ("not-finite", put("video", "duration_s", value=float("inf"))),
    ("bad-text", put("history", 0, "q", value="half a \ud83d")),
    ("blank-id", put("sample_id", value=" ")),
    ("no-turns", put("turns", value=[])),
    ("turn-order", put("turns", 5, "t", value=1.0)),
    ("turn-gap", drop("turns", 7)),
    ("negative-time", moved(-300)),
    ("window-mismatch", put("window", "end_s", value=40.0)),
    ("window-mismatch", put("window", "start_s", value=30.0)),
    ("window-too-long", longer_window),
    ("window-cut", without_first_turns),
    ("window-outside-video", moved(60)),
    ("history-too-long", put("history", value=[{"q": "Why?", "a": ["So."]}] * 19)),
    ("blank-question", put("history", 0, "q", value=" ")),
    ("blank-question", put("turns", 4, "user", value=" \n")),
    ("blank-reply", put("turns", 4, "assistant", value="")),
    ("blank-reply", put("history", 0, "a", value=["..."])),
    ("control-token", put("turns", 4, "assistant", value="<|silent|>")),
    ("control-token", put("history", 0, "q", value="Hello <|im_end|>")),
    ("control-token", put("turns", 4, "user", value="<think>What?")),
    ("target-index", put("target", "turn", value=400)),
    ("target-index", put("target", "turn", value=-1)),
    ("target-not-last", turn_after_target),
    ("target-silent", silent_target),
    ("target-text", put("target", "text", value="A fork.")),
    ("question-missing", drop("turns", -1, "user")),
    ("request-missing", no_request),
    ("judged-wrong", put("provenance", "judge", value={"grounded": False})),
    ("judged-wrong", put("provenance", "judge", value={"grounded": "yes", "timely": "no"})),
    ("video-id", put("video", "id", value="0" * 16)),
    ("video-hash", put("video", "sha256", value="f00")),
    ("video-path", put("video", "path", value="/etc/passwd")),
    ("video-path", put("video", "path", value="a/../../v.mp4")),
    ("video-conflict", put("video", "duration_s", value=SECONDS + 1.0)),
]


def rewrite(folder: Path, damage: Damage, line: int = LINE) -> None:
    file = folder / "samples.jsonl"
    samples = [json.loads(text) for text in file.read_text().splitlines()]
    damage(samples[line - 1])
    file.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=[f"{name}-{i}" for i, (name, _) in enumerate(DAMAGE)])
def test_damage_to_a_sample(folder: Path, name: str, damage: Damage):
    rewrite(folder, damage)
    found = findings(folder)
    assert ("samples.jsonl", LINE, name) in found
    assert {line for _, line, _ in found} == {LINE}


def test_history_without_cut(folder: Path):
    rewrite(folder, put("history", value=[{"q": "Why?", "a": ["So."]}]), line=1)
    assert findings(folder) == [("samples.jsonl", 1, "history-without-cut")]


def test_two_kinds_of_damage_are_both_found_and_placed(folder: Path):
    rewrite(folder, put("turns", 2, "t", value="17"))
    rewrite(folder, put("type", value="?"))
    rewrite(folder, put("target", "text", value="A fork."), line=2)
    assert [(line, name) for _, line, name in findings(folder)] == [
        (2, "target-text"), (4, "not-allowed"), (4, "wrong-type"),
    ]  # fmt: skip


def test_the_place_in_the_sample_is_said(folder: Path, capsys: pytest.CaptureFixture[str]):
    rewrite(folder, put("turns", 2, "t", value="17"))
    assert main(["validate", str(folder)]) == 1
    output = capsys.readouterr()
    assert output.out == "samples.jsonl:4: wrong-type: turns[2].t: must be a number, not '17'\n"
    assert "1 wrong-type" in output.err


# Damage to the file

FILE_DAMAGE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("not-json", lambda line: line[: len(line) // 2]),
    ("not-json", lambda line: line.replace(b",", b"", 1)),
    ("not-json", lambda line: line + line),
    ("not-utf8", lambda line: line.replace(b"A plate", b"A pl\xe4te")),
    ("blank-line", lambda line: b"  "),
    ("duplicate-key", lambda line: b'{"type": "multi", ' + line[1:]),
    ("duplicate-id", lambda line: line.replace(b"A plate.", b"A dish.").join([b"", b"\n"]) + line),
    ("duplicate-sample", lambda line: line.replace(b'"sample_id":"', b'"sample_id":"x') + b"\n" + line),
    ("wrong-type", lambda line: b"[1, 2]"),
]


@pytest.mark.parametrize(("name", "damage"), FILE_DAMAGE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(FILE_DAMAGE)])
def test_damage_to_a_line(folder: Path, name: str, damage: Callable[[bytes], bytes]):
    file = folder / "samples.jsonl"
    lines = file.read_bytes().splitlines()
    lines[LINE - 1] = damage(lines[LINE - 1])
    file.write_bytes(b"\n".join(lines) + b"\n")
    found = findings(folder)
    assert [kind for _, _, kind in found] == [name]
    assert found[0][1] in (LINE, LINE + 1)


def test_an_empty_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", str(tmp_path)]) == 1
    assert "no-samples" in capsys.readouterr().out
    assert main(["validate", str(tmp_path / "nowhere")]) == 2


def test_a_file_that_cannot_be_read(folder: Path):
    (folder / "more.samples.jsonl").mkdir()
    assert ("more.samples.jsonl", 0, "unreadable-file") in findings(folder)


# Damage to the video


def replace_video(folder: Path, make: Callable[[Path], object]) -> list[str]:
    """Another file in the place of the video, its hash corrected in every sample."""
    (folder / "v.mp4").unlink()
    make(folder / "v.mp4")
    digest = sha256_of(folder / "v.mp4")
    file = folder / "samples.jsonl"
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    for sample in samples:
        sample["video"] |= {"sha256": digest, "id": digest[:ID_DIGITS]}
    file.write_text("".join(map(json_line, samples)))
    return [name for _, _, name in findings(folder)]


def mpeg4(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(2 * SECONDS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray(i, 32, 32), format="rgb24")))
        container.mux(stream.encode())


def test_damage_to_the_video(folder: Path):
    frames = [gray(i, 32, 32) for i in range(2 * SECONDS)]
    assert replace_video(folder, lambda path: path.write_bytes(b"no video")) == ["video-unreadable"]
    assert replace_video(folder, write_sound) == ["video-unreadable"]
    assert replace_video(folder, lambda path: write_video(path, frames, fps=4)) == ["video-fps"]
    assert replace_video(folder, lambda path: write_video(path, frames[:100], fps=2)) == ["video-duration"]
    assert replace_video(folder, mpeg4) == ["video-codec"]
    assert replace_video(folder, lambda path: prepared(path)) == []


def test_a_changed_or_missing_video(folder: Path):
    prepared(folder / "v.mp4", SECONDS - 0.5)
    assert findings(folder) == [("samples.jsonl", 1, "video-hash")]
    (folder / "v.mp4").unlink()
    assert findings(folder) == [("samples.jsonl", 1, "video-missing")]


# The names, and the schema itself


def test_every_name_is_explained_and_tested(folder: Path):
    tested = {name for name, _ in DAMAGE + FILE_DAMAGE} | {"history-without-cut", "no-samples", "unreadable-file"}
    tested |= {"video-unreadable", "video-fps", "video-duration", "video-codec", "video-missing"}
    assert tested == set(NAMES)
    assert len(NAMES) >= 20


def test_files_are_known_by_their_names(tmp_path: Path):
    names = {
        "a.samples.jsonl": "samples",
        "samples/0.jsonl": "samples",
        "rejected-1.jsonl": "rejected",
        "x.jsonl": None,
    }
    assert {name: kind_of(tmp_path / name, tmp_path) for name in names} == names


def test_the_published_schema_names_what_a_sample_has(good: Path):
    schema = typed_json.json_schema(Sample)
    line = json.loads((good / "samples.jsonl").read_text().splitlines()[0])
    assert set(schema["properties"]) == set(line) == set(schema["required"])
    assert schema["properties"]["schema_version"] == {"enum": [1]}
    turn = schema["properties"]["turns"]["items"]
    assert turn["required"] == ["t", "assistant"]
    assert Sample.from_json(copy.deepcopy(line)).to_json() == line
