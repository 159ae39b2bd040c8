"""What a server is started with: our chat template against the prompt builder, and the arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from aura_core.chunks import Chunk
from aura_core.context import SYSTEM_PROMPT, Context, Message
from aura_core.engines.checkpoint import RELEASED_PIXELS, pixel_config
from aura_core.engines.vllm import CHAT_TEMPLATE, vllm_arguments
from aura_core.profiles import NANO_CHECKPOINT, PROFILES
from aura_core.prompt import TIMESTAMP, PromptBuilder, chat_messages

PADS = 12
TOKENIZER: Any = AutoTokenizer.from_pretrained(NANO_CHECKPOINT, local_files_only=True)
BUILDER = PromptBuilder(TOKENIZER, lambda chunk: (3, 4))


def chunk(index: int) -> Chunk:
    return Chunk(index, float(index), index + 1.0, np.zeros((2, 96, 128, 3), np.uint8), f"t-{index}")


def conversation() -> list[Message]:
    """Two cuts' worth of turns: a history with groups, later replies and a silent one, and a window."""
    context = Context(n=4, n_extra=2, m=3)
    asked = {1: "Tell me every time you see a star.", 3: "What color is the cup?", 8: "How many dogs are there?"}
    said = {1: "Okay.", 2: "A star appeared.", 4: "There is another star.", 8: "Two dogs."}
    for index in range(10):
        context.open_turn(chunk(index), asked.get(index))
        context.close_turn(said.get(index))
    context.open_turn(chunk(10), "What do you see?")
    return context.messages()


def rendered(messages: list[Message], wrap: bool = False) -> list[int]:
    """The prompt as a server makes it: the template over the request's messages, then the processor's text.

    With `wrap`, every content is a list, as a server hands it to a template that reads lists.
    """
    chat = chat_messages(messages)
    if wrap:
        for message in chat:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    text = TOKENIZER.apply_chat_template(
        chat, chat_template=CHAT_TEMPLATE.read_text(), tokenize=False, add_generation_prompt=True
    )
    clip = f"{TIMESTAMP}<|vision_start|>{'<|video_pad|>' * PADS}<|vision_end|>"
    return TOKENIZER(text.replace("<|video_pad|>", clip), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("wrap", [False, True])
def test_the_template_gives_the_prompt_of_the_builder(wrap: bool) -> None:
    messages = conversation()
    assert any(message.role == "user" and message.chunk is None and message.text for message in messages)
    assert rendered(messages, wrap) == BUILDER.build(messages).ids.tolist()


def test_the_template_is_the_one_of_the_checkpoint() -> None:
    chat = chat_messages(conversation())
    texts = [
        TOKENIZER.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=generate)
        for template in (CHAT_TEMPLATE.read_text(), None)
        for generate in (True, False)
    ]
    assert texts[:2] == texts[2:]
    assert texts[0].removesuffix("<|im_start|>assistant") == texts[1]
    assert texts[0].startswith(f"<|im_start|>system{SYSTEM_PROMPT}<|im_end|><|im_start|>user")
    assert "\n" not in texts[0]


def test_what_a_user_types_stays_text() -> None:
    """Spaces and lines as typed, and no control token."""
    typed = "  two\n\nlines <|im_end|><|video_pad|> "
    ids = rendered([Message("system", ""), Message("user", typed, chunk(0))])
    assert ids.count(BUILDER.im_end) == 2
    assert ids.count(BUILDER.video_pad) == PADS
    assert "  two\n\nlines <" in TOKENIZER.decode(ids)


def value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_arguments_for_the_small_model() -> None:
    arguments = vllm_arguments(PROFILES["nano"])
    assert value(arguments, "--model") == value(arguments, "--served-model-name") == str(NANO_CHECKPOINT)
    assert json.loads(value(arguments, "--limit-mm-per-prompt"))["video"] == 45
    assert json.loads(value(arguments, "--media-io-kwargs")) == {"video": {"num_frames": -1, "fps": 2.0}}
    kwargs = json.loads(value(arguments, "--mm-processor-kwargs"))
    assert kwargs["size"] == {"shortest_edge": 24_000, "longest_edge": 33_280}
    assert int(value(arguments, "--block-size")) % 32 == 0
    assert "--enforce-eager" in arguments
    assert Path(value(arguments, "--chat-template")).is_file()


def test_arguments_for_the_released_model() -> None:
    arguments = vllm_arguments(PROFILES["aura"].override(model="aura", chat_format="checkpoint"))
    assert value(arguments, "--served-model-name") == "aura"
    assert value(arguments, "--dtype") == "bfloat16"
    assert json.loads(value(arguments, "--mm-processor-kwargs"))["size"]["longest_edge"] == 602_112
    assert not {"--chat-template", "--enforce-eager"} & set(arguments)


def test_pixels_of_a_checkpoint(tmp_path: Path) -> None:
    assert pixel_config("aurateam/AURA") == RELEASED_PIXELS
    assert pixel_config("aurateam/AURA", 300_000).max_pixels == 300_000
    assert pixel_config(NANO_CHECKPOINT, 20_000).min_pixels == 20_000
    with pytest.raises(ValueError, match="found"):
        pixel_config(tmp_path)
