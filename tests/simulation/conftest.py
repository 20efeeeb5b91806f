"""The little Flower apps that are run: `apps/`."""

from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def apps() -> Path:
    return APPS
