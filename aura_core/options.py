"""The command line: its flags, the checks between them, and the profile they make. What runs of it is in `app.py`.

Importing this costs little, so that a wrong flag is told at once, without loading what it would have started.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aura_core.alerts.options import add_alert_options
from aura_core.presets import PRESETS
from aura_core.profiles import PROFILES, Profile, get_profile
from aura_core.sources.script import Ask, parse_ask
from aura_core.ui import entrance

if TYPE_CHECKING:
    from aura_core.sources.named import NamedCamera

EXIT_CODES = """\
exit codes of a headless replay:
  0    the whole video was replayed (a question after its end is reported as an error line, but is no failure)
  1    something failed: the video, the script, the checkpoint, a decision, writing the output or the recording
  2    wrong usage
  130  interrupted with Ctrl-C
  141  the reader of the output went away (as in `| head`)
a recording that is run again ends with 0 only when every decision is the same
"""


class Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> Parser:
    """The command line; every flag that exists does something."""
    parser = Parser(
        prog="app.py",
        description="Serve the page in which AURA watches your camera; or, with --replay, show it a video file.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--profile", choices=sorted(PROFILES), default="nano", help="what runs where (default: nano)")
    model.add_argument("--checkpoint", metavar="PATH", help="another checkpoint than the profile's")
    model.add_argument(
        "--silence", choices=("token", "prompt"), help="prompt: a plain Qwen3-VL, only asked for silence"
    )
    model.add_argument("--device", help="where a model in this process computes: cpu, cuda, cuda:1 (default: cpu)")
    model.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="its numbers (default: float32)")
    model.add_argument("--no-speech", action="store_true", help="neither listen nor speak: type and read")
    servers = parser.add_argument_group(
        "model servers", "with a URL the server there is used, else --profile aura starts one"
    )
    servers.add_argument("--engine-url", metavar="URL", help="an OpenAI-compatible chat server, made for vLLM")
    servers.add_argument("--engine-model", metavar="NAME", help="what that server calls the model")
    for part, what in (("asr", "/v1/audio/transcriptions"), ("tts", "/v1/audio/speech")):
        servers.add_argument(f"--{part}-url", metavar="URL", help=f"a server with {what}")
        servers.add_argument(f"--{part}-model", metavar="NAME", help="the model on it (default: its first)")
    servers.add_argument("--asr-server", choices=("vllm", "qwen-asr"), help="what to start (default: vllm)")
    servers.add_argument("--tts-server", choices=("vllm-omni", "qwen-tts"), help="what to start (default: vllm-omni)")
    servers.add_argument("--language", metavar="CODE", help="what you speak, such as en or zh (default: found out)")
    servers.add_argument("--voice", metavar="NAME", help="a voice that the server knows (default: ryan)")
    servers.add_argument("--voice-sample", metavar="FILE", help="clone the voice of this recording")
    servers.add_argument("--voice-text", metavar="TEXT", help="what is said in the recording; makes a closer clone")
    servers.add_argument("--preset", metavar="NAME", help="how the GPUs are shared: " + ", ".join(PRESETS))
    servers.add_argument("--gpus", metavar="LIST", help="the GPUs to use, such as 0,1 (default: all)")
    servers.add_argument("--yes", action="store_true", help="fetch what is missing without asking")
    entrance.add_flags(parser)
    replay = parser.add_argument_group("replay")
    replay.add_argument("--replay", type=Path, metavar="VIDEO", help="a video file in place of the camera")
    replay.add_argument("--headless", action="store_true", help="no page: print what happens, one line an event")
    replay.add_argument("--json", action="store_true", help="print JSON objects, silent seconds included")
    replay.add_argument(
        "--ask",
        type=_ask,
        action="append",
        default=[],
        metavar="SECONDS:TEXT",
        help="ask TEXT at SECONDS into the video; may be given more than once. "
        '"SECONDS standing:TEXT" asks to watch for it from then on',
    )
    replay.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help='questions from a file: lines of "SECONDS: text", or JSON [{"t": 3.0, "text": "...", "standing": true}]',
    )
    replay.add_argument(
        "--speed",
        type=_speed,
        default="max",
        metavar="1|max",
        help="1 is the pace of life, max as fast as the model decides (default: max)",
    )
    live = parser.add_argument_group("camera of this machine or its network")
    live.add_argument(
        "--camera",
        type=_camera,
        action="append",
        default=[],
        metavar="[NAME=]WHERE",
        help="rtsp:// or http:// address of a camera, the number of one at this machine, or a file that plays one; a "
        "login may stand in the address or, unseen by others, as user:password in AURA_CAMERA_LOGIN. Everybody who may "
        "open the page can watch it there; for the page it may be given more than once",
    )
    live.add_argument("--desktop", action="store_true", help="camera, microphone and loudspeaker of this machine")
    live.add_argument("--headphones", action="store_true", help="listen also while speaking; needs headphones")
    live.add_argument("--seconds", type=_above_zero, metavar="S", help="end after so long (default: with Ctrl-C)")
    add_alert_options(parser)
    record = parser.add_argument_group("recording", "written down as it happens; it holds what the camera saw")
    record.add_argument(
        "--record",
        type=Path,
        metavar="PATH",
        help="a new file with --headless; else a folder, a file for every session",
    )
    record.add_argument(
        "--record-limit",
        type=_above_zero,
        default=500.0,
        metavar="MB",
        help="largest recording or folder (default: 500)",
    )
    record.add_argument(
        "--record-days", type=_above_zero, default=30.0, metavar="DAYS", help="remove older ones from it (default: 30)"
    )
    record.add_argument(
        "--replay-recording",
        type=Path,
        metavar="FILE",
        help="run a recording again, on its own model or on --checkpoint; show the first decision that differs",
    )
    parser.add_argument_group("state", "what was said and asked is kept; pictures are not").add_argument(
        "--state-dir", type=Path, metavar="DIR", help="go on, after a restart or a crash, with what is kept here"
    )
    watched = parser.add_argument_group("operation", "for who keeps it running; none of it holds what was said")
    watched.add_argument("--log-json", action="store_true", help="log JSON lines, sessions' events included")
    watched.add_argument("--metrics", action="store_true", help="serve numbers for Prometheus at /metrics")
    watched.add_argument("--traces", action="store_true", help="an OpenTelemetry span for every chunk's way")
    return parser


def check(options: argparse.Namespace) -> None:
    """Raises ValueError, in one line, for flags that do not go together."""
    one = options.headless or options.desktop
    if options.headless and (options.replay is None) == (not options.camera):
        raise ValueError("--headless needs --replay VIDEO or --camera WHERE")
    if one and len(options.camera) > 1:
        raise ValueError("--headless and --desktop watch one --camera")
    if len({camera.name for camera in options.camera}) < len(options.camera):
        raise ValueError("two cameras have the same name; say --camera NAME=WHERE")
    if options.headless and options.desktop:
        raise ValueError("--headless and --desktop exclude each other")
    if options.seconds and not (one and options.replay is None):
        raise ValueError("--seconds needs --desktop, or --headless with --camera")
    if options.headphones and not options.desktop:
        raise ValueError("--headphones needs --desktop")
    again = options.replay_recording is not None
    if again and (options.headless or options.record or options.state_dir or options.camera):
        raise ValueError("--replay-recording goes with neither --headless nor --record nor --state-dir nor --camera")
    for flag in ("replay", "ask", "script", "json"):
        alone = (again and flag == "json") or (options.desktop and flag in ("ask", "script"))
        if getattr(options, flag) and not options.headless and not alone:
            raise ValueError(f"--{flag} needs --headless")
    if options.headless and (options.metrics or options.traces):
        raise ValueError("--metrics and --traces go with the page")
    if options.record is not None and not one and options.record.exists() and not options.record.is_dir():
        raise ValueError(f"{options.record} is not a folder")


def choose_profile(options: argparse.Namespace) -> Profile:
    """The profile with the flags' changes. Raises ValueError for values that cannot work."""
    flags = {name: getattr(options, name) for name in (
        "checkpoint", "silence", "device", "dtype", "engine_url", "asr_url", "asr_model", "asr_server", "tts_url",
        "tts_model", "tts_server", "language", "voice", "voice_sample", "voice_text", "preset", "gpus",
    )}  # fmt: skip
    flags["model"] = options.engine_model
    for part in ("engine", "asr", "tts"):
        if flags[f"{part}_url"] is not None:
            flags[part] = "openai"
    if options.no_speech or options.headless:  # it is asked and answers in writing
        flags |= {"asr": "none", "tts": "none"}
    return get_profile(options.profile).override(**flags)


def _ask(text: str) -> Ask:
    try:
        return parse_ask(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _camera(text: str) -> NamedCamera:
    from aura_core.sources.named import NamedCamera

    try:
        return NamedCamera.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _speed(text: str) -> float | None:
    return None if text == "max" else _above_zero(text, "max or a number above 0")


def _above_zero(text: str, wanted: str = "a number above 0") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")
    return value
