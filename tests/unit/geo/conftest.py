"""The public data sets lie beside the checkout; a test of them is skipped only where they are absent outside of CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[3].parent / "shared" / "data"
    if not folder.is_dir() and not os.environ.get("CI"):
        pytest.skip("no ../shared/data here")
    return folder
