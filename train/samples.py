"""Training samples from films: draw questions, let the stream run through the serving context, take the prompt.

The tokens are those the model will be served (`aura_core.context`, `aura_core.prompt`); only the pixels are replaced
by the features of the film.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from aura_core.chunks import Chunk
from aura_core.context import Context, Message
from aura_core.prompt import PromptBuilder, Span
from aura_core.requests import StandingRequests, content_words
from aura_core.samples import Step, first_second, mix
from data_pipeline.world.questions import QA, draw_questions
from data_pipeline.world.scene import Scene
from data_pipeline.world.vocabulary import COLORS, KINDS
from train.configs import StreamStage
from train.features import LATEST_FRAME, Film
from train.loss import Supervise, target_weights
from train.slips import slip
from train.vision import CELL

MOVING = 0.3  # seconds after which a move, which begins softly, can be seen
NAMES = tuple(content_words(" ".join(names)) for names in (KINDS, COLORS))  # as a session has them from aura.json
MULTIPLE = 32  # tokens: of few different lengths, since oneDNN makes a kernel for each new one


@dataclass(frozen=True, eq=False)
class Sample:
    """Token ids (T,), positions (3, T), visual features (V, 2, width) of the video tokens in order, and the targets."""

    ids: np.ndarray
    positions: np.ndarray
    features: np.ndarray
    spans: list[Span]
    asked: list[bool]  # for each span: did its turn hold a question?
    decisions: list[int]  # for each chunk of the window: the place of the token before its reply
    film: Film
    first: int  # chunk of the film with which the window begins
    questions: Sequence[QA]  # of the whole stream
    firm: dict[Span, float]  # least weights of silent targets
    due: list[int]  # for each chunk of the window: 1 an alert is due, 0 none is, -1 a question was asked or unsettled


class Batch(NamedTuple):
    """Samples one behind the other, T tokens in all; targets are flat over the batch."""

    ids: torch.Tensor  # (T,)
    positions: torch.Tensor  # (3, T), of each sample from 0 on
    starts: tuple[int, ...]  # where each sample begins, and the end of the last
    features: torch.Tensor  # (V, 2, width) in half precision, in the order of the video tokens
    index: torch.Tensor  # (T',) place of each target token
    weight: torch.Tensor  # (T',)


def blank_chunks(film: Film, seconds: int) -> list[Chunk]:
    """Chunks of the film's size without pixels (one shared black frame)."""
    width, height = film.size
    black = np.broadcast_to(np.uint8(0), (2, height, width, 3))
    return [Chunk(k, float(k), k + 1.0, black, f"{film.scene.seed}-{k}") for k in range(seconds)]


def standing(questions: Sequence[QA], seconds: int) -> dict[int, int]:
    """For each second in which a request was made that is to wait: that in which it is met, `seconds` where it is to
    be met every time or never."""
    out = {}
    for qa in questions:
        if qa.type == "realtime" or (qa.answers and qa.answers[0].t <= qa.t):
            continue
        once = qa.type == "proactive" and bool(qa.answers)
        out[max(0, math.ceil(qa.t) - 1)] = first_second(qa.answers[0].t) if once else seconds
    return out


def replay(film: Film, questions: Sequence[QA], steps: Sequence[Step], n: int, n_extra: int) -> Context:
    """The serving context after these steps. Requests are pinned while they stand, as a session does it: an alert for
    one that the history has lost would teach to announce what nobody asked for. So by the truth; how often each has
    been met is told by what was said, which is all that a session knows."""
    context, stands, requests = Context(n=n, n_extra=n_extra), standing(questions, len(steps)), StandingRequests()
    for k, (chunk, step) in enumerate(zip(blank_chunks(film, len(steps)), steps, strict=True)):
        question = step.question and requests.tallied(step.question, NAMES)
        context.open_turn(chunk, question, str(k) if question else None)
        if k in stands:
            context.pin(str(k))
            requests.add(str(k), step.question or "", chunk.end)
        elif step.reply and not question and (met := requests.attribute(step.reply, NAMES)):
            requests.fire(met)
        for asked in [asked for asked, met in stands.items() if met == k]:
            context.unpin(str(asked))
        context.close_turn(step.reply)
    return context


def make_sample(
    film: Film,
    questions: Sequence[QA],
    steps: Sequence[Step],
    said: Sequence[Step],
    slipped: frozenset[int],
    waiting: Collection[int],
    builder: PromptBuilder,
    stage: StreamStage,
) -> Sample:
    """The prompt after `steps` of the film with these questions; its targets are the turns in the window. After a cut
    the first of them is left out: what its chunk is to be compared with has gone. The history holds what was `said`;
    where that is `slipped` there is no target, nor where an alert is `waiting` that may as well be said."""
    context = replay(film, questions, said, *stage.window)
    messages = context.messages()
    prompt = builder.build(messages, generate=False)
    spans = [s for s in prompt.spans if messages[s.message - 1].chunk is not None]
    decisions = [s.start - 1 for s in spans]
    shown = [video.chunk.index for video in prompt.videos]
    if shown[0] > 0:
        spans = spans[1:]
    untaught = {*slipped, *waiting}
    spans = [s for s in spans if _second(messages, s) not in untaught]
    features = film.features[shown[0] : shown[-1] + 1].swapaxes(1, 2)  # (chunks, cells, 2, width)
    asked = [bool(messages[s.message - 1].text) for s in spans]
    stirring = eventful(film.scene)
    firm = {s: stage.firm for s in spans if _second(messages, s) in stirring}
    features = features.reshape(-1, *features.shape[2:])
    due = [-1 if steps[k].question or k in waiting else int(steps[k].kind == "alert") for k in shown]
    return Sample(prompt.ids, prompt.positions, features, spans, asked, decisions, film, shown[0], questions, firm, due)


