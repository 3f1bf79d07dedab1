"""An engine's name is one word of the API, and every table of engines has a row for it."""

from collections.abc import Mapping
from typing import Any

import pytest

from admission.engines import registry
from queue_sync.planning import engines
from slicewise.api.policy import Engine
from slicewise.kube.object_types import ENGINE_OBJECTS

TABLES: dict[str, Mapping[Any, Any]] = {
    "who queues a workload": registry.ENGINES,
    "what a plan wants": engines.ENGINES,
    "which objects it has": ENGINE_OBJECTS,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_each_engine_has_its_row(table: Mapping[Any, Any]) -> None:
    assert set(table) == set(Engine)
