"""Model servers as processes: their order, their deaths, their children; environments made by a fake installer.

The servers are real, tiny Python processes. The supervisor's waiting is a fake that gives way to the event loop, so
nothing here depends on how fast anything is.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from aura_core.services import ServiceError, gpus
from aura_core.services.background import Background
from aura_core.services.environment import LISTS, Environment, run
from aura_core.services.models import Model
from aura_core.services.server import Server, free_ports
from aura_core.services.supervisor import Patience, Supervisor, is_healthy

#: A server that is well at once. "/die" ends it, "/sick" makes it answer 503 from then on.
WELL = """
import http.server, os, sys
print("pid", os.getpid(), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    sick = False
    def do_GET(self):
        if self.path == "/die":
            print("out of memory", flush=True)
            os._exit(3)
        Handler.sick |= self.path == "/sick"
        self.send_response(503 if Handler.sick else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
#: Starts a child in its own process group, which ignores SIGTERM, and then is a server.
PARENT = """
import subprocess, sys
code = "import os, signal; signal.signal(15, signal.SIG_IGN); print('child', os.getpid(), flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), end="", flush=True)
""" + WELL  # fmt: skip
BROKEN = "print('loading'); print('\\x1b[31mCUDA out of memory\\x1b[0m'); raise SystemExit(1)"


def server(name: str, code: str, port: int = 0) -> Server:
    port = port or free_ports(1)[0]
    return Server(name, (sys.executable, "-c", code, str(port)), port)


class Time:
    """Waiting that takes none; what is waited for is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        await asyncio.sleep(0)

    def clock(self) -> float:
        return self.now


class Theater:
    """A supervisor and what it reported."""

    def __init__(self, logs: Path, servers: Sequence[Server], patience: Patience, time: Time | None = None) -> None:
        self.time = time or Time()
        self.lines: list[str] = []
        self.moved = asyncio.Event()
        self.supervisor = Supervisor(servers, logs, self._report, patience, wait=self.time.wait, clock=self.time.clock)

    def _report(self, line: str) -> None:
        self.lines.append(line)
        self.moved.set()

    async def told(self, part: str) -> str:
        async with asyncio.timeout(60):
            while not (found := [line for line in self.lines if part in line]):
                self.moved.clear()
                await self.moved.wait()
        return found[-1]

    def pids(self, server: Server, word: str = "pid") -> list[int]:
        lines = self.supervisor.log(server).read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith(f"{word} ")]


@pytest.fixture
async def theater(tmp_path: Path) -> AsyncIterator[Callable[..., Theater]]:
    made: list[Theater] = []

    def make(*servers: Server, time: Time | None = None, **patience: float) -> Theater:
        made.append(Theater(tmp_path / "logs", servers, Patience(**{"grace": 0.2, **patience}), time))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        await one.supervisor.close()


Make = Callable[..., Theater]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Wait for the end of a process, which need not be our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(30):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_each_starts_when_the_one_before_is_well(theater: Make):
    first, second = server("first", WELL), server("second", WELL)
    t = theater(first, second)
    await t.supervisor.start()
    kinds = [line.split()[0] + line.split()[1] for line in t.lines]
    assert kinds == ["first:starting", "first:ready", "second:starting", "second:ready"]
    assert await is_healthy(first.health_url)
    assert await is_healthy(second.health_url)
    pids = t.pids(first) + t.pids(second)
    await t.supervisor.close()
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert not await is_healthy(first.health_url)


async def test_what_dies_is_started_again_later_and_later(theater: Make):
    one = server("one", WELL)
    t = theater(one, backoff=2.0, watch=1e9, poll=0.5)
    t.supervisor._wait = held  # its watch lasts for ever: only its death is news
    await t.supervisor.start()
    for time, seconds in enumerate(("2", "4", "8"), start=1):
        await is_healthy(one.health_url.replace("health", "die"))
        told = await t.told(f"starting it again in {seconds} s")
        assert told == f"one ended with exit code 3: out of memory; starting it again in {seconds} s"
        async with asyncio.timeout(60):
            while t.lines.count("one: ready again") < time:
                t.moved.clear()
                await t.moved.wait()
    assert len({*t.pids(one)}) == 4
    t.time.now += 10_000.0  # it has been calm
    await is_healthy(one.health_url.replace("health", "die"))
    async with asyncio.timeout(60):
        while sum("in 2 s" in line for line in t.lines) < 2:
            t.moved.clear()
            await t.moved.wait()


async def held(seconds: float) -> None:
    """Waits of a day and more never end."""
    await (asyncio.Event().wait() if seconds > 86400 else asyncio.sleep(0))


async def test_what_no_longer_answers_is_started_again(theater: Make):
    one = server("one", WELL)
    t = theater(one, misses=3)
    await t.supervisor.start()
    await is_healthy(one.health_url.replace("health", "sick"))
    assert "no longer answers" in await t.told("starting it again")
    await t.told("ready again")
    assert not alive(t.pids(one)[0])


async def test_what_cannot_start_fails_for_good_with_its_last_line(theater: Make):
    well, broken = server("well", WELL), server("broken", BROKEN)
    t = theater(well, broken, attempts=3, backoff=2.0)
    with pytest.raises(ServiceError) as raised:
        async with t.supervisor:
            pass
    message = str(raised.value)
    assert message == f"broken ended with exit code 1: CUDA out of memory (log: {t.supervisor.log(broken)})"
    assert raised.value.tail[-2:] == ("loading", "CUDA out of memory")
    assert [seconds for seconds in t.time.waited if seconds in (2.0, 4.0, 8.0)] == [2.0, 4.0]
    assert not alive(t.pids(well)[0])  # nothing is left running
    missing = theater(Server("missing", ("/no/such/program",), 1), attempts=1)
    with pytest.raises(ServiceError, match="No such file"):
        await missing.supervisor.start()


async def test_what_is_never_well_is_given_up(theater: Make):
    idle = server("idle", "import time; time.sleep(600)")
    t = theater(idle, attempts=1)

    async def wait(seconds: float) -> None:
        t.time.now += seconds
        await asyncio.sleep(0)

    t.supervisor._wait = wait
    with pytest.raises(ServiceError, match="was not ready within 1200 s"):
        await t.supervisor.start()


async def test_a_restart_that_fails_for_good_is_told_and_the_others_live(theater: Make, tmp_path: Path):
    once = (
        f"import pathlib; p = pathlib.Path({str(tmp_path / 'once')!r}); assert not p.exists(), 'only once'; p.touch()"
    )
    one, two = server("one", once + WELL), server("two", WELL)
    t = theater(one, two, attempts=2)
    await t.supervisor.start()
    await is_healthy(one.health_url.replace("health", "die"))
    assert "AssertionError: only once" in await t.told("not started again")
    assert await is_healthy(two.health_url)


async def test_stopping_ends_the_whole_process_group(theater: Make):
    one = server("one", PARENT)
    t = theater(one)
    await t.supervisor.start()
    (child,) = t.pids(one, "child")
    await t.supervisor.close()
    await gone(child)
    assert not alive(t.pids(one)[0])


async def test_a_server_that_ran_before_is_left_alone(theater: Make):
    """Also one that does what ours do: it was started by somebody else."""
    before, ours = theater(theirs := server("theirs", WELL)), theater(server("ours", WELL))
    await before.supervisor.start()
    await ours.supervisor.start()
    await ours.supervisor.close()
    assert await is_healthy(theirs.health_url)


KILLED = """
import asyncio, sys
from pathlib import Path
from aura_core.services.server import Server
from aura_core.services.supervisor import Patience, Supervisor
async def main():
    server = Server("one", (sys.executable, "-c", sys.argv[1], sys.argv[2]), int(sys.argv[2]))
    async with Supervisor([server], Path(sys.argv[3]), lambda line: None, Patience(poll=0.01, grace=0.2)):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_when_we_are_killed_nothing_stays(tmp_path: Path):
    port = free_ports(1)[0]
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", KILLED, PARENT, str(port), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as us:
        assert us.stdout is not None
        assert us.stdout.readline() == b"up\n"
        lines = [line.split() for line in (tmp_path / "one.log").read_text().splitlines()]
        pids = [int(line[1]) for line in lines if line[0] in ("pid", "child")]
        os.kill(us.pid, signal.SIGKILL)
    assert len(pids) == 2
    for pid in pids:
        asyncio.run(gone(pid))


def test_in_the_background(tmp_path: Path):
    one = server("one", WELL)
    with Background(Supervisor([one], tmp_path, lambda line: None, Patience(poll=0.01, grace=0.2))):
        assert asyncio.run(is_healthy(one.health_url))
    assert not asyncio.run(is_healthy(one.health_url))
    broken = Supervisor([server("b", BROKEN)], tmp_path, lambda line: None, Patience(poll=0.01, attempts=1))
    with pytest.raises(ServiceError, match="CUDA out of memory"), Background(broken):
        pass


# Environments and models


class Installer:
    """Does what the commands would do to the disk; fails at the one that contains `fails`."""

    def __init__(self, fails: str = "nothing") -> None:
        self.fails = fails
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, command: Sequence[str], line: Callable[[str], None]) -> int:
        self.commands.append(tuple(command))
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
        line("Collecting vllm\n")
        line("no network\n" if self.fails in command else "done\n")
        return int(self.fails in command)


def environment(tmp_path: Path) -> Environment:
    (list_ := tmp_path / "list.txt").write_text("vllm==0.30.0\n")
    return Environment("vllm", list_, tmp_path / "environments", 14.0)


def test_an_environment_is_made_once(tmp_path: Path):
    made, installer = environment(tmp_path), Installer()
    assert not made.is_whole
    made.make(installer, uv="/usr/bin/uv")
    made.make(installer, uv="/usr/bin/uv")
    folder, packages = str(made.folder), str(made.requirements)
    assert installer.commands == [
        ("/usr/bin/uv", "venv", "--python", sys.executable, folder),
        ("/usr/bin/uv", "pip", "install", "--python", f"{folder}/bin/python", "-r", packages),
    ]
    assert made.is_whole
    made.requirements.write_text("vllm==0.31.0\n")
    assert not made.is_whole


def test_without_uv_pip_makes_it(tmp_path: Path):
    made, installer = environment(tmp_path), Installer()
    made.make(installer, uv="")
    python = f"{made.folder}/bin/python"
    assert [command[:4] for command in installer.commands] == [
        (sys.executable, "-m", "venv", str(made.folder)),
        (python, "-m", "pip", "install"),
    ]


def test_a_half_made_environment_is_made_anew(tmp_path: Path):
    made = environment(tmp_path)
    with pytest.raises(ServiceError, match=r"^the environment vllm could not be made: no network$"):
        made.make(Installer(fails="pip"), uv="uv")
    assert not made.is_whole
    assert made.folder.exists()
    made.make(Installer(), uv="uv")  # its own mkdir would fail if the old folder were still there
    assert made.is_whole


def test_commands_are_run_and_heard():
    lines: list[str] = []
    assert run([sys.executable, "-c", "print('one'); print('two'); raise SystemExit(4)"], lines.append) == 4
    assert lines == ["one\n", "two\n"]
    assert run(["/no/such/program"], lines.append) == 127


@pytest.mark.parametrize("name", ["vllm", "qwen-asr", "qwen-tts"])
def test_the_lists_are_locked(name: str):
    wanted = [line for line in (LISTS / f"{name}.in").read_text().splitlines() if line and line[0] != "#"]
    locked = [line for line in (LISTS / f"{name}.txt").read_text().splitlines() if line and line[0] not in "# "]
    assert all("==" in line for line in locked)
    assert {line for line in wanted if "==" in line} <= {*locked}
    assert {line.partition("==")[0] for line in wanted} <= {line.partition("==")[0] for line in locked}


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Model(str(tmp_path)).is_here
    assert Model(str(tmp_path)).fetch() == str(tmp_path)
    with pytest.raises(ServiceError, match="there is no checkpoint folder"):
        Model(str(tmp_path / "missing")).fetch()


def test_no_driver_no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.installed() == []
    (fake := tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '0, 81559'\necho '1, 24564'\n")
    fake.chmod(0o755)
    assert gpus.installed() == [("0", 81559), ("1", 24564)]
