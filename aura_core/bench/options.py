"""The flags that choose what is measured, the same for every measurement."""

from __future__ import annotations

import argparse
import math

from aura_core.presets import PRESETS
from aura_core.profiles import PROFILES, Profile, get_profile

_FIELDS = (
    "checkpoint", "silence", "silent_bias", "alert_confidence", "threads", "device", "dtype", "n", "n_extra", "prewarm",
    "engine_url", "model", "asr_url", "asr_model", "tts_url", "tts_model", "language", "preset", "gpus",
)  # fmt: skip


def add_profile(parser: argparse.ArgumentParser) -> None:
    """The flags that `chosen` reads."""
    parser.add_argument("--profile", choices=list(PROFILES), default="nano")
    parser.add_argument("--checkpoint", help="another checkpoint: a folder or owner/name")
    parser.add_argument("--silent-bias", type=float, metavar="B", help="added to the silent token's logit")
    parser.add_argument("--alert-confidence", type=float, metavar="P", help="least probability of an alert's words")
    parser.add_argument("--silence", choices=["token", "prompt"], help="prompt: a plain model, asked to be silent")
    parser.add_argument("--threads", type=int, help="CPU threads of the model")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--n", type=int, metavar="N", help="chunks that stay in the window after a cut")
    parser.add_argument("--n-extra", type=int, metavar="N'", help="chunks that a cut drops")
    parser.add_argument(
        "--prewarm",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute the prompt after a cut ahead of time",
    )
    servers = parser.add_argument_group("model servers", "with a URL the server there is used, else one is started")
    servers.add_argument("--engine-url", metavar="URL", help="an OpenAI-compatible chat server, made for vLLM")
    servers.add_argument("--engine-model", dest="model", metavar="NAME", help="what that server calls the model")
    for part in ("asr", "tts"):
        servers.add_argument(f"--{part}-url", metavar="URL", help="the server of its speech backend")
        servers.add_argument(f"--{part}-model", metavar="NAME", help="the model on it (default: its first)")
    servers.add_argument("--language", metavar="CODE", help="what is spoken, such as en or zh (default: found out)")
    servers.add_argument("--preset", metavar="NAME", help="how the GPUs are shared: " + ", ".join(PRESETS))
    servers.add_argument("--gpus", metavar="LIST", help="the GPUs to use, such as 0,1 (default: all)")
    servers.add_argument("--yes", action="store_true", help="fetch what is missing without asking")


def chosen(args: argparse.Namespace, speech: bool) -> Profile:
    """The profile with the flags' changes; without `speech` it has none. Raises ValueError."""
    flags = {name: getattr(args, name) for name in _FIELDS}
    for part in ("engine", "asr", "tts"):
        if flags[f"{part}_url"] is not None:
            flags[part] = "openai"
    if not speech:
        flags |= {"asr": "none", "tts": "none"}
    return get_profile(args.profile).override(**flags)


def speed(text: str) -> float | None:
    """`max` (None), or times the pace of a camera."""
    return None if text == "max" else positive(text)


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
