"""Fixtures that every test may use."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("aura", deadline=None)  # a busy machine is not a failure
settings.load_profile("aura")

# What a shell script starts in the background ignores Ctrl-C, and hands that on to every program that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`-n 2 --dist loadgroup`), the tests of a file stay together: they share what it sets up."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with real footage and benchmark annotations; tests that need it skip without."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real footage, benchmark annotations), which is not part of the project")
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano checkpoint with random weights: whole in form, meaningless in what it says."""
    from train.model import build

    return build(tmp_path_factory.mktemp("checkpoint") / "untrained")
