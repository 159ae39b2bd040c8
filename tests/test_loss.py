"""The Silent-Speech Balanced Loss against the paper's formula, written out in float64."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aura_core.prompt import Span
from train.loss import Supervise, target_weights, weighted_loss


def plain_loss(logits, labels, messages, supervise="last", least=()):
    """Equation (1) for one sample: messages are (start, end, silent), tokens predicted from the position before;
    `least` is the least weight of each message if it is silent."""
    spoken = [m for m in messages if not m[2]]
    kept = spoken[-1:] if supervise.startswith("last") else spoken
    balanced = supervise in ("last", "all")
    n_silent = sum(m[2] for m in messages)
    numerator, denominator = 0.0, 0
    for m, firm in zip(messages, least or [0.0] * len(messages), strict=True):
        if not m[2] and m not in kept:
            continue
        for position in range(m[0], m[1]):
            row = [float(v) for v in logits[position - 1]]
            top = max(row)
            ce = top + math.log(sum(math.exp(v - top) for v in row)) - row[int(labels[position])]
            numerator += ce * (max(firm, 1 / n_silent) if m[2] and balanced else 1.0)
            denominator += 1
    return numerator / denominator if denominator else 0.0


@st.composite
def samples(draw):
    at, messages = 1, []
    for silent in draw(st.lists(st.booleans(), min_size=1, max_size=12)):
        at += draw(st.integers(0, 3))
        size = 2 if silent else draw(st.integers(2, 6))
        messages.append((at, at + size, silent))
        at += size
    return messages, at, draw(st.integers(0, 2**20))


@given(samples(), st.sampled_from(get_args(Supervise)), st.data())
@settings(max_examples=80)
def test_one_sample_equals_the_formula(sample, supervise, data):
    messages, length, seed = sample
    least = data.draw(st.lists(st.sampled_from((0.0, 0.3, 1.0)), min_size=len(messages), max_size=len(messages)))
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(length, 7, generator=rng, dtype=torch.float64) * 3
    labels = torch.randint(0, 7, (length,), generator=rng)
    spans = [Span(i, a, b, silent) for i, (a, b, silent) in enumerate(messages)]
    targets = target_weights(spans, supervise, dict(zip(spans, least, strict=True)))
    loss = weighted_loss(logits[targets.index - 1], labels[targets.index], targets.weight.double(), 1)
    assert float(loss) == pytest.approx(plain_loss(logits, labels, messages, supervise, least), rel=1e-5, abs=1e-9)
    if not any(least):
        assert targets.weight.equal(target_weights(spans, supervise).weight)


@given(st.lists(samples(), min_size=2, max_size=4))
@settings(max_examples=30)
def test_a_batch_is_the_mean_over_samples_however_long_they_are(batch):
    parts, logits, labels, weights = [], [], [], []
    for messages, length, seed in batch:
        rng = torch.Generator().manual_seed(seed)
        x, y = torch.randn(length, 7, generator=rng), torch.randint(0, 7, (length,), generator=rng)
        targets = target_weights([Span(i, a, b, s) for i, (a, b, s) in enumerate(messages)], "last")
        parts.append(float(weighted_loss(x[targets.index - 1], y[targets.index], targets.weight, 1)))
        logits.append(x[targets.index - 1])
        labels.append(y[targets.index])
        weights.append(targets.weight)
    together = weighted_loss(torch.cat(logits), torch.cat(labels), torch.cat(weights), len(batch))
    assert float(together) == pytest.approx(sum(parts) / len(parts), rel=1e-4, abs=1e-7)


def test_earlier_spoken_messages_are_not_supervised():
    spans = [Span(0, 1, 4, False), Span(1, 5, 7, True), Span(2, 8, 11, False)]
    assert target_weights(spans, "last").index.tolist() == [5, 6, 8, 9, 10]
    assert target_weights(spans, "all").index.tolist() == [1, 2, 3, 5, 6, 8, 9, 10]


def test_with_one_spoken_message_both_choices_are_the_papers():
    spans = [Span(0, 1, 3, True), Span(1, 4, 6, True), Span(2, 7, 11, False)]
    last, every = target_weights(spans, "last"), target_weights(spans, "all")
    assert last.index.equal(every.index)
    assert last.weight.equal(every.weight)
    assert last.weight[0] == pytest.approx(0.5 / 8)


def test_a_sample_without_silence_is_a_plain_mean():
    weight = target_weights([Span(0, 1, 5, False)], "last").weight
    assert weight.tolist() == pytest.approx([0.25] * 4)


def test_the_ablations_of_the_paper_lie_between_its_loss_and_cross_entropy():
    spans = [Span(0, 1, 4, False), Span(1, 5, 7, True), Span(2, 8, 10, True), Span(3, 11, 14, False)]
    every = target_weights(spans, "cross-entropy")
    assert every.weight.tolist() == pytest.approx([0.1] * 10)  # the plain mean over all assistant tokens
    assert every.silent.tolist() == [False] * 3 + [True] * 4 + [False] * 3
    last = target_weights(spans, "last-unweighted")
    assert last.index.tolist() == target_weights(spans, "last").index.tolist()
    assert last.weight.tolist() == pytest.approx([1 / 7] * 7)
