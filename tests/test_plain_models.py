"""Qwen3-VL checkpoints that were never trained to be silent: their own format, silence in letters, any device."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aura_core.chunks import Chunk
from aura_core.context import PLAIN_SYSTEM_PROMPT, Message
from aura_core.engines.base import EngineError, StepStats
from aura_core.engines.local import LocalEngine
from aura_core.profiles import PROFILES, build_engine
from aura_core.prompt import TIMESTAMP, PromptBuilder, chat_messages
from tests.test_openai_engine import chunk
from tests.test_vllm import PADS, TOKENIZER, conversation

CLIP = "<|vision_start|><|video_pad|><|vision_end|>"
#: What Qwen3-VL's own template does with these messages.
STOCK = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'video' %}" + CLIP + "{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% endif %}{{ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
)


def merged_grid(chunk: Chunk) -> tuple[int, int]:
    return 3, 4


@pytest.fixture
def plain(untrained: Path, tmp_path: Path) -> Path:
    """A checkpoint whose tokenizer has no silent token."""
    folder = tmp_path / "plain"
    shutil.copytree(untrained, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("<|silent|>", "<|other|>"), encoding="utf-8")
    return folder


def test_it_gets_the_format_that_it_knows() -> None:
    messages = conversation()
    builder = PromptBuilder(TOKENIZER, merged_grid, plain=True)
    ids = builder.build(messages).ids.tolist()
    text = TOKENIZER.apply_chat_template(chat_messages(messages), chat_template=STOCK, tokenize=False)
    seen = f"{TIMESTAMP}<|vision_start|>{'<|video_pad|>' * PADS}<|vision_end|>"
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text.replace(CLIP, seen)
    silent = TOKENIZER.convert_tokens_to_ids("<|silent|>")
    assert silent in PromptBuilder(TOKENIZER, merged_grid).build(messages[1:]).ids
    assert silent not in builder.build(messages[1:]).ids, "it is in letters"


async def test_it_runs_in_this_process(plain: Path) -> None:
    profile = PROFILES["nano"].override(checkpoint=str(plain), max_tokens=6)
    with pytest.raises(EngineError, match=r"no token <\|silent\|>; a plain model needs silence by prompt"):
        build_engine(profile)
    profile = profile.override(silence="prompt")
    assert profile.session_config().system_prompt == PLAIN_SYSTEM_PROMPT
    with pytest.raises(EngineError, match="silent_bias needs"):
        build_engine(profile.override(silent_bias=1.0))
    engine, stats = build_engine(profile), StepStats()
    assert isinstance(engine, LocalEngine)
    messages = [Message("system", "Watch."), Message("user", "Hi!", chunk(0)), Message("assistant", None)]
    session = engine.open()
    said = [delta async for delta in session.generate([*messages, Message("user", "", chunk(1))], stats)]
    assert stats.new_tokens == 6 or said == []
    assert stats.prompt is not None
    assert engine.decode(stats.prompt).count("<|im_end|>\n<|im_start|>assistant\n<|silent|><|im_end|>\n") == 1
    await engine.close()


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_one_line(untrained: Path, device: str) -> None:
    with pytest.raises(EngineError, match=f"^the device {device} cannot be used: ") as raised:
        LocalEngine(untrained, device=device)
    assert "\n" not in str(raised.value)
