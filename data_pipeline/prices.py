"""What the calls cost: a price table is a JSON file, {"MODEL": {"input": USD, "output": USD, "cached": USD}}, in US
dollars for a million tokens; `cached` (input that the server had cached) costs as `input` where it is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float
    cached: float

    def cost(self, tokens: Mapping[str, int]) -> float:
        """US dollars for the totals of `dataset.calls`."""
        cached = tokens["cached_tokens"]
        fresh = tokens["prompt_tokens"] - cached
        return (fresh * self.input + cached * self.cached + tokens["completion_tokens"] * self.output) / MILLION


def read_prices(path: Path) -> dict[str, Price]:
    """Raises OSError, and ValueError with one line about what is wrong."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {
            model: Price(float(p["input"]), float(p["output"]), float(p.get("cached", p["input"])))
            for model, p in table.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f'{path} is no price table {{"MODEL": {{"input": USD, "output": USD}}}}: {error}') from error


def priced(calls: Mapping[str, Mapping[str, int]], prices: Mapping[str, Price]) -> float | None:
    """US dollars for all calls; None when a model has no price."""
    if any(model not in prices for model in calls):
        return None
    return sum(prices[model].cost(tokens) for model, tokens in calls.items())