def _second(messages: Sequence[Message], span: Span) -> int:
    """Of the film, in which this reply was given."""
    chunk = messages[span.message - 1].chunk
    assert chunk is not None
    return chunk.index


def eventful(scene: Scene) -> frozenset[int]:
    """The seconds in which something happens or has just happened, where silence is hard to keep."""
    return frozenset(
        k for event in scene.events() for k in range(math.ceil(event.since) - 1, first_second(event.t) + 2)
    )


def unsettled(questions: Sequence[QA], steps: Sequence[Step]) -> tuple[dict[int, str], dict[int, str]]:
    """The seconds in which an alert may be said as well as in the next, and the alert: those that end while its event
    has begun but does not count yet, and those that end before one that counts can be seen."""
    begun_in, hidden_in = {}, {}
    for qa in questions:
        for answer in (a for a in qa.answers if a.t > qa.t):
            k = first_second(answer.t)
            begun = k if answer.since is None else math.ceil(answer.since) - 1
            if begun < min(k, len(steps)) and steps[begun] == Step():
                begun_in[begun] = answer.text
            hidden = MOVING if qa.topic == "move" else LATEST_FRAME
            if k < len(steps) and steps[k].reply == answer.text and k + 1 - answer.t < hidden:
                hidden_in[k] = answer.text
    return begun_in, hidden_in


def waver(steps: Sequence[Step], waiting: Mapping[int, str], rng: np.random.Generator) -> list[Step]:
    """The steps with every other of the `unsettled` alerts said in the other of its two seconds."""
    out = list(steps)
    for k, text in waiting.items():
        alert, pair = Step(None, text, "alert"), out[k : k + 2]
        if rng.random() < 0.5 and pair in ([Step(), alert], [alert, Step()]):
            out[k], out[k + 1] = out[k + 1], out[k]
    return out


def draw_sample(
    films: Sequence[Film],
    stage: StreamStage,
    builder: PromptBuilder,
    seed: Sequence[int],
    busy: Sequence[Film] = (),
    turn: int = 0,
    patient: bool = True,
) -> Sample:
    """A random moment of a random film with fresh questions; of a `busy` film as often as the draw wants. The stage's
    draws take turns. `patient`: silence is a target while an alert's event is half shown and the alert comes after;
    where silence is judged it is not, since the alert would have been right too."""
    rng = np.random.default_rng(list(seed))
    draw = stage.draws[turn % len(stage.draws)]
    chosen = busy if busy and rng.random() < draw.busy else films
    film = chosen[int(rng.integers(len(chosen)))]
    length = len(film.features)
    gap = draw.question_gaps[int(rng.integers(len(draw.question_gaps)))]
    standing = draw.standing[int(rng.integers(len(draw.standing)))]
    questions = draw_questions(
        film.scene,
        int(rng.integers(2**31)),
        gap,
        draw.types,
        standing,
        foresight=draw.foresight,
        topics=draw.topics,
        asks=draw.asks,
        vague=draw.vague,
        present=draw.present,
        split="trained",
    )
    end = int(rng.integers(min(stage.window[0], length), length + 1))
    steps = mix(questions, length)[:end]
    begun, hidden = unsettled(questions, steps)
    steps = waver(steps, begun | hidden, rng)
    # What has only begun is half seen and easily misnamed: to wait is taught, to have spoken is not.
    waiting = hidden.keys() | {k for k in begun if not patient or steps[k] != Step()}
    said, slipped = slip(steps, film.scene, stage.slips, rng) if stage.slips else (steps, frozenset[int]())
    return make_sample(film, questions, steps, said, slipped, waiting, builder, stage)


def collate(samples: Sequence[Sample], supervise: Supervise, pad: int) -> Batch:
    """The samples behind each other, `pad` after each up to a multiple of `MULTIPLE`."""
    sizes = [-(-len(s.ids) // MULTIPLE) * MULTIPLE for s in samples]
    starts = tuple(accumulate(sizes, initial=0))
    ids = torch.full((starts[-1],), pad)
    positions = torch.zeros((3, starts[-1]), dtype=torch.long)
    for start, sample in zip(starts, samples, strict=False):
        ids[start : start + len(sample.ids)] = torch.from_numpy(sample.ids)
        positions[:, start : start + len(sample.ids)] = torch.from_numpy(sample.positions)
    targets = [target_weights(s.spans, supervise, s.firm) for s in samples]
    return Batch(
        ids,
        positions,
        starts,
        torch.from_numpy(np.concatenate([s.features for s in samples])),
        torch.cat([start + t.index for start, t in zip(starts, targets, strict=False)]),
        torch.cat([t.weight for t in targets]),
    )


def film_builder(tokenizer) -> PromptBuilder:
    """Prompts for films: their chunks are as large as the model sees them."""
    return PromptBuilder(tokenizer, lambda chunk: (chunk.frames.shape[1] // CELL, chunk.frames.shape[2] // CELL))
