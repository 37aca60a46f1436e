"""What all tests share: the repository's root, and where the real images lie if they are here."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"

os.environ.update(DVC_NO_ANALYTICS="1", DO_NOT_TRACK="1", GX_ANALYTICS_ENABLED="false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
