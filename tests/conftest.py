"""What all tests share: the repository's root, where the real images lie if they are here, and a Prefect server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"

os.environ.update(DVC_NO_ANALYTICS="1", DO_NOT_TRACK="1", GX_ANALYTICS_ENABLED="false")
os.environ["OMP_NUM_THREADS"] = "1"  # as the stages run; two test processes share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest file first: one process is busy with it while the other runs the rest.
    items.sort(key=lambda item: item.path.name != "test_demo_end_to_end.py")
    if not REAL_DATA.is_dir():
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(pytest.mark.skip(reason=f"{REAL_DATA} is not here"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    return REAL_DATA


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for all tests of the flows: starting one takes seconds."""
    from loopback_prefect import prefect_server

    with prefect_server(tmp_path_factory.mktemp("prefect")) as (url, _):
        yield url


@pytest.fixture
def told(prefect_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Flows of this process and of its children report to the server of the session."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with temporary_settings({PREFECT_API_URL: prefect_url}):
        yield prefect_url
