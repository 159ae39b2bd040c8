"""The benchmark of visitors and the server it starts: one that does not come up is one clear line, and is gone."""

from __future__ import annotations

import sys

import pytest

from aura_core.bench import BenchError
from aura_core.bench.visitors import _serving

SAYS = "print('AURA is at http://127.0.0.1:9  (Ctrl+C ends it)', flush=True); import time; time.sleep(600)"


def test_a_server_that_says_where_it_is() -> None:
    with _serving([sys.executable, "-c", SAYS]) as (url, process):
        assert url == "http://127.0.0.1:9"
        assert process.poll() is None
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("program", "start", "line"),
    [
        ("import time; time.sleep(600)", 0.5, r"the server did not start within 0\.5 s"),
        ("print('loading'); raise SystemExit(3)", 60.0, r"the server did not start \(exit code 3\)"),
    ],
    ids=["hangs", "ends"],
)
def test_a_server_that_does_not_start(program: str, start: float, line: str) -> None:
    with pytest.raises(BenchError, match=line), _serving([sys.executable, "-c", program], start):
        pass
