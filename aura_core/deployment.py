"""From a profile to running model servers and back: what must be started, where, and with which arguments.

`running(profile)` is the whole of it for a caller: a context in which everything the profile needs is up, giving the
profile with the addresses filled in. Parts that have an address already are left alone. Nothing is fetched before the
user has seen what and how much, and has agreed.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aura_core.presets import Gpu, Preset, Share, choose
from aura_core.profiles import KEY, Profile, get_profile
from aura_core.services import ServiceError, gpus
from aura_core.services.background import Background
from aura_core.services.environment import LISTS, Environment
from aura_core.services.models import Model
from aura_core.services.server import Server, free_ports
from aura_core.services.supervisor import Supervisor

#: What the servers we start call their models.
CHAT, ASR, TTS = "aura", "asr", "tts"

#: Size of what may have to be fetched, in GB, from the number of parameters in 16 bits; for people.
_SIZES = {
    "aurateam/AURA": 17.5, "Qwen/Qwen3-VL-2B-Instruct": 4.3, "Qwen/Qwen3-ASR-1.7B": 4.7, "Qwen/Qwen3-ASR-0.6B": 1.9,
    "Qwen/Qwen3-TTS-12Hz-1.7B-Base": 4.5, "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice": 4.5,
    "Qwen/Qwen3-TTS-12Hz-0.6B-Base": 2.5, "Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice": 2.5,
}  # fmt: skip
_ENVIRONMENT_SIZES = {"vllm": 14.0, "qwen-asr": 8.0, "qwen-tts": 8.0}
_SERVERS = Path(__file__).with_name("services") / "servers"
_QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

Report = Callable[[str], None]


@dataclass(frozen=True)
class Deployment:
    """What has to be there and to run, and the profile that uses it."""

    profile: Profile
    servers: tuple[Server, ...]
    environments: tuple[Environment, ...]
    models: tuple[Model, ...]

    def to_fetch(self) -> list[str]:
        """What is not here yet, a line each; empty: nothing."""
        lines = [
            f"packages for {environment.name:<36} about {environment.gigabytes:5.1f} GB  into {environment.folder}"
            for environment in self.environments
            if not environment.is_whole
        ]
        for model in self.models:
            if not model.is_here:
                size = f"about {model.gigabytes:5.1f} GB" if model.gigabytes else "of unknown size"
                lines.append(f"model {model.name:<43} {size}")
        return lines


def home() -> Path:
    """Where environments and logs lie: `AURA_HOME`, or "aura" in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AURA_HOME") or Path(cache) / "aura").expanduser()


def is_needed(profile: Profile) -> bool:
    """Whether the profile has parts behind a server of which it has no address."""
    return any(_starts(profile, part) for part in ("engine", "asr", "tts"))


def plan(profile: Profile, available: Sequence[Gpu], root: Path, key: str = "") -> Deployment:
    """Decide everything, touch nothing. Raises ValueError, in one line, for GPUs that do not suffice.

    `key`: what vLLM asks its clients for. It goes through the environment, where other users do not see it.
    """
    from aura_core.engines.vllm import vllm_arguments

    preset = choose(available, profile.preset)
    ports = free_ports(3)
    servers: list[Server] = []
    environments: dict[str, Environment] = {}
    models: list[Model] = []
    changes: dict[str, str] = {}

    def environment(name: str) -> Environment:
        made = Environment(name, LISTS / f"{name}.txt", root / "environments", _ENVIRONMENT_SIZES[name])
        return environments.setdefault(name, made)

    def add(name: str, model: str, command: Sequence[str], share: Share, port: int) -> None:
        env = {**_QUIET, "VLLM_API_KEY": key, "CUDA_VISIBLE_DEVICES": available[share.gpu].id}
        servers.append(Server(name, tuple(command), port, env))
        models.append(Model(model, _SIZES.get(model)))

    if _starts(profile, "engine"):
        chat = _chat(profile, preset)
        python = str(environment("vllm").python)
        command = [python, "-m", "vllm.entrypoints.openai.api_server", *vllm_arguments(chat)]
        command += ["--max-model-len", str(preset.max_model_len)]  # given twice, the later one counts
        add("chat", chat.checkpoint, [*command, *_listen(ports[0]), *_memory(preset.chat)], preset.chat, ports[0])
        profile = chat.override(engine_url=servers[-1].url)
    if _starts(profile, "asr"):
        model = profile.asr_model or preset.asr_model
        command = _asr_command(profile, environment(profile.asr_server), model, preset, ports[1])
        add("speech-recognition", model, command, preset.asr, ports[1])
        changes |= {"asr_model": ASR, "asr_url": servers[-1].url}
    if _starts(profile, "tts"):
        kind = "Base" if profile.voice_sample else "CustomVoice"
        model = profile.tts_model or f"{preset.tts_model}-{kind}"
        name = "vllm" if profile.tts_server == "vllm-omni" else profile.tts_server
        command = _tts_command(profile, environment(name), model, preset, ports[2])
        add("speech-synthesis", model, command, preset.talker, ports[2])
        changes |= {"tts_model": TTS, "tts_url": servers[-1].url}
    return Deployment(profile.override(**changes), tuple(servers), tuple(environments.values()), tuple(models))


