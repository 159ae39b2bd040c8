"""Many values as a few figures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Summary = dict[str, float]


def summarize(values: Iterable[float]) -> Summary | None:
    """Mean, standard deviation (of the values themselves), percentiles (linear between values) and maximum; None for
    no values."""
    data = np.fromiter(values, dtype=np.float64)
    if not data.size:
        return None
    percentiles = {f"p{p}": float(np.percentile(data, p)) for p in (50, 90, 95, 99)}
    return {"mean": float(data.mean()), "std": float(data.std()), **percentiles, "max": float(data.max())}


def mean(values: Iterable[float]) -> float | None:
    """The mean; None for no values."""
    found = summarize(values)
    return None if found is None else found["mean"]
