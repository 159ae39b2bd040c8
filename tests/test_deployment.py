"""From a profile to servers: who gets which GPU, which arguments, and that nothing is fetched unasked."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from aura_core import deployment
from aura_core.deployment import Deployment, is_needed, plan, prepare, running
from aura_core.presets import PRESETS, Gpu, Preset, Share, choose
from aura_core.profiles import KEY, Profile, build_asr, build_tts, get_profile
from aura_core.services import ServiceError, gpus
from aura_core.services.environment import Environment
from aura_core.services.models import Model
from aura_core.services.supervisor import is_healthy
from aura_core.speech.openai_asr import OpenAiAsr
from aura_core.speech.openai_tts import OpenAiTts
from aura_core.speech.tts import TtsError
from tests.command_line import app, decisions, events
from tests.fake_speech import FakeSpeech, sound, text
from tests.fake_vllm import FakeVllm
from tests.test_services import WELL, server
from tests.video_files import gray, write_video

BIG, MIDDLE, SMALL = 81559, 46068, 24564
AURA = get_profile("aura")
URL = "http://127.0.0.1:9/v1"


def cards(*mib: int) -> list[Gpu]:
    return [Gpu(str(i), size) for i, size in enumerate(mib)]


def after(command: tuple[str, ...], flag: str) -> str:
    """The value of a flag that counts: the last one."""
    return [value for name, value in pairwise(command) if name == flag][-1]


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ((BIG, BIG), "two-80gb"),
        ((BIG,), "one-80gb"),
        ((BIG, SMALL), "one-80gb"),
        ((MIDDLE, MIDDLE), "one-48gb"),
        ((SMALL,), "one-24gb"),
    ],
)
def test_the_largest_preset_that_fits(there: tuple[int, ...], name: str):
    assert choose(cards(*there)).name == name


def test_gpus_that_do_not_suffice_are_named():
    with pytest.raises(ValueError, match="needs at least 1 GPU with 22 GiB each; there are: GPU 0 with 8 GiB"):
        choose(cards(8192))
    with pytest.raises(ValueError, match="two-80gb needs 2 GPUs with 76 GiB each; there are: GPU 0 with 80 GiB"):
        choose(cards(BIG), "two-80gb")
    with pytest.raises(ValueError, match="no preset 'x'; there are: two-80gb, one-80gb, one-48gb, one-24gb"):
        choose(cards(BIG), "x")


def test_no_card_is_overbooked():
    half = Share(0, 0.5)
    with pytest.raises(ValueError, match="gives away 200% of GPU 0"):
        Preset("x", "", 1, half, half, half, half)
    assert all(preset.fits(cards(*[BIG] * preset.gpus)) for preset in PRESETS.values())


def test_two_gpus(tmp_path: Path):
    made = plan(AURA, cards(BIG, BIG), tmp_path, key="secret")
    chat, asr, tts = made.servers
    assert [one.env["CUDA_VISIBLE_DEVICES"] for one in made.servers] == ["0", "1", "1"]
    assert {one.env["VLLM_API_KEY"] for one in made.servers} == {"secret"}
    assert not any("secret" in part for one in made.servers for part in one.command)
    assert len({one.port for one in made.servers}) == 3
    for one in made.servers:
        assert after(one.command, "--host") == "127.0.0.1"
        assert after(one.command, "--port") == str(one.port)
    assert after(chat.command, "--model") == "aurateam/AURA"
    assert after(chat.command, "--dtype") == "bfloat16"
    assert after(chat.command, "--gpu-memory-utilization") == "0.9"
    assert after(chat.command, "--served-model-name") == "aura"
    assert after(asr.command, "--model") == "Qwen/Qwen3-ASR-1.7B"
    assert tts.command[1:4] == ("serve", "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice", "--omni")
    stages = json.loads(after(tts.command, "--stage-overrides"))
    assert stages == {"0": {"gpu_memory_utilization": 0.3}, "1": {"gpu_memory_utilization": 0.3}}
    assert [one.name for one in made.environments] == ["vllm"]
    assert (made.profile.engine_url, made.profile.model) == (chat.url, "aura")
    assert (made.profile.asr_url, made.profile.asr_model) == (asr.url, "asr")
    assert (made.profile.tts_url, made.profile.tts_model) == (tts.url, "tts")
    assert not is_needed(made.profile)


def test_a_small_gpu_gets_small_models_unless_the_user_chose_one(tmp_path: Path):
    small = plan(AURA, cards(SMALL), tmp_path)
    assert [model.name for model in small.models] == [
        "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice",
    ]  # fmt: skip
    assert (small.profile.silence, small.profile.chat_format) == ("prompt", "checkpoint")
    own = plan(AURA.override(checkpoint="me/Mine", asr="none", tts="none"), cards(SMALL), tmp_path)
    assert [model.name for model in own.models] == ["me/Mine"]
    assert (own.profile.silence, own.profile.chat_format) == ("token", "compact")
    plain = plan(AURA.override(checkpoint="Qwen/Qwen3-VL-8B-Instruct", silence="prompt"), cards(BIG), tmp_path)
    assert "--chat-template" not in plain.servers[0].command
    assert plain.profile.silence == "prompt"


def test_only_what_has_no_address_is_started(tmp_path: Path):
    assert is_needed(AURA)
    assert not is_needed(get_profile("nano"))
    mixed = AURA.override(engine_url=URL, asr_url=URL, tts_server="qwen-tts", voice_sample="me.wav", gpus="0")
    made = plan(mixed, cards(BIG), tmp_path)
    (tts,) = made.servers
    assert tts.command[1].endswith("qwen_tts.py")
    assert after(tts.command, "--model").endswith("-Base")
    assert [one.name for one in made.environments] == ["qwen-tts"]
    assert (made.profile.engine_url, made.profile.asr_url, made.profile.tts_url) == (URL, URL, tts.url)
    (asr,) = plan(AURA.override(engine_url=URL, tts_url=URL, asr_server="qwen-asr"), cards(BIG), tmp_path).servers
    assert asr.command[1].endswith("qwen_asr.py")


class Nothing(Environment):
    """Makes nothing, but says so."""

    def make(self, execute: object = None, uv: str | None = None) -> None:
        self.folder.mkdir(parents=True)


def missing(tmp_path: Path) -> Deployment:
    (packages := tmp_path / "packages.txt").write_text("vllm==0.30.0\n")
    environment = Nothing("vllm", packages, tmp_path / "environments", 14.0)
    return Deployment(AURA, (server("one", WELL),), (environment,), (Model(str(tmp_path)),))


def test_nothing_is_fetched_without_a_yes(tmp_path: Path):
    made, lines = missing(tmp_path), []
    with pytest.raises(ServiceError, match="add --yes"):
        prepare(made, False, lines.append, None)
    with pytest.raises(ServiceError, match="nothing was fetched"):
        prepare(made, False, lines.append, lambda question: "")
    assert not made.environments[0].folder.exists()
    assert "packages for vllm" in lines[1]
    assert "14.0 GB" in lines[1]
    prepare(made, False, lines.append, lambda question: "y")
    assert made.environments[0].folder.exists()


def test_running_starts_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = missing(tmp_path)
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(KEY, "known")
    monkeypatch.setattr(gpus, "installed", lambda: [("0", BIG)])
    monkeypatch.setattr(deployment, "plan", lambda *_: made)
    lines: list[str] = []
    with running(AURA, True, lines.append) as profile:
        assert profile is made.profile
        assert asyncio.run(is_healthy(made.servers[0].health_url))
    assert not asyncio.run(is_healthy(made.servers[0].health_url))
    assert (tmp_path / "home" / "logs" / "one.log").is_file()
    with running(get_profile("nano"), False, lines.append) as profile:
        assert profile == get_profile("nano")


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpus, "installed", lambda: [("0", BIG)])
    with (
        pytest.raises(ServiceError, match="there is no GPU 3; there are: 0"),
        running(AURA.override(gpus="0,3"), True, print),
    ):
        pass


def test_speech_of_a_profile():
    there = AURA.override(asr_url=URL, tts_url=URL, language="zh")
    assert isinstance(build_asr(there), OpenAiAsr)
    voice = build_tts(there)
    assert isinstance(voice, OpenAiTts)
    assert voice._extra == {"language": "Chinese"}
    with pytest.raises(TtsError, match=r"sample /no/such\.wav"):
        build_tts(there.override(voice_sample="/no/such.wav"))
    for bad in ({"asr_url": "localhost:8000"}, {"tts_url": "ftp://x"}, {"asr_server": "x"}, {"tts": "x"}):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))} must"):
            AURA.override(**bad)


# The command


@contextmanager
def speech_servers() -> Iterator[tuple[FakeSpeech, FakeSpeech]]:
    """Two fake speech servers in a thread: the command is another process."""
    asr, tts = FakeSpeech([text("What?")]), FakeSpeech([sound(100)])
    loop, up, end = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with asr, tts:
            up.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(30)
    try:
        yield asr, tts
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(30)
        loop.close()


def test_the_command_with_servers_that_run(tmp_path: Path):
    video = write_video(tmp_path / "clip.mp4", map(gray, range(40)))
    with speech_servers() as (asr, tts), FakeVllm() as chat:
        chat.script = lambda uid, body: (
            ["A gray", " wall.", "<|im_end|>"] if "see?" in json.dumps(body) else ["<|silent|>"]
        )
        done = app(
            "--profile", "aura", "--engine-url", chat.url, "--asr-url", asr.url, "--tts-url", tts.url,
            "--replay", video, "--ask", "2:What do you see?", "--headless", "--json",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert decisions(done.stdout) == [1.0, 2.0, 3.0, 4.0]
    (answer,) = [line for line in events(done.stdout) if line["type"] == "reply"][:1]
    assert (answer["t"], answer["text"], answer["request"]) == (2.0, "A gray wall.", "q1")


def test_the_command_says_what_is_missing_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video = write_video(tmp_path / "clip.mp4", map(gray, range(20)))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    done = app("--profile", "aura", "--replay", video, "--headless", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "nvidia-smi finds none; give --engine-url" in done.stderr
    done = app("--profile", "aura", "--engine-url", URL, "--replay", video, "--headless", "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert app("--profile", "aura", "--asr-url", "nonsense").returncode == 2


def test_profiles_can_be_printed():
    assert isinstance(AURA, Profile)
    assert "aurateam/AURA" in AURA.describe()
