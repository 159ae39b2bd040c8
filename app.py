"""AURA, an assistant that watches: serve the page, or replay a video without one.

The flags are in `aura_core.options`; this file starts what they ask for. The page is in `aura_core.ui`, the replay in
`aura_core.headless`. Both are imported when needed: a wrong flag costs no time, and a replay no web server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from aura_core.alerts.options import build_alerts
from aura_core.deployment import running
from aura_core.engines.base import EngineError
from aura_core.logs import log_as_json, log_event
from aura_core.options import build_parser, check, choose_profile
from aura_core.profiles import Profile, build_engine
from aura_core.recording import RecordingError
from aura_core.services import ServiceError
from aura_core.sources import ReplayError
from aura_core.sources.address import LOGIN
from aura_core.sources.script import Ask, load_script
from aura_core.ui import entrance

if TYPE_CHECKING:
    from aura_core.alerts.watcher import Alerts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: the process's own); return the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if options.log_json:
        log_as_json()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    try:
        check(options)
        profile = choose_profile(options)
        door = entrance.from_flags(options)
        alerts = build_alerts(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        if options.replay_recording is not None:
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


def started(profile: Profile, options: argparse.Namespace) -> AbstractContextManager[Profile]:
    """The model servers that the profile needs, up within the context; it gives the profile with their addresses."""
    return running(profile, options.yes, lambda line: print(line, file=sys.stderr, flush=True))


def headless(profile: Profile, options: argparse.Namespace, alerts: Alerts | None) -> int:
    """One session without a page: a replay, a camera, a desktop. All that the user gave is looked at before the model
    is loaded."""
    from aura_core.headless import Company, Printer, run_camera, run_headless
    from aura_core.sources.named import NamedCamera
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
            named = options.camera[0] if options.camera else NamedCamera.parse("0")
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


def _bytes(megabytes: float) -> int:
    return int(megabytes * (1 << 20))


if __name__ == "__main__":
    sys.exit(main())
