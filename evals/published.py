"""Predictions in the forms in which the benchmarks' authors, and those who follow them, publish them.

Theirs hold replies inside a copy of the annotations. A row is matched with the annotations that were given, by number
or by video, time and question, and scored against those, never against the truth it carries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from evals import omnimmi, ovobench, streamingbench
from evals.benchmark import Benchmark, Item, Reply, verdict_key
from evals.replies import PredictionError, Predictions, is_yes, values

#: Where a reply may lie in a row, other than under its model's name.
REPLIES = ("response", "pred", "prediction", "reply", "output", "model_answer")

#: What else a question of StreamingBench may hold; any other key is a model's name.
_ANNOTATED = frozenset(
    (
        "answer", "audio_path", "captions", "category", "cause", "cost", "effect", "frames_required",
        "ground_truth_output", "ground_truth_time_stamp", "id", "options", "question", "question_id",
        "required_ability", "results", "task_type", "temporal_clue_type", "time", "time_stamp", "timecost", "video",
        "video_categories", "video_path",
    )
)  # fmt: skip

#: PA's files hold times alone; what was said then does not count.
_SOMETHING = "(alert)"


def read(benchmark: Benchmark, paths: Sequence[Path], model: str | None = None) -> Predictions:
    """The predictions for `benchmark`, ours or theirs, in files and in folders of JSON and JSONL files; `model` names
    the replies to take where a file of StreamingBench holds those of several. Raises PredictionError."""
    found = Predictions()
    items = {item.id for item in benchmark.items}
    readers = {"streamingbench": _StreamingBench, "ovobench": _OVOBench, "omnimmi": _OmniMMI}
    reader = readers[benchmark.name](benchmark.items, found)
    for path in paths:
        for file in sorted(f for f in path.rglob("*.json*") if f.is_file()) if path.is_dir() else [path]:
            reader.read([value for value in values(file, found) if not found.take_own(value, items)], file, model)
    found.close()
    if not found.records:
        raise PredictionError(f"no predictions for {benchmark.name} in {', '.join(map(str, paths))}")
    return found


def _objects(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in `value`, outermost first, each with the last key above it."""
    yield name, value
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _objects(part, str(key))
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part, name)


def _row(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key).lower(): part for key, part in value.items()}


def _words(text: Any) -> str:
    return " ".join(str(text).casefold().split())


def _video(path: Any) -> str:
    """A video's name however it is spelled: without folders and ending, `_` for all punctuation."""
    return re.sub(r"[\W_]+", "_", PurePosixPath(str(path)).stem.casefold())


class _Finder:
    """The item that a row is about: the one with the first of the row's keys that any item has. Items that share a key
    are taken in their order, as rows come in the same one."""

    def __init__(self) -> None:
        self._items: dict[Hashable, list[str]] = {}
        self._taken: Counter[Hashable] = Counter()

    def put(self, item: str, *keys: Hashable) -> None:
        for key in keys:
            self._items.setdefault(key, []).append(item)

    def find(self, *keys: Hashable) -> str | None:
        for key in keys:
            if key in self._items:
                items = self._items[key]
                self._taken[key] += 1
                return items[min(self._taken[key], len(items)) - 1]
        return None


class _StreamingBench:
    """`{real,omni,sqa,proactive}_output_MODEL.json`: the annotations, and in every question the reply under the
    model's name; in PO an object whose `dialog_history` ends with the last reply and its time."""

    def __init__(self, items: Sequence[Item], found: Predictions) -> None:
        self._found = found
        self._finder = _Finder()
        self._alerts: set[str] = set()
        for item in items:
            assert isinstance(item, streamingbench.Choice | streamingbench.Alert)
            self._finder.put(item.id, *self._keys(item.video, item.t, item.question))
            if isinstance(item, streamingbench.Alert):
                self._alerts.add(item.id)

    @staticmethod
    def _keys(video: Any, t: int, question: Any) -> tuple[Hashable, Hashable]:
        return (_video(video), t, _words(question)), (t, _words(question))

    def read(self, values: Sequence[Any], file: Path, model: str | None) -> None:
        rows = [row for value in values for row in self._rows(value, "")]
        name = self._model(rows, file, model) if rows else None
        for row in rows:
            if name not in row:
                continue
            try:
                keys = self._keys(row["video_path"], streamingbench.seconds(str(row["time_stamp"])), row["question"])
            except ValueError:
                keys = ()
            item = self._finder.find(*keys)
            reply = self._last(row[name]) if item in self._alerts else (Reply(0.0, self._found.text(row[name])),)
            self._found.add(item, reply)

    def _rows(self, value: Any, video: str) -> Iterator[dict[str, Any]]:
        """The questions, each with the video of the part around it."""
        if isinstance(value, list):
            for part in value:
                yield from self._rows(part, video)
        elif isinstance(value, dict):
            row = _row(value)
            video = str(row.get("video_path") or row.get("video") or video)
            if "question" in row and "time_stamp" in row:
                yield {**row, "video_path": video}
            else:
                for part in value.values():
                    yield from self._rows(part, video)

    @staticmethod
    def _model(rows: Sequence[Mapping[str, Any]], file: Path, model: str | None) -> str | None:
        """The key of the replies; None where nobody replied."""
        names = {
            name: None  # a dict, for its order
            for row in rows
            for name, value in row.items()
            if name not in _ANNOTATED and (value is None or isinstance(value, (str, list, dict)))
        }
        if model is not None and model.lower() in names:
            return model.lower()
        named = sorted((name for name in names if name in file.stem.lower()), key=len)  # real_output_MODEL.json
        names = [name for name in REPLIES if name in names][:1] or named[-1:] or list(names)
        if len(names) > 1 or (model and names and names[0] not in REPLIES):
            raise PredictionError(f"{file} holds replies of {', '.join(names)}: say which with --model")
        return names[0] if names else None

    def _last(self, value: Any) -> tuple[Reply, ...]:
        if value is None:
            return ()
        try:
            last = _row(_row(value)["dialog_history"][-1])
            return (Reply(float(last["time"]), self._found.text(last["content"])),)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            self._found.malformed()
            return ()


