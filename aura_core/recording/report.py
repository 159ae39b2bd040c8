"""What a replay found: decision by decision what was recorded and what was decided now, and where they part."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PADS = re.compile(r"((?:<\|video_pad\|>)+)")
#: Characters of a prompt that are shown to people; JSON has them all.
_SHOWN = 4000


@dataclass(frozen=True)
class Outcome:
    """A decision at stream time `t`: the text recorded and the text now (None: silent)."""

    chunk: int
    t: float
    recorded: str | None
    now: str | None
    same: bool
    same_prompt: bool
    compared: bool = True
    """False where nothing was recorded that could differ: given up before the first word."""


@dataclass(frozen=True)
class Prompt:
    """The prompt of a decision, now: its text, and the SHA-256 of its tokens (or messages) now and as recorded."""

    text: str
    now: str
    recorded: str
    tokens: int
    before: str | None = None
    """The recorded prompt's text, if it was another one and can be shown."""


@dataclass
class Report:
    """A whole replay. Every decision was made on the recorded course of events, so one that differs changes no other.

    `course` says where the session itself, not its model, went another way; None: nowhere.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    skipped: int = 0
    course: str | None = None
    prompt: Prompt | None = None
    """Of the first difference."""
    damage: str | None = None
    ended: str | None = None
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What ran then and runs now, where it is not the same."""

    @property
    def different(self) -> list[Outcome]:
        """The decisions that are not the same, in order."""
        return [outcome for outcome in self.outcomes if not outcome.same]

    @property
    def same(self) -> bool:
        """Every decision is the same, and so is what the session made of them."""
        return self.course is None and not self.different

    @property
    def said(self) -> dict[int, str]:
        """What was said now, by chunk; what is not here was silent."""
        return {outcome.chunk: outcome.now for outcome in self.outcomes if outcome.now is not None}

    def as_json(self) -> dict[str, Any]:
        """For scripts: `same`, `decisions`, `compared`, `different`, `first` (with its `prompt`) and all others."""
        return {
            "same": self.same,
            "decisions": len(self.outcomes),
            "compared": sum(outcome.compared for outcome in self.outcomes),
            "skipped": self.skipped,
            "different": len(self.different),
            "prompts_different": sum(not outcome.same_prompt for outcome in self.outcomes),
            "first": self._first_json(),
            "differences": [_outcome_json(outcome) for outcome in self.different],
            "course": self.course,
            "damage": self.damage,
            "ended": self.ended,
            "changed": {name: {"recorded": then, "now": now} for name, (then, now) in self.changed.items()},
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"changed: {name}: {then} then, {now} now" for name, (then, now) in self.changed.items()]
        if self.damage is not None or self.ended is None:
            lines.append(self.damage or "the recording was never ended; all that is there was run again")
        decisions = f"{len(self.outcomes)} decisions"
        if others := sum(not outcome.same_prompt for outcome in self.outcomes):
            lines.append(f"the prompts of {others} of {decisions} are not the recorded ones")
        if self.course is not None:
            lines.append(f"the session went another way: {self.course}")
        if not self.different:
            replies = sum(outcome.now is not None for outcome in self.outcomes)
            given_up = sum(not outcome.compared for outcome in self.outcomes)
            rest = f", {given_up} given up before a word" if given_up else ""
            return [*lines, f"{decisions}, all the same: {replies} replies, {self.skipped} chunks skipped{rest}"]
        first = self.different[0]
        lines += [
            f"{len(self.different)} of {decisions} differ; the first, at {first.t:.2f} s (chunk {first.chunk}):",
            f"  recorded  {_quoted(first.recorded)}",
            f"  now       {_quoted(first.now)}",
        ]
        lines += self._prompt_lines()
        for outcome in self.different[1:20]:
            lines.append(f"{outcome.t:9.2f} s  {_quoted(outcome.recorded)}  now  {_quoted(outcome.now)}")
        if len(self.different) > 20:
            lines.append(f"and {len(self.different) - 20} more")
        return lines

    def _first_json(self) -> dict[str, Any] | None:
        if not self.different:
            return None
        prompt = self.prompt
        return _outcome_json(self.different[0]) | {"prompt": None if prompt is None else vars(prompt)}

    def _prompt_lines(self) -> list[str]:
        if (prompt := self.prompt) is None:
            return []
        same = prompt.now == prompt.recorded
        lines = [f"  prompt    {prompt.tokens} tokens, sha256 {prompt.now}" + (", as recorded" if same else "")]
        if not same:
            lines.append(f"  recorded  sha256 {prompt.recorded}")
        shown = _broken(prompt.text)
        if not same and prompt.before is not None:
            compared = difflib.unified_diff(_broken(prompt.before), shown, "recorded", "now", lineterm="", n=2)
            shown = list(compared)
        text = "\n".join(f"  | {line}" for line in shown)
        if len(text) > _SHOWN:
            text = text[: _SHOWN // 4] + "\n  | [...]\n" + text[-_SHOWN * 3 // 4 :]
        return [*lines, text]


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same in two first records: versions, checkpoint."""
    pairs = {"checkpoint": (then.get("checkpoint"), now.get("checkpoint"))}
    before, after = then.get("versions") or {}, now.get("versions") or {}
    pairs |= {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in ("chunk", "t", "recorded", "now", "same_prompt")}


def _quoted(text: str | None) -> str:
    return "silent" if text is None else repr(text)


def _broken(prompt: str) -> list[str]:
    """A message a line, and the many pads of a chunk as their number."""
    counted = _PADS.sub(lambda pads: f"<|video_pad|>x{len(pads[1]) // len('<|video_pad|>')}", prompt)
    return counted.replace("<|im_end|><|im_start|>", "<|im_end|>\n<|im_start|>").split("\n")
