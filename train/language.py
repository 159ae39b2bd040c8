"""Stage two of `aura-nano`: the language model learns the loop, on features of the frozen tower.

Data-parallel over processes of one thread each: on two busy cores that is faster than two threads in one process,
which wait for each other in every operator. Deterministic given the seed; resumes from `stream.pt`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.nn.functional import log_softmax
from transformers import Qwen3VLForConditionalGeneration

from aura_core.prompt import SILENT
from train.attention import PACKED
from train.checkpoint import load_state, save_state
from train.configs import NanoConfig, StreamStage
from train.draws import Draws, moved
from train.events import ChangeProbes
from train.features import Film
from train.loss import weighted_loss
from train.optimizer import Optimizer
from train.precision import half_precision
from train.samples import Batch, collate, draw_sample, film_builder
from train.vision import learning_rate

SAVE_EVERY = 240.0  # seconds
TOGETHER = 8  # samples that are judged at a time


def target_logits(model: Qwen3VLForConditionalGeneration, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (T', vocabulary) that predict the targets, and the targets (T',); the head runs only there."""
    language = model.model.language_model
    if language.config._attn_implementation != PACKED:
        raise ValueError(f"packed samples need the attention {PACKED}")  # any other would let them see each other
    embeds = language.embed_tokens(batch.ids)
    seen = batch.ids == model.config.video_token_id
    features = batch.features.float()
    embeds = embeds.masked_scatter(seen[:, None], features[:, 0])
    hidden = language(
        inputs_embeds=embeds[None],
        position_ids=batch.positions[:, None],
        attention_mask=None,
        use_cache=False,
        visual_pos_masks=seen[None],
        deepstack_visual_embeds=[features[:, 1]],
        cu_seq_lens_q=batch.starts,
    ).last_hidden_state
    return model.lm_head(hidden[0, batch.index - 1]), batch.ids[batch.index]


class Cycle(NamedTuple):
    """A stretch of steps, from `first` to before `end`, under one rise and fall of the learning rate to `peak`."""

    first: int
    end: int
    peak: float


def cycles(config: NanoConfig) -> list[Cycle]:
    """The cycles of all stages, in order."""
    out: list[Cycle] = []
    for stage in config.streams:
        first = out[-1].end if out else 0
        if out and stage.lr is None:
            out[-1] = out[-1]._replace(end=first + stage.steps)
        else:
            out.append(Cycle(first, first + stage.steps, stage.lr or config.lr))
    return out


def average_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Mean over processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


def train_streams(
    model: Qwen3VLForConditionalGeneration,
    tokenizer,
    films: Sequence[Film],
    busy: Sequence[Film],
    held_out: Sequence[Film],
    config: NanoConfig,
    out: Path,
    snapshot: Callable[[], None],
    rank: int = 0,
) -> None:
    """Train the language model in place; `snapshot` is called on rank 0 now and then, and at the end."""
    model.model.visual.requires_grad_(False)
    probes = ChangeProbes(model.model.language_model).to(model.device)
    named = [*model.named_parameters(), *((f"probe.{name}", p) for name, p in probes.named_parameters())]
    optimizer = Optimizer(named, config.lr)
    state = {"language": model.model.language_model, "probes": probes, "optimizer": optimizer}
    first = load_state(out / "stream.pt", state)
    draws = Draws(films, busy, tokenizer, config, rank)
    started = saved = time.monotonic()
    for step, drawn in enumerate(draws.stream(first), first):
        stage = draws.stages[step]
        cycle = next(c for c in cycles(config) if c.first <= step < c.end)
        if step == cycle.first:
            state["optimizer"] = optimizer = Optimizer(named, cycle.peak)
        batch, labels = moved(drawn.batch, model.device), moved(drawn.labels, model.device)
        optimizer.set_lr(learning_rate(step - cycle.first, cycle.end - cycle.first, cycle.peak, config.warmup))
        with half_precision(model.device):  # a quarter faster
            logits, targets = target_logits(model, batch)
        loss = weighted_loss(logits.float(), targets, batch.weight, stage.batch)
        # Fresh probes must not teach a trained network anything before they have learned to read it.
        alone = config.model is not None and step < config.warmup
        events = probes.loss(batch.ids == model.config.video_token_id, labels, alone)
        optimizer.zero_grad()
        aside = config.change_weight * events.noticed + config.wanted_weight * (events.awaited + events.due)
        (loss + aside).backward()
        average_gradients(optimizer.parameters)
        optimizer.step()
        last = step == len(draws) - 1
        if rank == 0 and (step % 20 == 0 or last):
            figures = " ".join(f"{name} {value.item():.3f}" for name, value in events._asdict().items())
            print(f"stream {step} loss {loss.item():.4f} {figures} {time.monotonic() - started:.0f} s", flush=True)
        if rank == 0 and (step % config.test_every == config.test_every - 1 or last):
            print("held out", evaluate(model, tokenizer, held_out, stage, config), flush=True)
        if rank == 0 and (time.monotonic() - saved > SAVE_EVERY or last):
            save_state(out / "stream.pt", state, step + 1)
            snapshot()
            saved = time.monotonic()


@torch.inference_mode()
def margins(
    model: Qwen3VLForConditionalGeneration,
    tokenizer,
    films: Sequence[Film],
    stage: StreamStage,
    seed: int,
    draws: int = 2,
) -> dict[str, list]:
    """On true histories: log p(silent) of every turn that should be silent, of every alert and of every answer, and
    whether each spoken message is predicted token by token."""
    stage = replace(stage, slips=None)
    builder = film_builder(tokenizer)
    silent_token = tokenizer.convert_tokens_to_ids(SILENT)
    out: dict[str, list] = {"silent": [], "alert": [], "answer": [], "alert_right": [], "answer_right": []}
    seeds = range(len(films) * draws)
    samples = [draw_sample([films[i % len(films)]], stage, builder, (seed, 0xF0, i), patient=False) for i in seeds]
    for first in range(0, len(samples), TOGETHER):
        together = samples[first : first + TOGETHER]
        batch = moved(collate(together, "all", tokenizer.pad_token_id), model.device)
        logits, labels = target_logits(model, batch)
        p_silent, right = log_softmax(logits, -1)[:, silent_token].tolist(), (logits.argmax(-1) == labels).tolist()
        at = 0
        for span, asked in ((span, asked) for s in together for span, asked in zip(s.spans, s.asked, strict=True)):
            size = span.end - span.start
            if span.silent:
                out["silent"].append(p_silent[at])
            else:
                kind = "answer" if asked else "alert"
                out[kind].append(p_silent[at])
                out[kind + "_right"].append(all(right[at : at + size]))
            at += size
    return out


def evaluate(model, tokenizer, films: Sequence[Film], stage: StreamStage, config: NanoConfig) -> str:
    """Teacher-forced figures on films that training never saw."""
    seen = margins(model, tokenizer, films, stage, seed=config.seed + 1)

    def share(values: Sequence[bool]) -> str:
        return f"{sum(values) / max(1, len(values)):.3f} of {len(values)}"

    speak = -0.693  # p(silent) < 1/2
    return (
        f"silence {share([p >= speak for p in seen['silent']])}, "
        f"alerts spoken {share([p < speak for p in seen['alert']])}, "
        f"right {share(seen['alert_right'])}, answers right {share(seen['answer_right'])}"
    )
