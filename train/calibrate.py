"""The bias on the silent token: the threshold between silence and speech, set on a split kept for that.

The balanced loss teaches the two to be told apart, not how often each occurs; where a model speaks is a matter of
threshold. The bias is the smallest that keeps the model silent in the wanted share of seconds with nothing due.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from transformers import Qwen3VLForConditionalGeneration

from train.configs import LIFE, NanoConfig
from train.features import Film
from train.language import margins

WANTED_SILENCE = 0.9995  # judged on seed 4711 of the held-out world, alerts sure of their words


def log_odds(log_p: Sequence[float]) -> np.ndarray:
    """log p/(1-p) from log p."""
    p = np.clip(np.asarray(log_p, np.float64), -60.0, -1e-9)
    return p - np.log(-np.expm1(p))


def silence_bias(
    model: Qwen3VLForConditionalGeneration, tokenizer, films: Sequence[Film], config: NanoConfig
) -> tuple[float, str]:
    """The bias, and a line of figures at it."""
    stage = replace(config.streams[-1], draws=(LIFE,))
    seen = margins(model, tokenizer, films, stage, seed=config.seed + 2, draws=6)
    silent, alert, answer = (log_odds(seen[name]) for name in ("silent", "alert", "answer"))
    # log odds of silence against everything else: a bias on one logit shifts them by just that much
    bias = float(-np.quantile(silent, 1 - WANTED_SILENCE))
    spoken = ", ".join(
        f"{name} {(np.sum(odds + bias < 0)) / max(1, odds.size):.3f} of {odds.size}"
        for name, odds in (("alerts", alert), ("answers", answer))
    )
    return bias, f"silent bias {bias:.2f}: silence {np.mean(silent + bias > 0):.4f} of {silent.size}, spoken: {spoken}"
