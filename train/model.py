"""`aura-nano` before training: a true Qwen3-VL of a few million parameters with its tokenizer and processor files.

Special about it: the tokenizer is a byte-level BPE learned from the world's own sentences (any other text still has
bytes), Qwen's control tokens plus `<|silent|>`, and the per-chunk timestamp as one token. The processor's settings are
written as JSON by hand: transformers' video processor cannot even be constructed without torchvision, which the
project does not need.
"""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from aura_core.context import SYSTEM_PROMPT
from aura_core.engines.base import EngineError
from aura_core.requests import ACKNOWLEDGEMENTS
from data_pipeline.world.language import corpus
from data_pipeline.world.vocabulary import COLORS, KINDS

CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<|silent|>",
)  # fmt: skip
TIMESTAMP = "<0.2 seconds>"
VOCABULARY = 1024
# Qwen's pre-tokenizer: words with their leading space, single digits, punctuation runs
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The pixel budget of a chunk (both frames together): 640x480 becomes 128x96 (12 tokens), 16:9 160x96 (15).
MIN_PIXELS, MAX_PIXELS = 24_000, 33_280


def chat_template() -> str:
    """Compact ChatML as AURA was trained on: no newlines, a bare video token (transformers >= 5.10 wraps it)."""
    return (
        "{%- for m in messages %}{{- '<|im_start|>' + m.role }}"
        "{%- if m.content is string %}{{- m.content }}{%- else %}{%- for c in m.content %}"
        "{%- if c.type in ('video', 'video_url') %}<|video_pad|>"
        "{%- elif c.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
        "{%- else %}{{- c.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}<|im_start|>assistant{%- endif %}"
    )


def build_tokenizer(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL_TOKENS) - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences, trainer)
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL_TOKENS])
    bpe.add_tokens([AddedToken(TIMESTAMP, special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(CONTROL_TOKENS[1:]),
        model_max_length=32_768,
        chat_template=chat_template(),
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """Vision: 4 layers of 128, text: 6 layers of 192; about 4 M parameters, 8 MB in half precision."""

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))  # type: ignore[arg-type]

    config = Qwen3VLConfig(
        text_config=dict(
            vocab_size=VOCABULARY,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=64,
            max_position_embeddings=32_768,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            eos_token_id=token("<|im_end|>"),
            bos_token_id=token("<|endoftext|>"),
            pad_token_id=token("<|endoftext|>"),
            rope_parameters={
                "rope_type": "default",
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
                "rope_theta": 100_000.0,
            },
        ),
        vision_config=dict(
            depth=4,
            hidden_size=128,
            intermediate_size=256,
            num_heads=2,
            patch_size=16,
            temporal_patch_size=2,
            spatial_merge_size=2,
            in_channels=3,
            out_hidden_size=192,
            num_position_embeddings=64,
            deepstack_visual_indexes=[2],
            hidden_act="gelu_pytorch_tanh",
        ),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    config.architectures = ["Qwen3VLForConditionalGeneration"]
    return config


def processor_config(min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS) -> dict:
    """What `AutoProcessor` reads, and what `aura_core.pixels` takes its budget of a chunk (both frames) from."""
    pixels = {
        "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "do_resize": True, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    budget = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    return {
        "processor_class": "Qwen3VLProcessor",
        "image_processor": pixels
        | {"image_processor_type": "Qwen2VLImageProcessor", "size": {k: v // 2 for k, v in budget.items()}},
        "video_processor": pixels
        | {
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": budget,
            "fps": 2,
            "min_frames": 2,
            "max_frames": 768,
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
        },
    }


def save_texts(folder: Path, tokenizer: PreTrainedTokenizerFast, extra: dict | None = None) -> None:
    """Everything of a checkpoint but its weights."""
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(chat_template())
    (folder / "processor_config.json").write_text(json.dumps(processor_config(), indent=2) + "\n")
    aura = {"vocabulary": {"colors": list(COLORS), "kinds": list(KINDS)}} | (extra or {})
    (folder / "aura.json").write_text(json.dumps(aura, indent=2) + "\n")


def new_model(seed: int = 0) -> tuple[Qwen3VLForConditionalGeneration, PreTrainedTokenizerFast]:
    tokenizer = build_tokenizer(chain(corpus(), ACKNOWLEDGEMENTS, (SYSTEM_PROMPT,), ("system", "user", "assistant")))
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(build_config(tokenizer)).float()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def load_weights(model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Put the weights of the nano checkpoint `folder` into a new model. Raises EngineError, a line that says which of
    its files does not fit."""
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    except Exception as error:  # tokenizers raises nothing narrower
        raise EngineError(f"{folder} is no checkpoint to begin with: {str(error).splitlines()[0]}") from error
    if vocabulary != tokenizer.get_vocab():
        raise EngineError(f"{folder} has another vocabulary than this recipe's")
    mine = model.state_dict()
    wrong = [name for name, value in state.items() if name not in mine or mine[name].shape != value.shape]
    missing = [name for name in mine if name not in state and name != "lm_head.weight"]  # tied to the embedding
    if wrong or missing:
        raise EngineError(f"{weights} is of another shape than this recipe's model: {(wrong + missing)[0]}")
    model.load_state_dict(state, strict=False)


def build(folder: str | Path, seed: int = 0) -> Path:
    """Write an untrained checkpoint to `folder` (tests use it where weights do not matter)."""
    folder = Path(folder)
    model, tokenizer = new_model(seed)
    model.save_pretrained(folder)
    save_texts(folder, tokenizer)
    return folder