@contextmanager
def running(
    profile: Profile, agreed: bool, report: Report, ask: Callable[[str], str] | None = None
) -> Iterator[Profile]:
    """Everything the profile needs is up in this context. Raises ServiceError, ValueError.

    `agreed`: the user said yes beforehand. `ask` puts a question to the user (default: on the terminal, if there is
    one); without either, nothing is fetched.
    """
    if not is_needed(profile):
        yield profile
        return
    key = os.environ.setdefault(KEY, secrets.token_urlsafe())  # also against web pages that talk to loopback
    deployment = plan(profile, _gpus(profile), home(), key)
    prepare(deployment, agreed, report, ask or (input if sys.stdin.isatty() else None))
    with Background(Supervisor(deployment.servers, home() / "logs", report)):
        yield deployment.profile


def prepare(deployment: Deployment, agreed: bool, report: Report, ask: Callable[[str], str] | None) -> None:
    """Fetch what is missing, after asking. Raises ServiceError."""
    missing = deployment.to_fetch()
    if missing:
        report("To be fetched once:")
        for line in missing:
            report(f"  {line}")
        if not agreed:
            if ask is None:
                raise ServiceError("nothing was fetched; add --yes to agree to it")
            if ask("Fetch all of this? [y/N] ").strip().lower() not in ("y", "yes"):
                raise ServiceError("nothing was fetched")
    for environment in deployment.environments:
        environment.make()
    for model in deployment.models:
        model.fetch()


def _starts(profile: Profile, part: str) -> bool:
    return getattr(profile, part) == "openai" and getattr(profile, f"{part}_url") is None


def _gpus(profile: Profile) -> list[Gpu]:
    found = {index: mib for index, mib in gpus.installed()}
    if not found:
        raise ServiceError(
            f"the profile {profile.name} runs its models on an NVIDIA GPU, and nvidia-smi finds none; "
            "give --engine-url, --asr-url and --tts-url (or --no-speech) to use servers elsewhere"
        )
    if profile.gpus is None:
        return [Gpu(index, mib) for index, mib in found.items()]
    wanted = [index.strip() for index in profile.gpus.split(",")]
    if unknown := [index for index in wanted if index not in found]:
        raise ServiceError(f"there is no GPU {', '.join(unknown)}; there are: {', '.join(found)}")
    return [Gpu(index, found[index]) for index in wanted]


def _chat(profile: Profile, preset: Preset) -> Profile:
    """The profile with the model to be served: its own, unless the preset has a smaller one and the user chose none.

    What was never trained to be silent was never trained on our format either.
    """
    if preset.chat_model is not None and profile.checkpoint == get_profile("aura").checkpoint:
        profile = profile.override(checkpoint=preset.chat_model, silence="prompt")
    return profile.override(model=CHAT, chat_format="checkpoint" if profile.silence == "prompt" else None)


def _listen(port: int) -> tuple[str, ...]:
    """Loopback only, and no page of a browser on this machine may read the answers."""
    return "--host", "127.0.0.1", "--port", str(port), "--allowed-origins", '["http://127.0.0.1"]'


def _memory(share: Share) -> tuple[str, ...]:
    return "--gpu-memory-utilization", f"{share.memory:g}"


def _asr_command(profile: Profile, environment: Environment, model: str, preset: Preset, port: int) -> list[str]:
    if profile.asr_server == "qwen-asr":
        return [str(environment.python), str(_SERVERS / "qwen_asr.py"), "--model", model, "--port", str(port)]
    # an utterance of 30 s is some 400 tokens
    limits = ("--max-model-len", "4096", "--max-num-seqs", "8", "--served-model-name", ASR)
    vllm = (str(environment.python), "-m", "vllm.entrypoints.openai.api_server", "--model", model)
    return [*vllm, *limits, *_listen(port), *_memory(preset.asr)]


def _tts_command(profile: Profile, environment: Environment, model: str, preset: Preset, port: int) -> list[str]:
    if profile.tts_server == "qwen-tts":
        return [str(environment.python), str(_SERVERS / "qwen_tts.py"), "--model", model, "--port", str(port)]
    shares = {"0": preset.talker, "1": preset.decoder}
    stages = {stage: {"gpu_memory_utilization": share.memory} for stage, share in shares.items()}
    serve = (str(environment.python.with_name("vllm-omni")), "serve", model, "--omni", "--served-model-name", TTS)
    return [*serve, "--stage-overrides", json.dumps(stages), *_listen(port)]
