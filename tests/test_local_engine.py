"""The local engine against an independent reference: transformers' own forward over the whole prompt with pixels."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aura_core.chunks import Chunk
from aura_core.context import Context, Message
from aura_core.engines.base import EngineError, StepStats, Tunable
from aura_core.engines.local import LocalEngine, LocalSession
from aura_core.pixels import to_patches
from aura_core.prompt import Prompt
from train.model import new_model, save_texts

QUESTIONS = {3: "What color is the ball?", 20: "Tell me when a <|im_end|> cat shows up.", 47: "Where is it? é😀"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint; its weights are scaled up so that what was seen and said changes the logits."""
    folder = tmp_path_factory.mktemp("nano")
    model, tokenizer = new_model(seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.mul_(3.0)
    model.save_pretrained(folder)
    save_texts(folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def shared_engine(checkpoint: Path) -> Iterator[LocalEngine]:
    torch.set_num_threads(1)  # the reference runs in this thread; as the engine does with a small model
    engine = LocalEngine(checkpoint, max_tokens=6, silent_bias=0.0)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture
async def engine(checkpoint: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(checkpoint, max_tokens=6, silent_bias=0.0)
    yield engine
    await engine.close()


def chunk(index: int, prefix: str = "s", size: tuple[int, int] = (96, 128)) -> Chunk:
    generator = np.random.default_rng([index, *prefix.encode()])
    coarse = generator.integers(0, 256, (2, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return Chunk(index, float(index), index + 1.0, frames, f"{prefix}-{index}")


def reference_logits(engine: LocalEngine, prompt: Prompt) -> torch.Tensor:
    """The whole prompt with its pixels through `model(...)`, positions by transformers. Returns (vocabulary,)."""
    model: Any = engine.network.model
    patches = [to_patches(video.chunk.frames, engine.network.pixels) for video in prompt.videos]
    ids = torch.from_numpy(prompt.ids)[None]
    kinds = (ids == model.config.video_token_id).int() * 2
    grids = torch.cat([patch.grid_thw for patch in patches])
    with torch.inference_mode():
        positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=kinds, video_grid_thw=grids)
        output = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=positions,
            pixel_values_videos=torch.cat([patch.values for patch in patches]),
            video_grid_thw=grids,
            mm_token_type_ids=kinds,
            use_cache=False,
            logits_to_keep=1,
        )
    return output.logits[0, -1].float()


class Recorder:
    """Keeps the logits that `session` computed for each prompt and for each token after it."""

    def __init__(self, session: LocalSession) -> None:
        self.logits: list[torch.Tensor] = []
        memory = session.memory
        prefill, append = memory.prefill, memory.append

        def recording_prefill(prompt: Prompt, stats: StepStats) -> torch.Tensor:
            logits = prefill(prompt, stats)
            self.logits = [logits.clone()]
            return logits

        def recording_append(token: int) -> torch.Tensor:
            logits = append(token)
            self.logits.append(logits.clone())
            return logits

        memory.prefill, memory.append = recording_prefill, recording_append  # type: ignore[method-assign]


async def say(session: LocalSession, messages: Sequence[Message], stats: StepStats | None = None) -> str:
    return "".join([delta async for delta in session.generate(messages, stats)])


async def stream(session: LocalSession, turns: int, prefix: str = "s", prewarm: bool = False) -> list[str]:
    """A stream of `turns` chunks with a question now and then, at the sizes of the design; returns what was said."""
    context, said = Context(), []
    for index in range(turns):
        context.open_turn(chunk(index, prefix), QUESTIONS.get(index))
        said.append(await say(session, context.messages()))
        # Untrained weights never fall silent: let most turns be.
        context.close_turn(said[-1] if index in QUESTIONS else None)
        if prewarm:
            await session.prewarm(context.after_cut_messages())
    return said


async def test_incremental_equals_full_recompute(shared_engine: LocalEngine) -> None:
    """60 turns, two cuts, a skipped chunk, an interruption that shortens a reply, and another size of picture."""
    session = shared_engine.open()
    recorder = Recorder(session)
    context, worst, cuts, spread = Context(), 0.0, 0, 0.0
    for index in range(62):
        size = (160, 96) if index in (11, 12) else (96, 128)
        context.open_turn(chunk(index, size=size), QUESTIONS.get(index))
        if index == 30:  # the chunk came too late: it enters the context without a generation
            context.close_turn(None)
            continue
        stats = StepStats()
        messages = context.messages()
        said = await say(session, messages, stats)
        expected = reference_logits(shared_engine, shared_engine.builder.build(messages))
        worst = max(worst, (recorder.logits[0] - expected).abs().max().item())
        spread = max(spread, expected.std().item())
        before = context.next_cut()
        context.close_turn(said if index % 7 == 0 or index in QUESTIONS else None)
        cuts += context.next_cut() > before
        if index == 35:
            assert context.amend_last_reply(said[: len(said) // 2] or None)
        if 0 < index < 30:
            assert stats.prompt_tokens - stats.cached_tokens < 100
        assert session.memory.chunks_held <= 45
    assert cuts == 2
    assert spread > 0.3, "degenerate logits would prove nothing"
    assert worst <= 1e-4
    await session.close()
    assert session.memory.cached_tokens == session.memory.chunks_held == 0


async def test_generated_tokens_equal_full_recompute(shared_engine: LocalEngine) -> None:
    """The logits after every generated token too: the same prompt with those tokens behind it."""
    session = shared_engine.open()
    recorder = Recorder(session)
    context, messages = Context(), []
    for index in range(3):
        context.open_turn(chunk(index), "What do you see?")
        messages = context.messages()
        context.close_turn(await say(session, messages))
    prompt = shared_engine.builder.build(messages)
    assert len(recorder.logits) > 1
    tokens = [int(logits.argmax()) for logits in recorder.logits]
    for count, logits in enumerate(recorder.logits):
        tail = np.array(tokens[:count], dtype=np.int64)
        longer = Prompt(np.concatenate([prompt.ids, tail]), prompt.positions, prompt.videos, [])
        assert (logits - reference_logits(shared_engine, longer)).abs().max() <= 1e-4


async def test_only_the_new_part_is_computed(shared_engine: LocalEngine) -> None:
    session = shared_engine.open()
    context, first, again, next_turn = Context(), StepStats(), StepStats(), StepStats()
    context.open_turn(chunk(0))
    await say(session, context.messages(), first)
    assert first.cached_tokens == 0
    assert first.new_tokens >= 1
    assert first.ttft_ms is not None
    await say(session, context.messages(), again)
    assert again.cached_tokens == again.prompt_tokens - 1, "the last token gives the logits"
    context.close_turn(None)
    context.open_turn(chunk(1))
    await say(session, context.messages(), next_turn)
    assert next_turn.cached_tokens == first.prompt_tokens
    assert next_turn.prompt_tokens > next_turn.cached_tokens


async def test_a_chunk_is_known_by_its_uid_not_its_place(shared_engine: LocalEngine) -> None:
    """Other frames in the same place are other tokens, though the ids are the same."""
    session = shared_engine.open()
    recorder = Recorder(session)
    for prefix in ("a", "b"):
        messages = [Message("system", "Watch."), Message("user", "", chunk(0, prefix))]
        await say(session, messages)
        expected = reference_logits(shared_engine, shared_engine.builder.build(messages))
        assert (recorder.logits[0] - expected).abs().max() <= 1e-4


async def test_prewarming_is_exact_and_saves_the_cut(shared_engine: LocalEngine) -> None:
    plain, warmed = shared_engine.open(), shared_engine.open()
    assert await stream(plain, 48) == await stream(warmed, 48, prewarm=True)
    assert plain.memory.swaps == 0
    assert warmed.memory.swaps == 1
    # The turn after the cut, with and without.
    for prewarm in (False, True):
        session = shared_engine.open()
        context = Context()
        for index in range(44):
            context.open_turn(chunk(index), QUESTIONS.get(index))
            context.close_turn("It is red." if index in QUESTIONS else None)
        context.open_turn(chunk(44))
        await say(session, context.messages())
        if prewarm:
            await session.prewarm(context.after_cut_messages())
        context.close_turn(None)
        assert context.next_cut() == 15
        context.open_turn(chunk(45))
        recorder, stats = Recorder(session), StepStats()
        await say(session, context.messages(), stats)
        assert stats.prewarmed == prewarm
        assert (stats.prompt_tokens - stats.cached_tokens < 60) == prewarm
        expected = reference_logits(shared_engine, shared_engine.builder.build(context.messages()))
        assert (recorder.logits[0] - expected).abs().max() <= 1e-4


async def test_sessions_interleaved_say_the_same_as_alone(shared_engine: LocalEngine) -> None:
    alone = [await stream(shared_engine.open(), 8, prefix) for prefix in "abc"]
    together = await asyncio.gather(*(stream(shared_engine.open(), 8, prefix) for prefix in "abc"))
    assert together == alone
    assert len({tuple(said) for said in alone}) == 3, "the streams must differ for this to prove anything"


async def test_aclose_stops_within_one_token(engine: LocalEngine) -> None:
    engine.max_tokens = 10_000
    session, computed = engine.open(), itertools.count()
    append = session.memory.append

    def counting_append(token: int) -> torch.Tensor:
        next(computed)
        return append(token)

    session.memory.append = counting_append  # type: ignore[method-assign]
    messages = [Message("system", "Watch."), Message("user", "Speak!", chunk(0))]
    answer = session.generate(messages)
    await anext(answer)
    before = next(computed)
    await answer.aclose()
    # Whatever was still queued has run when this has.
    await engine.run(lambda: None)
    assert next(computed) - before <= 2
    # And the session goes on as if nothing had happened.
    engine.max_tokens = 6
    assert await say(session, messages) == await say(engine.open(), messages)


async def test_cancelling_while_the_prompt_is_computed(engine: LocalEngine) -> None:
    session = engine.open()
    messages = [Message("system", "Watch."), Message("user", "Speak!", chunk(0))]
    begun = asyncio.Event()
    loop, features = asyncio.get_running_loop(), engine.network.features

    def announcing_features(frames: np.ndarray) -> torch.Tensor:
        loop.call_soon_threadsafe(begun.set)
        return features(frames)

    engine.network.features = announcing_features  # type: ignore[method-assign]
    task = asyncio.create_task(say(session, messages))
    async with asyncio.timeout(20):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await say(session, messages) == await say(engine.open(), messages)


async def test_silent_bias_decides(checkpoint: Path) -> None:
    """A large bias silences the first token and only that; a negative one never does."""
    messages = [Message("system", "Watch."), Message("user", "Speak!", chunk(0))]
    for bias, silent in ((1e4, True), (-1e4, False)):
        engine, stats = LocalEngine(checkpoint, silent_bias=bias, max_tokens=6), StepStats()
        said = await say(engine.open(), messages, stats)
        assert (said == "") == silent
        assert (stats.new_tokens == 1) == silent
        await engine.close()


async def test_silent_bias_and_alert_confidence_of_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "biased"
    shutil.copytree(checkpoint, folder)
    settings = json.loads((folder / "aura.json").read_text())
    (folder / "aura.json").write_text(json.dumps(settings | {"silent_bias": -1.5, "alert_confidence": 0.75}))
    for given, expected in ((None, (-1.5, 0.75)), (0.25, (0.25, 0.25))):
        engine = LocalEngine(folder, silent_bias=given, alert_confidence=given)
        assert (engine.silent_bias, engine.alert_confidence) == expected
        await engine.close()


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _other_model(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "qwen2_vl"}))


def _cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def _weight_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.visual.merger.linear_fc1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _no_pixels(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


@pytest.mark.parametrize("damage", [_no_folder, _other_model, _cut_short, _weight_missing, _no_pixels])
def test_a_damaged_checkpoint_is_refused_in_one_line(
    tmp_path: Path, checkpoint: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(EngineError) as raised:
        LocalEngine(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


async def test_a_failing_step_leaves_the_session_usable(engine: LocalEngine) -> None:
    session = engine.open()
    messages = [Message("system", "Watch."), Message("user", "Speak!", chunk(0))]
    expected = await say(engine.open(), messages)
    lm_head = engine.network.model.lm_head.forward

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    engine.network.model.lm_head.forward = failing  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="out of memory"):
        await say(session, messages)
    engine.network.model.lm_head.forward = lm_head  # type: ignore[method-assign]
    assert await say(session, messages) == expected


async def test_closing(checkpoint: Path) -> None:
    engine = LocalEngine(checkpoint)
    session, left = engine.open(), engine.open()
    await session.close()
    await session.close()
    with pytest.raises(EngineError):
        await say(session, [Message("system", "")])
    await engine.close()
    await engine.close()
    await left.close()
    with pytest.raises(EngineError):
        engine.open()


def test_nothing_needs_torchvision() -> None:
    """transformers hides its classes behind lazy imports that fail late: import them where torchvision cannot be."""
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import aura_core.engines.local\n"
        "from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


async def test_a_session_is_made_quieter_and_more_eager_as_it_runs(shared_engine: LocalEngine) -> None:
    assert isinstance(shared_engine, Tunable)
    quiet, other = shared_engine.open(), shared_engine.open()
    context = Context()
    context.open_turn(chunk(0), QUESTIONS[3])
    stats = StepStats()
    assert await say(quiet, context.messages(), stats)  # untrained weights never fall silent
    assert stats.quieter == 0.0
    quiet.quieter = 1000.0
    assert await say(quiet, context.messages(), stats) == ""
    assert stats.quieter == 1000.0
    assert await say(other, context.messages())
    quiet.quieter = -1000.0
    assert await say(quiet, context.messages())
    await quiet.close()
    await other.close()
