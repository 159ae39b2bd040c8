"""The tables of the paper (arXiv 2604.04184) as plain data, every cell with the digits it is printed with.

A cell stays text: "62.0" says more than 62, for only the printed digits tell which counts can stand behind it. How
many items a task has comes from the benchmarks' annotation files; a column without such a number is an average.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OWN = "AURA"
"""The row of the paper's own model."""

MISSING = "✗"
"""Printed where a model cannot do a task."""


@dataclass(frozen=True)
class Table:
    """One table: accuracies in percent unless its title says otherwise."""

    number: int
    title: str
    columns: tuple[str, ...]
    """In printed order. The average of a group has the group's name."""
    rows: Mapping[str, Mapping[str, str]]
    """Row -> column -> cell as printed."""
    benchmark: str | None = None
    """The benchmark of `evals` whose results belong beside these rows."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """What the averages are taken over, with the items of each."""
    turns: Mapping[str, int] = field(default_factory=dict)
    """Counted columns that enter no average: items that have a k-th turn."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> its tasks."""
    overall: str | None = None
    """The column that averages all tasks."""
    earlier: Mapping[str, int] = field(default_factory=dict)
    """Items in an earlier edition of the benchmark, where that is another number."""

    @property
    def counted(self) -> Mapping[str, int]:
        """The columns whose cells are a count of right answers over a number of items, and that number."""
        return {**self.tasks, **self.turns}

    @property
    def averages(self) -> Mapping[str, tuple[str, ...]]:
        """The columns that are averages, and the tasks they average."""
        return {**self.groups, **({self.overall: tuple(self.tasks)} if self.overall else {})}


