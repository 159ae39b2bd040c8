"""A test made from a recording: the recording beside it, and what was said as a table that a person corrects.

A recording of a fault becomes a failing test by writing down, in that table, what should have been said.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from aura_core.recording import SUFFIX, RecordingError
from aura_core.recording.format import Reader
from aura_core.recording.replay import decided, read_header, recorded_reply

_TEST = '''"""Made from a recording of {created}, model {model}: {decisions} decisions.

Where what was said was wrong, write down what should have been.
"""

from pathlib import Path

from aura_core.recording.rerun import rerun

RECORDING = Path(__file__).with_suffix("{suffix}")

{asked}#: What is said, by chunk; every other one is silent.
SAID = {said}


def test_{name}() -> None:
    report = rerun(RECORDING)
    assert report.course is None
    assert report.said == SAID
'''


def make_test(recording: Path, out: Path) -> Path:
    """Write the test `out`, a Python file, and a copy of the recording beside it; returns the copy's path.

    Raises RecordingError when there is nothing to test, or one of the two is there already.
    """
    header = read_header(recording)
    if out.suffix != ".py":
        raise RecordingError(f"{out} does not end in .py")
    copy = out.with_suffix(SUFFIX)
    for path in (out, copy):
        if path.exists():
            raise RecordingError(f"{path} is there already")
    times: dict[int, float] = {}
    asked, said, count = [], [], 0
    for record in Reader(recording):
        data = record.data
        if record.type == "chunk":
            times[data["index"]] = data["end"]
        elif record.type == "ask":
            asked.append(f"# asked at {data['at']:.2f} s: {data['text']!a}\n")
        elif record.type == "decided":
            count += 1
            outcome = decided(record)
            if outcome.text and (reply := recorded_reply(outcome)) is not None:
                said.append(f"    {outcome.chunk}: {reply!a},  # {times.get(outcome.chunk, 0.0):.2f} s\n")
    if not count:
        raise RecordingError(f"{recording} holds no decision")
    text = _TEST.format(
        created=header.get("created", "an unknown day"),
        model=_plain(str(header.get("model") or "unknown")),
        decisions=count,
        suffix=SUFFIX,
        asked="".join(asked) + ("\n" if asked else ""),
        said="{\n" + "".join(said) + "}" if said else "{}",
        name=_plain(out.stem.removeprefix("test_")) or "recording",
    )
    try:
        shutil.copyfile(recording, copy)
        unfinished = out.with_name(out.name + ".part")
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, out)
    except OSError as error:
        raise RecordingError(f"{error.filename or out}: {error.strerror}") from error
    return copy


def _plain(text: str) -> str:
    return re.sub(r"\W+", "_", text, flags=re.ASCII)
