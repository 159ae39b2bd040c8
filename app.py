"""AURA, an assistant that watches: serve the page, or replay a video without one.

This file only reads the command line. What runs is chosen in `aura_core.profiles`; the page is in `aura_core.ui`, the
replay in `aura_core.headless`. Both are imported when needed: a wrong flag costs no time, and a replay no web server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aura_core.alerts.options import add_alert_options, build_alerts
from aura_core.deployment import running
from aura_core.engines.base import EngineError
from aura_core.logs import log_as_json, log_event
from aura_core.presets import PRESETS
from aura_core.profiles import PROFILES, Profile, build_engine, get_profile
from aura_core.recording import RecordingError
from aura_core.services import ServiceError
from aura_core.sources import ReplayError
from aura_core.sources.address import LOGIN
from aura_core.sources.script import Ask, load_script, parse_ask
from aura_core.ui import entrance

if TYPE_CHECKING:
    from aura_core.alerts.watcher import Alerts
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: the process's own); return the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    one = options.headless or options.desktop
    if options.headless and (options.replay is None) == (not options.camera):
        parser.error("--headless needs --replay VIDEO or --camera WHERE")
    if one and len(options.camera) > 1:
        parser.error("--headless and --desktop watch one --camera")
    if len({camera.name for camera in options.camera}) < len(options.camera):
        parser.error("two cameras have the same name; say --camera NAME=WHERE")
    if options.headless and options.desktop:
        parser.error("--headless and --desktop exclude each other")
    if options.seconds and not (one and options.replay is None):
        parser.error("--seconds needs --desktop, or --headless with --camera")
    if options.headphones and not options.desktop:
        parser.error("--headphones needs --desktop")
    again = options.replay_recording is not None
    if again and (options.headless or options.record or options.state_dir or options.camera):
        parser.error("--replay-recording goes with neither --headless nor --record nor --state-dir nor --camera")
    for flag in ("replay", "ask", "script", "json"):
        alone = (again and flag == "json") or (options.desktop and flag in ("ask", "script"))
        if getattr(options, flag) and not options.headless and not alone:
            parser.error(f"--{flag} needs --headless")
    if options.headless and (options.metrics or options.traces):
        parser.error("--metrics and --traces go with the page")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if options.log_json:
        log_as_json()
    if options.record is not None and not one and options.record.exists() and not options.record.is_dir():
        parser.error(f"{options.record} is not a folder")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    try:
        profile = choose_profile(options)
        door = entrance.from_flags(options)
        alerts = build_alerts(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        if again:
            return replay_recording(options)
        if options.headless or options.desktop:
            return headless(profile, options, alerts)
        from aura_core.metrics import Metrics
        from aura_core.spans import tracer
        from aura_core.state_folder import StateFolder
        from aura_core.ui.cameras import SharedCamera
        from aura_core.ui.page import serve

        recordings = None
        if options.record is not None:
            from aura_core.recording.folder import Recordings

            recordings = Recordings(options.record, _bytes(options.record_limit), options.record_days)
        serve(
            profile,
            door,
            start=lambda profile: started(profile, options),
            recordings=recordings,
            states=None if options.state_dir is None else StateFolder(options.state_dir),
            listeners=[*([Metrics()] if options.metrics else []), *([log_event] if options.log_json else [])],
            tracer=tracer() if options.traces else None,
            alerts=alerts,
            cameras=[SharedCamera(camera, os.environ.get(LOGIN)) for camera in options.camera],
        )
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the interpreter flushes standard output once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ServiceError as error:
        print(*error.tail, sep="\n", end="\n" if error.tail else "", file=sys.stderr)
        reason = str(error)
    except (ReplayError, RecordingError, EngineError, ValueError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    print(f"{parser.prog}: {reason}", file=sys.stderr)
    return 1


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


def started(profile: Profile, options: argparse.Namespace) -> AbstractContextManager[Profile]:
    """The model servers that the profile needs, up within the context; it gives the profile with their addresses."""
    return running(profile, options.yes, lambda line: print(line, file=sys.stderr, flush=True))


def headless(profile: Profile, options: argparse.Namespace, alerts: Alerts | None) -> int:
    """One session without a page: a replay, a camera, a desktop. All that the user gave is looked at before the model
    is loaded."""
    from aura_core.headless import Company, Printer, run_camera, run_headless
    from aura_core.sources.video import Video
    from aura_core.state_folder import StateFolder

    asks: list[Ask] = options.ask + (load_script(options.script) if options.script else [])
    if options.record is not None and options.record.exists():
        raise RecordingError(f"{options.record} is there already; a recording never overwrites")
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):  # the encoding of JSON, wherever this runs
        out.reconfigure(encoding="utf-8", errors="backslashreplace")
    with contextlib.ExitStack() as stack:
        # a library that prints must not get in between the lines
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        video = camera = None
        if options.replay is not None:
            video = Video.open(options.replay)
        else:
            named = options.camera[0] if options.camera else _camera("0")
            camera = stack.enter_context(contextlib.closing(named.open(os.environ.get(LOGIN))))
        profile = stack.enter_context(started(profile, options))
        engine = build_engine(profile)
        config = profile.session_config()
        printer = Printer(out, options.json, video and video.duration)
        recorder = None
        if options.record is not None:
            from aura_core.recording.header import describe
            from aura_core.recording.writer import Recorder

            header = describe(config, engine.name, profile)
            recorder = Recorder(options.record, header, _bytes(options.record_limit), getattr(engine, "fit", None))
        keeper = None
        if options.state_dir is not None:
            warn = partial(print, "app.py:", file=sys.stderr)
            keeper = StateFolder(options.state_dir).open("headless", warn)
        company = Company(recorder, keeper, alerts, log_event if options.log_json else None)
        if camera is None:
            assert video is not None
            run = run_headless(engine, config, video, asks, options.speed, printer, company)
        elif options.desktop:
            from aura_core.desktop import run_desktop

            run = run_desktop(engine, profile, camera, asks, options.seconds, printer, company, options.headphones)
        else:
            run = run_camera(engine, config, camera, asks, options.seconds, printer, company)
        return 0 if asyncio.run(run) else 1


def replay_recording(options: argparse.Namespace) -> int:
    """Run `options.replay_recording` again, on its own model or as the flags change it; 0 if all is the same."""
    from tqdm import tqdm

    from aura_core.recording.rerun import rerun

    flags = {"checkpoint": options.checkpoint, "engine_url": options.engine_url, "model": options.engine_model}
    if options.engine_url is not None:
        flags["engine"] = "openai"
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8", errors="backslashreplace")
    hidden = True if options.json else None
    with contextlib.redirect_stdout(sys.stderr), tqdm(unit=" decisions", leave=False, disable=hidden) as bar:
        report = rerun(
            options.replay_recording,
            start=lambda profile: started(profile, options),
            listen=lambda outcome: bar.update(),
            **flags,
        )
    lines = [json.dumps(report.as_json(), ensure_ascii=False)] if options.json else report.lines()
    print("\n".join(lines), file=out, flush=True)
    return 0 if report.same else 1


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


def _bytes(megabytes: float) -> int:
    return int(megabytes * (1 << 20))


if __name__ == "__main__":
    sys.exit(main())
