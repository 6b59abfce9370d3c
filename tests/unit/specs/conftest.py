"""The index that the tests build objects for."""

from __future__ import annotations

import pytest

from tests.unit.specs.indexes import build_index
from vectorindex.api import VectorIndex


@pytest.fixture
def index() -> VectorIndex:
    return build_index()
