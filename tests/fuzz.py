"""`python -m tests.fuzz NAME`: bytes from outside, led by coverage: what reaches new code is kept and changed further.

Needs atheris (requirements-extra.txt). Ends with 0 when the time is over, with 1 and the traceback at the first
finding, whose bytes are then in `crash-...` in the folder `--corpus`, or here without one. `--list` names the targets.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What is watched: our own code. The libraries that read foreign bytes for us have fuzzers of their own.
WATCHED = ["aura_core", "data_pipeline", "evals"]
#: Bytes of the longest input.
LONGEST = 8192


#: What is hardly ever thought of where something else is expected.
_ODD = (
    None, True, False, 0, -1, 1, 10**400, -(2**63), 0.5, 1e308, float("inf"), float("nan"), "", " ", "x", "\n",
    "\x1b[2J", "\ud800", "\u2028", "<|im_end|>", "yes", "A", [], {}, [[]], [None], {"": 0}, "1:2:3", "../x",
)  # fmt: skip


def changed(data: bytes, chance: random.Random) -> bytes:
    """One value somewhere in some JSON in `data` replaced, taken away or doubled: what changes bytes alone hardly ever
    leaves JSON that can be parsed."""
    text = data.decode("latin-1")
    starts = [place for place, letter in enumerate(text) if letter in "[{"]
    chance.shuffle(starts)
    for start in starts[:8]:
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        holders = [found for found in _nodes(value) if found]
        if not holders:
            continue
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        match chance.randrange(4):
            case 0:
                del holder[key]
            case 1:
                other = chance.choice(holders)
                holder[key] = chance.choice(list(other.values()) if isinstance(other, dict) else other)
            case _:
                holder[key] = chance.choice(_ODD)
        try:
            made = json.dumps(value)
        except ValueError:  # it holds itself by now
            continue
        return (text[:start] + made + text[end:]).encode("latin-1")
    return data


def _nodes(value: Any) -> Iterator[Any]:
    """All lists and objects in a value."""
    if isinstance(value, (dict, list)):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _nodes(part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a target; does not return, for libFuzzer ends the process, unless it cannot begin."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.split("\n\n")[0], allow_abbrev=False
    )
    parser.add_argument("name", nargs="?", help="the target; see --list")
    parser.add_argument("--list", action="store_true", help="print the names of all targets")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--runs", type=int, default=-1, help="instead, so many inputs beside the seeds")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0: another one each time")
    parser.add_argument("--corpus", type=Path, help="a folder of inputs to set out from and to add to")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only run this input, such as a finding")
    options = parser.parse_args(arguments)

    from tests import fuzz_network, fuzz_targets

    targets = fuzz_targets.TARGETS | fuzz_network.TARGETS
    if options.list:
        print(*targets, sep="\n")
        return 0
    if options.name not in targets:
        parser.error(f"there is no target {options.name}; there are {', '.join(targets)}")
    target = targets[options.name]
    if options.again is not None:
        target.run(options.again.read_bytes())
        return 0
    try:
        import atheris
    except ImportError:
        print("fuzzing needs atheris: pip install -r requirements-extra.txt", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=WATCHED):
        seeds = list(target.seeds())
        for seed in seeds:  # imports everything that it needs
            target.run(seed)
    with tempfile.TemporaryDirectory(prefix="aura-corpus-") as folder:
        beginning = Path(folder)
        for number, seed in enumerate(seeds):
            (beginning / str(number)).write_bytes(seed)
        kept = options.corpus or beginning / "found"
        kept.mkdir(parents=True, exist_ok=True)
        limit = [f"-runs={options.runs + len(seeds)}"] if options.runs >= 0 else [f"-max_total_time={options.seconds}"]
        prefix = f"-artifact_prefix={options.corpus}/" if options.corpus else "-artifact_prefix=./"
        flags = [*limit, f"-seed={options.seed}", f"-max_len={LONGEST}", "-timeout=30", "-print_final_stats=1", prefix]

        def mutate(data: bytes, size: int, seed: int) -> bytes:
            return changed(data, random.Random(seed))[:size] if seed % 2 else atheris.Mutate(data, size)

        atheris.Setup([sys.argv[0], *flags, str(kept), folder], target.run, custom_mutator=mutate)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