class _OVOBench:
    """`MODEL/MODEL_TASKS_MODE_N.json`: lists `backward`, `realtime` and `forward`; a row of the first two has its
    `response`, one of the last the annotation with a `response` in every part of `test_info`."""

    def __init__(self, items: Sequence[Item], found: Predictions) -> None:
        self._found = found
        self._items: dict[str, ovobench.Annotation] = {}
        self._finder = _Finder()
        for item in items:
            assert isinstance(item, ovobench.Annotation)
            self._items[item.id] = item
            about = _words(item.subject)
            self._finder.put(item.id, item.id, (item.id, about), (item.task, _video(item.video), about))

    def read(self, values: Sequence[Any], file: Path, model: str | None) -> None:
        for value in values:
            for name, part in _objects(value):
                if isinstance(part, dict) and ("task" in (row := _row(part)) or "test_info" in row):
                    self._read_row(row, name)

    def _read_row(self, row: Mapping[str, Any], name: str) -> None:
        number, about = str(row.get("id", name)), _words(ovobench.subject(row))
        place = (str(row.get("task")).upper(), _video(row.get("video")), about)
        found = self._finder.find((number, about), place) if about else self._finder.find(number)
        parts = row.get("test_info")
        parts = [_row(part) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else [row]
        if not any(_has_reply(part) for part in parts):
            return
        item = self._items[found] if found else None
        probes = item.probes if item else ()
        if len(parts) != len(probes):  # some are missing: the others by their times
            times = {float(part["realtime"]): part for part in reversed(parts) if "realtime" in part}
            parts = [times.get(float(probe.t), {}) for probe in probes]
        replies = [Reply(probe.t, self._found.text(_reply(part))) for probe, part in zip(probes, parts, strict=True)]
        self._found.add(found, replies)


class _OmniMMI:
    """`TASK_MODEL_N.json`: lines, each an annotation with `pred`, in `qa` one a turn; PA's is a list of seconds. And
    the judge's `results.json`, `VIDEO##N` -> [verdict, question], or the folder of files that it is made of."""

    def __init__(self, items: Sequence[Item], found: Predictions) -> None:
        self._found = found
        self._items: dict[str, omnimmi.Question] = {}
        self._finder = _Finder()
        for item in items:
            assert isinstance(item, omnimmi.Dialogue | omnimmi.Alert)
            self._items[item.id] = item
            if isinstance(item, omnimmi.Alert):
                texts = [(item.instruction, "")]
            else:
                texts = [(turn.question, turn.answer) for turn in item.turns]
            self._finder.put(item.id, *self._keys(item.video, texts))

    @staticmethod
    def _keys(video: Any, texts: Sequence[tuple[Any, Any]]) -> tuple[Hashable, Hashable]:
        """By questions, or by answers: a question may have been kept as it was asked."""
        questions, answers = (tuple(_words(text) for text in column) for column in zip(*texts, strict=True))
        return ("asked", _video(video), questions), ("answered", _video(video), answers)

    def read(self, values: Sequence[Any], file: Path, model: str | None) -> None:
        for value in values:
            for name, part in _objects(value, file.stem):
                if isinstance(part, dict) and "video" in (row := _row(part)) and {"question", "qa"} & row.keys():
                    self._read_row(row["video"], row, None)
                elif isinstance(part, list) and len(part) == 2 and all(isinstance(side, dict) for side in part):
                    verdict, row = map(_row, part)
                    if (
                        {"question", "qa"} & row.keys()
                        and {"pred", "qa"} & verdict.keys()
                        and "question" not in verdict
                    ):
                        self._read_row(name.rsplit("##", 1)[0] + ".mp4", row, verdict)

    def _read_row(self, video: Any, row: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> None:
        turns = _turns(row)
        if not turns or not (verdict or any(_has_reply(turn) for turn in turns)):
            return
        item = self._finder.find(*self._keys(video, [(turn.get("question"), turn.get("answer")) for turn in turns]))
        if item and isinstance(self._items[item], omnimmi.Alert):
            self._found.add(item, self._seconds(_reply(turns[0])))
            return
        self._found.add(
            item, [Reply(0.0, self._found.text(_reply(turn))) for turn in turns], copied=verdict is not None
        )
        if item and verdict:
            self._judge(item, _turns(verdict), len(turns))

    def _judge(self, item: str, verdicts: Sequence[Mapping[str, Any]], turns: int) -> None:
        if len(verdicts) < turns:
            self._found.notes.append(f"{item}: {turns} turns but {len(verdicts)} verdicts; taken in their order")
        for number, verdict in enumerate(verdicts[:turns], 1):
            self._found.verdicts.setdefault(verdict_key(item, number), is_yes(verdict.get("pred")))

    def _seconds(self, value: Any) -> tuple[Reply, ...]:
        value = value[:1] if isinstance(value, list) else [value]
        try:
            return tuple(Reply(float(t), _SOMETHING) for t in value if t is not None)
        except (TypeError, ValueError):
            self._found.malformed()
            return ()


def _turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    qa = row.get("qa")
    return [_row(turn) for turn in (qa if isinstance(qa, list) else [row]) if isinstance(turn, dict)]


def _has_reply(row: Mapping[str, Any]) -> bool:
    return any(key in row for key in REPLIES)


def _reply(row: Mapping[str, Any]) -> Any:
    return next((row[key] for key in REPLIES if key in row), None)
