"""`python -m aura_core.recording show|delete|make-test`: look at recordings, remove them, make tests of them."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aura_core.recording import RecordingError
from aura_core.recording.folder import delete
from aura_core.recording.format import Reader
from aura_core.recording.maketest import make_test
from aura_core.terminal import plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 141 the reader went away."""
    parser = argparse.ArgumentParser(prog="python -m aura_core.recording", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("show", help="print what is in a recording")
    command.add_argument("recording", type=Path, metavar="FILE")
    command.add_argument("--json", action="store_true", help="every record as a JSON object a line, without pictures")
    command.set_defaults(run=lambda options: _show(options.recording, options.json))
    command = commands.add_parser("delete", help="remove a recording, or all in a folder")
    command.add_argument("path", type=Path, metavar="FILE|DIR")
    command.set_defaults(run=lambda options: _delete(options.path))
    command = commands.add_parser("make-test", help="write a pytest that runs a recording again")
    command.add_argument("recording", type=Path, metavar="FILE")
    command.add_argument("out", type=Path, metavar="OUT.py")
    command.set_defaults(run=lambda options: _make_test(options.recording, options.out))
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options.run(options)
        sys.stdout.flush()
    except RecordingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return 0


def _show(path: Path, as_json: bool) -> None:
    reader = Reader(path)
    count = 0
    for record in reader:
        count += 1
        if as_json:
            print(json.dumps(record.data | {"payload": len(record.payload)}))
        else:
            for line in _lines(record.type, record.data):
                print(plain(line))
    if not as_json:
        end = reader.damage or ("whole" if reader.ended else "not ended: cut off, or still being written")
        print(f"{count} records, {reader.size} bytes, {end}")


def _lines(type: str, data: dict[str, Any]) -> list[str]:
    """A record for people; nothing for what is seen elsewhere."""
    if type == "recording":
        return [f"{name:<12} {value}" for name, value in data.items() if name not in ("type", "clock")]
    try:
        line = _line(type, data)
    except (AttributeError, KeyError, TypeError, ValueError):
        return [f"a record of type {type!r} that is not understood"]
    return [] if line is None else [line]


def _line(type: str, data: dict[str, Any]) -> str | None:
    match type:
        case "event":
            event = data["event"]
            text = event.get("text") or event.get("why") or ""
            return f"{event['t']:9.2f} s  {event['type']:<14} {event.get('request') or '':<5} {text}".rstrip()
        case "interrupt" | "stop" | "close":
            what = {name: value for name, value in data.items() if name not in ("type", "clock", "t")}
            return f"{data['t']:9.2f} s  {type:<14} {what}"
        case "note":
            return f"{data.get('t') or 0.0:9.2f} s  note           {data.get('what')}: {data.get('text')}"
        case _:
            return None


def _delete(path: Path) -> None:
    count, size = delete(path)
    print(f"removed {count} recordings, {size / 1e6:.1f} MB")


def _make_test(recording: Path, out: Path) -> None:
    copy = make_test(recording, out)
    print(f"wrote {out} and {copy}; run it with: pytest {out}")


if __name__ == "__main__":
    sys.exit(main())
