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
from train.attention import BLOCKS
from train.checkpoint import load_state, save_state
from train.configs import NanoConfig, StreamStage
from train.events import ChangeProbes, changes, wanted
from train.features import Film
from train.loss import weighted_loss
from train.optimizer import Optimizer
from train.samples import Batch, Sample, collate, draw_sample, film_builder
from train.vision import learning_rate

SAVE_EVERY = 240.0  # seconds


def target_logits(model: Qwen3VLForConditionalGeneration, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (T', vocabulary) that predict the targets, and the targets (T',); the head runs only there."""
    language = model.model.language_model
    if language.config._attn_implementation != BLOCKS:
        raise ValueError(f"packed samples need the attention {BLOCKS}")  # any other would let them see each other
    embeds = language.embed_tokens(batch.ids)
    seen = batch.ids == model.config.video_token_id
    embeds = embeds.masked_scatter(seen[:, None], batch.features[:, 0])
    hidden = language(
        inputs_embeds=embeds[None],
        position_ids=batch.positions[:, None],
        attention_mask=None,
        use_cache=False,
        visual_pos_masks=seen[None],
        deepstack_visual_embeds=[batch.features[:, 1]],
        cu_seq_lens_q=batch.starts,
    ).last_hidden_state
    return model.lm_head(hidden[0, batch.index - 1]), batch.ids[batch.index]


def change_loss(
    model: Qwen3VLForConditionalGeneration, probes: ChangeProbes, samples: Sequence[Sample], batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, float]:
    """The auxiliary losses of the batch whose forward has just run."""
    labels = [changes(s.film.scene, s.film.size, s.first, s.first + len(s.decisions) - 1) for s in samples]
    places = torch.tensor(
        [start + place for start, s in zip(batch.starts, samples, strict=False) for place in s.decisions]
    )
    use = torch.tensor([k > 0 for s in samples for k in range(len(s.decisions))])
    requests = [wanted(s.questions, seen, s.first) for s, seen in zip(samples, labels, strict=True)]
    due = torch.tensor([d for s in samples for d in s.due])
    return probes.loss(batch.ids == model.config.video_token_id, places, labels, requests, due, use)


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
    probes = ChangeProbes(model.model.language_model)
    named = [*model.named_parameters(), *((f"probe.{name}", p) for name, p in probes.named_parameters())]
    optimizer = Optimizer(named, config.lr)
    state = {"language": model.model.language_model, "probes": probes, "optimizer": optimizer}
    first = load_state(out / "stream.pt", state)
    builder = film_builder(tokenizer)
    stages: list[StreamStage] = [stage for stage in config.streams for _ in range(stage.steps)]
    started = saved = time.monotonic()
    for step in range(first, len(stages)):
        stage = stages[step]
        cycle = next(c for c in cycles(config) if c.first <= step < c.end)
        if step == cycle.first:
            state["optimizer"] = optimizer = Optimizer(named, cycle.peak)
        samples = [
            draw_sample(films, stage, builder, (config.seed, step, rank, i), busy, i) for i in range(stage.batch)
        ]
        batch = collate(samples, config.supervise, tokenizer.pad_token_id)
        optimizer.set_lr(learning_rate(step - cycle.first, cycle.end - cycle.first, cycle.peak, config.warmup))
        with torch.autocast("cpu", dtype=torch.bfloat16):  # a quarter faster where the processor has it
            logits, labels = target_logits(model, batch)
        loss = weighted_loss(logits.float(), labels, batch.weight, stage.batch)
        noticed, awaited, due, events_seen, due_right = change_loss(model, probes, samples, batch)
        optimizer.zero_grad()
        (loss + config.change_weight * noticed + config.wanted_weight * (awaited + due)).backward()
        average_gradients(optimizer.parameters)
        optimizer.step()
        last = step == len(stages) - 1
        if rank == 0 and (step % 20 == 0 or last):
            figures = f"loss {loss.item():.4f} changes {noticed.item():.3f} events seen {events_seen:.2f}"
            figures += f" awaited {awaited.item():.3f} due {due.item():.3f} right {due_right:.2f}"
            print(f"stream {step} {figures} {time.monotonic() - started:.0f} s", flush=True)
        if rank == 0 and (step % 200 == 199 or last):
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
    for i in range(len(films) * draws):
        sample = draw_sample([films[i % len(films)]], stage, builder, (seed, 0xF0, i))
        batch = collate([sample], "all", tokenizer.pad_token_id)
        logits, labels = target_logits(model, batch)
        p_silent, right = log_softmax(logits, -1)[:, silent_token], logits.argmax(-1) == labels
        at = 0
        for span, asked in zip(sample.spans, sample.asked, strict=True):
            size = span.end - span.start
            if span.silent:
                out["silent"].append(float(p_silent[at]))
            else:
                kind = "answer" if asked else "alert"
                out[kind].append(float(p_silent[at]))
                out[kind + "_right"].append(bool(right[at : at + size].all()))
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