def _rows(columns: tuple[str, ...], printed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Lines of the paper as cells by column. Raises ValueError when a line has more or fewer."""
    return {name: dict(zip(columns, line.split(), strict=True)) for name, line in printed.items()}


_RTVU = {"OP": 367, "CR": 128, "CS": 317, "ATP": 306, "EU": 161, "TR": 321, "PR": 108, "SU": 246, "ACP": 353, "CT": 193}
_OSU = dict.fromkeys(("ER", "SCU", "SD", "MA"), 250)
_CU = dict.fromkeys(("MCU", "ACU", "SQA", "PO"), 250)
_STREAMINGBENCH = (*_RTVU, "RTVU", *_OSU, "OSU", *_CU, "CU", "All")

STREAMINGBENCH = Table(
    1,
    "StreamingBench",
    _STREAMINGBENCH,
    _rows(
        _STREAMINGBENCH,
        {
            "GPT-4o": "77.1 80.5 83.9 76.5 70.2 83.8 66.7 62.2 69.1 49.2 73.3 "
            "41.2 37.2 43.6 56.0 44.5 41.2 38.4 32.8 56.9 38.7 60.2",
            "Gemini-1.5-Pro": "79.0 80.5 83.5 79.7 80.0 84.7 77.8 64.2 72.0 48.7 75.7 "
            "46.8 39.6 74.9 80.0 60.2 51.4 40.7 54.8 45.1 48.7 67.1",
            "StreamAgent": "79.6 78.3 79.3 75.9 74.7 76.9 82.9 66.3 73.7 55.4 74.3 "
            "35.9 26.3 38.9 44.0 36.3 39.7 30.3 39.6 28.9 34.6 57.0",
            "ViSpeak": "79.8 71.1 81.4 78.8 74.5 70.1 63.9 64.2 71.4 28.0 70.4 "
            "47.2 56.4 61.6 81.2 61.6 49.2 36.4 39.2 50.8 43.9 62.6",
            "Qwen3-VL-8B-Inst.": "80.1 76.6 81.1 81.1 77.0 73.2 80.6 63.4 68.8 57.0 74.1 "
            "44.4 27.2 46.4 49.6 41.9 30.0 38.4 38.0 52.8 39.8 59.3",
            "MiniCPM-o-4.5": "80.9 88.3 82.0 85.0 78.9 85.4 78.7 67.1 75.6 56.0 78.2 "
            "44.4 28.0 41.6 54.4 42.1 35.2 44.0 51.2 47.6 44.5 62.7",
            OWN: "87.5 84.4 93.4 89.5 83.2 87.9 86.1 76.4 82.4 47.7 83.2 "
            "56.4 48.4 62.8 80.4 62.0 54.8 70.8 57.2 53.2 59.0 73.1",
        },
    ),
    benchmark="streamingbench",
    tasks={**_RTVU, **_OSU, **_CU},
    groups={"RTVU": tuple(_RTVU), "OSU": tuple(_OSU), "CU": tuple(_CU)},
    overall="All",
    earlier={"PO": 51},
)

_RTVP = {"OCR": 149, "ACR": 109, "ATR": 116, "STU": 178, "FPD": 101, "OJR": 184}
_BT = {"EPM": 297, "ASI": 148, "HLD": 186}
_FAR = {"REC": 698, "SSR": 629, "CRR": 240}
_OVOBENCH = (*_RTVP, "RTVP", *_BT, "BT", *_FAR, "FAR", "All")

OVOBENCH = Table(
    2,
    "OVO-Bench",
    _OVOBENCH,
    _rows(
        _OVOBENCH,
        {
            "GPT-4o": "69.8 64.2 71.6 51.1 70.3 59.8 64.5 57.9 75.7 48.7 60.8 73.2 27.6 59.4 53.4 59.5",
            "Gemini-1.5-Pro": "85.9 67.0 79.3 58.4 63.4 62.0 69.3 58.6 76.4 52.6 62.5 35.5 74.2 61.7 57.2 63.0",
            "StreamAgent": "71.2 53.2 63.6 53.9 67.3 58.7 61.3 54.8 58.1 25.8 41.7 35.9 48.4 52.0 45.4 49.4",
            "Streamo-7B": "77.2 66.1 76.7 45.5 66.3 72.8 67.4 55.6 58.1 33.9 49.2 30.8 57.6 82.5 57.0 57.9",
            "ViSpeak": "75.2 58.7 71.6 51.1 74.3 66.9 66.3 59.9 48.7 64.0 57.5 33.8 68.5 60.4 54.3 61.1",
            "MiniCPM-o-4.5": "73.2 65.1 75.0 59.0 69.3 62.5 67.3 55.2 66.9 45.7 55.9 43.0 66.0 58.8 55.9 59.7",
            "Qwen3-VL-8B-Inst.": "54.5 58.7 68.5 70.3 68.1 49.5 61.6 58.8 41.1 23.1 41.0 21.2 51.3 40.4 37.7 46.8",
            OWN: "89.9 79.8 80.2 70.2 77.2 81.5 79.8 54.9 67.6 58.6 60.4 30.4 75.8 61.3 55.8 65.3",
        },
    ),
    benchmark="ovobench",
    tasks={**_RTVP, **_BT, **_FAR},
    groups={"RTVP": tuple(_RTVP), "BT": tuple(_BT), "FAR": tuple(_FAR)},
    overall="All",
)

_OMNIMMI = ("SG 1st", "SG 2nd", "SG 3rd", "SG", "AP", "MD 1st", "MD 2nd", "MD 3rd", "MD", "SI", "PA", "All")
_FIVE = {"SG": 300, "AP": 200, "MD": 300, "SI": 200, "PA": 200}

OMNIMMI = Table(
    3,
    "OmniMMI",
    _OMNIMMI,
    _rows(
        _OMNIMMI,
        {
            "GPT-4o": "48.7 17.0 5.6 15.0 39.5 34.3 15.6 7.7 12.3 17.0 ✗ 16.8",
            "Gemini-1.5-Pro": "52.3 19.7 9.4 16.3 43.0 35.0 16.3 7.1 12.0 38.5 ✗ 22.0",
            "M4": "35.7 6.4 1.9 5.7 33.5 35.7 6.4 1.9 1.7 9.0 25.5 15.1",
            "MiniCPM-o-4.5": "46.3 8.1 0.9 6.3 25.0 36.0 13.5 5.1 9.3 17.0 ✗ 11.5",
            "Qwen3-VL-8B-Inst.": "51.3 9.5 0.0 7.7 36.5 33.7 11.1 3.5 9.7 29.5 ✗ 16.7",
            OWN: "52.7 26.4 15.0 24.0 32.0 37.3 12.8 3.6 7.7 26.0 37.5 25.4",
        },
    ),
    benchmark="omnimmi",
    tasks=_FIVE,
    turns={"SG 1st": 300, "SG 2nd": 295, "SG 3rd": 107, "MD 1st": 300, "MD 2nd": 289, "MD 3rd": 197},
    overall="All",
)

_LATENCY = ("ASR", "TTFT", "first sentence", "TTS first chunk", "end to end")

LATENCY = Table(
    4,
    "latency in milliseconds (∼: estimated)",
    _LATENCY,
    _rows(_LATENCY, {OWN: "84.2 75.0 ∼60 93.0 ∼312.2"}),
)

_OFFLINE = ("LongVideoBench", "MVBench", "Video-MME")

OFFLINE = Table(
    5,
    "offline benchmarks",
    _OFFLINE,
    _rows(_OFFLINE, {"Qwen3-VL-8B-Inst.": "61.9 69.0 68.6", OWN: "58.8 68.1 65.1"}),
)

_OBJECTIVE = (*_FIVE, "All")

OBJECTIVE = Table(
    6,
    "OmniMMI, by training objective",
    _OBJECTIVE,
    _rows(_OBJECTIVE, {"default cross-entropy": "22.7 26.0 7.7 25.5 0.0 16.4", OWN: "24.0 32.0 7.7 26.0 37.5 25.4"}),
    benchmark="omnimmi",
    tasks=_FIVE,
    overall="All",
)

TABLES = (STREAMINGBENCH, OVOBENCH, OMNIMMI, LATENCY, OFFLINE, OBJECTIVE)
