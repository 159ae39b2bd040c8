"""Small annotations in the forms of the three benchmarks, and what every test of them needs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Item, Record, Reply


def choice(task: str, time: str, question: str, answer: str, options: Sequence[str] = ("a", "b", "c", "d")) -> dict:
    labeled = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    return {"task_type": task, "question": question, "time_stamp": time, "answer": answer, "options": labeled}


def part(video: str, *questions: dict) -> dict[str, Any]:
    return {"time": "[0:00:00 - 0:01:00]", "questions": list(questions), "video_path": f"./videos/{video}.mp4"}


def alert(time: str, due: str, output: str = "goal") -> dict:
    return {
        "task_type": "Proactive Output",
        "question": f'When it happens, output "{output}".',
        "time_stamp": time,
        "ground_truth_time_stamp": due,
        "ground_truth_output": output,
    }


#: StreamingBench: what each upstream file holds, by its name there.
STREAMINGBENCH: dict[str, Any] = {
    "questions_real": [
        part("sample_1_real", choice("Object Recognition", "00:00:05", "What is it?", "A")),
        part(
            "sample_1_real", choice("Counting", "00:01:05", "How many?", "B"), choice("Counting", "1:10", "Now?", "C")
        ),
    ],
    "questions_omni": [part("sample_2_Emotion_Recognition", choice("Emotion Recognition", "00:00:40", "Mood?", "D"))],
    "questions_sqa": [
        [
            part("sample_3_sqa", choice("Sequential Question Answering", "00:00:10", "Who serves?", "A")),
            part("sample_3_sqa", choice("Sequential Question Answering", "00:00:50", "And who wins?", "B")),
        ]
    ],
    "questions_proactive": [part("sample_4_proactive", alert("00:00:20", "00:00:23"))],
}

OVOBENCH: list[dict[str, Any]] = [
    {"id": 0, "task": "EPM", "video": "Ego4D/a.mp4", "realtime": 21.5, "question": "Who?",
     "options": ["x", "y"], "gt": 1},
    {"id": 1, "task": "OCR", "video": "Auto/b.mp4", "realtime": 9, "question": "Read!",
     "options": ["x", "y", "z"], "gt": 0},
    {
        "id": 2, "task": "REC", "video": "p/c.mp4", "activity": "jump",
        "test_info": [{"realtime": 5, "count": 1}, {"realtime": 8.2, "count": 12}],
    },
    {
        "id": 3, "task": "SSR", "video": "COIN/d.mp4", "tutorial": "Cook",
        "test_info": [{"realtime": 30, "step": "cut", "type": 1}, {"realtime": 26, "step": "fry", "type": 0}],
    },
    {
        "id": 4, "task": "CRR", "video": "m/e.mp4", "question": "What then?",
        "test_info": [{"realtime": 3, "type": 0}, {"realtime": 7, "type": 1}],
    },
]  # fmt: skip

#: OmniMMI: what each upstream file holds, by its name there.
OMNIMMI: dict[str, list[dict[str, Any]]] = {
    "action_prediction": [{"video": "a.mp4", "question": "Next?", "answer": "flip", "vocab": ["flip", "stack"]}],
    "speaker_identification": [{"video": "s.mp4", "question": "Who spoke?", "answer": "Marie", "timestamp": 22.08}],
    "dynamic_state_grounding": [
        {"video": "g.mp4", "qa": [
            {"question": "What now?", "answer": "cut", "timestamp": "9.0 -- 14.0"},
            {"question": "What now?", "answer": "wind", "timestamp": "19.0 -- 49.0"},
        ]},
        {"video": "h.mp4", "qa": [{"question": "Doing?", "answer": "run", "timestamp": "0 -- 2.0"}]},
    ],
    "multiturn_dependency_reasoning": [
        {"video": "m.mp4", "qa": [
            {"question": "What is the task?", "answer": "omelet", "timestamp": "0.0 -- 36.0"},
            {"question": "First step of ##ANSWER##?", "answer": "pour", "timestamp": "36.0 -- 40.0"},
        ]},
    ],
    "proactive_alerting": [{"video": "p.mp4", "question": "Tell me when the horse comes.", "answer": [4, 6]}],
}  # fmt: skip


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write JSON files, each under another name than upstream's: nothing may depend on names."""
    for number, (name, value) in enumerate(files.items()):
        (folder / f"{number}_{name[::-1]}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def records(benchmark: Benchmark, *texts: Sequence[str], t: float = 0.0) -> dict[str, Record]:
    """Records of the benchmark's items in their order: the texts of each one's replies, all at second `t`."""
    pairs = zip(benchmark.items, texts, strict=True)
    return {item.id: Record(item.id, tuple(Reply(t, text) for text in said)) for item, said in pairs}


class Asked:
    """An `Ask` that answers from a list (then with silence) and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, float, float, str | None]] = []

    async def __call__(self, prompt, t, *, start=0.0, opening=None) -> str:
        self.calls.append((prompt, t, start, opening))
        return self.answers.pop(0) if self.answers else ""


def item(benchmark: Benchmark, task: str) -> Item:
    """The last item of a task."""
    return [item for item in benchmark.items if item.task == task][-1]
