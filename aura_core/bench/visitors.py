"""The command `visitors`: so many visitors at once on one server; are all of them served, every second?

The server is `app.py` itself in a process of its own, or one that runs already. A visitor starves when more than a
tenth of its seconds were not decided, or when one in twenty was decided more than a second late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aura_core.bench import BenchError, options
from aura_core.bench.machine import describe, load, machine, versions
from aura_core.bench.stream import QUESTION
from aura_core.bench.summary import summarize
from aura_core.sources.video import Video

if TYPE_CHECKING:
    from aura_core.bench.visitor import Visitor

#: What the visitors show: a recording of the world that nano knows.
CLIP = Path(__file__).resolve().parents[2] / "assets" / "demos" / "three_kinds.mp4"
#: Of the visitor's seconds, those that must be decided; and the latest that a decision may come, in seconds, 19 of 20
#: times.
DECIDED, LATE = 0.9, 1.0
#: Seconds in which the server must say where it is: it loads a model first, on a machine that may be busy.
START = 300.0


def add_command(commands: Any) -> None:
    """Register `visitors` with a group of argparse subcommands."""
    parser = commands.add_parser("visitors", help="so many visitors at once: is every one of them served")
    parser.set_defaults(run=run)
    parser.add_argument("--at-once", type=options.count, default=10, metavar="N", help="visitors (default 10)")
    parser.add_argument("--seconds", type=options.positive, default=60.0, help="of every visit (default 60)")
    parser.add_argument(
        "--transport", choices=("socket", "webrtc"), default="webrtc", help="how they connect (default webrtc)"
    )
    parser.add_argument(
        "--ask-every", type=float, default=15.0, metavar="S", help="a question every S seconds, 0 for none (default 15)"
    )
    parser.add_argument("--url", help="a server that runs already, such as http://127.0.0.1:7860")
    parser.add_argument("--video", type=Path, default=CLIP, help="what the visitors show (default: a demo)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 if nobody starved. Raises what `__main__` tells in one line."""
    frames = [frame for _, frame in itertools.islice(Video.open(args.video).samples(), 120)]
    with contextlib.ExitStack() as stack:
        url, process = args.url, None
        if url is None:
            url, process = stack.enter_context(_server(args.at_once))
        began = _cpu(process)
        visitors = asyncio.run(_visit(url.rstrip("/"), frames, args))
        cpu = (_cpu(process) or 0.0) - began if began is not None else None
    report = _report(visitors, args, cpu)
    print(json.dumps(report, indent=1) if args.json else _lines(report))
    return 0 if report["starved"] == 0 else 1


async def _visit(url: str, frames: list[Any], args: argparse.Namespace) -> list[Visitor]:
    """All visits at once, begun over the first second; their questions are spread evenly, as people's are by chance."""
    from aura_core.bench.visitor import Visitor  # and with it aiortc, which takes a while

    visitors = [Visitor() for _ in range(args.at_once)]

    async def stay(index: int, visitor: Visitor) -> None:
        await asyncio.sleep(index / len(visitors))
        try:
            first = args.ask_every * (1 + index / len(visitors))
            await visitor.stay(url, frames, args.seconds, args.ask_every, QUESTION, args.transport, first)
        except (BenchError, OSError) as error:
            visitor.errors.append(str(error))
        except Exception as error:
            visitor.errors.append(f"{type(error).__name__}: {error}")

    await asyncio.gather(*itertools.starmap(stay, enumerate(visitors)))
    if errors := [visitor.errors[0] for visitor in visitors if not visitor.lags and visitor.errors]:
        print(f"{len(errors)} visitors saw nothing decided: {errors[0]}", file=sys.stderr)
    return visitors


def _report(visitors: list[Visitor], args: argparse.Namespace, cpu: float | None) -> dict[str, Any]:
    each = []
    for visitor in visitors:
        lag = summarize(visitor.lags)
        decided = visitor.silent + visitor.spoke
        starves = lag is None or lag["p95"] > LATE or decided < DECIDED * args.seconds
        each.append(
            {
                "decided": decided,
                "spoke": visitor.spoke,
                "skipped": visitor.skipped,
                "lag_p95_s": lag and round(lag["p95"], 3),
                "errors": visitor.errors[:3],
                "starved": starves,
            }
        )
    return {
        "visitors": len(visitors),
        "seconds": args.seconds,
        "transport": args.transport,
        "starved": sum(one["starved"] for one in each),
        "lag_s": summarize(lag for visitor in visitors for lag in visitor.lags),
        "step_s": summarize(step for visitor in visitors for step in visitor.steps),
        "answer_s": summarize(first for visitor in visitors for first in visitor.asked),
        "server_cores": cpu and round(cpu / args.seconds, 2),
        "each": each,
        "machine": machine(),
        "versions": versions(),
        "load_after": load(),
    }


def _lines(report: dict[str, Any]) -> str:
    def line(name: str, key: str) -> str:
        found = report[key]
        if found is None:
            return f"{name:<28} none"
        return f"{name:<28} p50 {found['p50']:.3f} s  p95 {found['p95']:.3f} s  max {found['max']:.3f} s"

    decided = [one["decided"] for one in report["each"]]
    skipped = sum(one["skipped"] for one in report["each"])
    cores = report["server_cores"]
    return "\n".join(
        [
            f"{report['visitors']} visitors for {report['seconds']:g} s by {report['transport']}: "
            f"{report['starved']} starved",
            f"seconds decided              {min(decided)} to {max(decided)} each, {skipped} skipped in all",
            line("second over -> decided", "lag_s"),
            line("a decision", "step_s"),
            line("question -> first words", "answer_s"),
            *([f"the server used              {cores:.2f} cores"] if cores is not None else []),
            describe(report),
        ]
    )


@contextlib.contextmanager
def _server(visitors: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`app.py` on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with _serving([sys.executable, "app.py", "--port", str(port), "--max-sessions", str(visitors)]) as server:
        yield server


@contextlib.contextmanager
def _serving(command: Sequence[str], start: float = START) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that `command`, a server, prints first, and its process. Raises BenchError when that does not come
    within `start` seconds."""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()  # which ends its output, and with it the wait

    timer = threading.Timer(start, give_up)
    timer.start()
    try:
        assert process.stdout is not None
        url = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))), None)
        timer.cancel()
        if url is None:
            how = f"within {start:g} s" if late.is_set() else f"(exit code {process.wait()})"
            raise BenchError(f"the server did not start {how}")
        yield url, process
    finally:
        timer.cancel()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _cpu(process: subprocess.Popen[str] | None) -> float | None:
    """Seconds of computing that a process has used; None where the system does not tell."""
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii") if process is not None else ""
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None
