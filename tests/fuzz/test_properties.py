"""The properties themselves: what an answer may change, and what it may not."""

from typing import Any, Final

import pytest

from slicewise.api import keys
from tests.admission.building import deployment
from tests.admission.generating import REQUIRED
from tests.admission.kinds import put
from tests.fuzz.properties import BrokenError, only_where_it_should

PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_POOL: Final = {"key": keys.POOL, "operator": "In", "values": ["a"]}
_OTHER: Final = {**_POOL, "values": ["b"]}
_ZONE: Final = {"key": "zone", "operator": "In", "values": ["x"]}
_BOARD: Final = {"key": keys.PRODUCT, "operator": "In", "values": ["H100"]}
_TAINT: Final = {"key": "team", "operator": "Exists"}
_OURS: Final = dict(keys.TOLERATION)
_VOID: Final = {"name": keys.VISIBLE_DEVICES, "value": "void"}
_ENV: Final = {"name": "A", "value": "b"}


def _prefers(*pools: str) -> dict[str, Any]:
    return {"weight": 1, "preference": {"matchExpressions": [{**_POOL, "values": [*pools]}]}}


def _affinity(*terms: list[Any], prefers: tuple[Any, ...] = ()) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": each} for each in terms]}
    return {"nodeAffinity": {REQUIRED: required, PREFERRED: [*prefers]}}


CASES: Final[dict[str, tuple[str, Any, Any, bool]]] = {
    # where in the pod spec, before, after, may that be
    "our toleration comes": ("tolerations", [_TAINT], [_TAINT, _OURS], True),
    "our toleration goes": ("tolerations", [_OURS, _TAINT], [_TAINT], True),
    "another goes with it": ("tolerations", [_OURS, _TAINT], [], False),
    "another comes in its place": ("tolerations", [_OURS], [_TAINT], False),
    "others change places": (
        "tolerations",
        [_TAINT, {**_TAINT, "key": "b"}],
        [{**_TAINT, "key": "b"}, _TAINT],
        False,
    ),
    "pools come": ("affinity", None, _affinity([_POOL]), True),
    "pools come beside": ("affinity", _affinity([_ZONE]), _affinity([_ZONE, _POOL]), True),
    "pools go": ("affinity", _affinity([_POOL]), {"nodeAffinity": {}}, True),
    "pools are others": ("affinity", _affinity([_POOL, _ZONE]), _affinity([_ZONE, _OTHER]), True),
    "a zone goes with the pools": ("affinity", _affinity([_POOL, _ZONE]), _affinity([_OTHER]), False),
    "a zone comes in their place": ("affinity", _affinity([_POOL]), _affinity([_ZONE]), False),
    "a zone is another": ("affinity", _affinity([_ZONE]), _affinity([{**_ZONE, "values": ["y"]}]), False),
    "a board that no decision names goes": (
        "affinity",
        _affinity([_POOL, _BOARD]),
        _affinity([_OTHER]),
        False,
    ),
    "an alternative goes": ("affinity", _affinity([_ZONE], [_BOARD]), _affinity([_ZONE, _POOL]), False),
    "pods are kept from each other": ("affinity", {"podAntiAffinity": {"a": 1}}, _affinity([_POOL]), False),
    "a preference comes": ("affinity", None, _affinity([_POOL], prefers=(_prefers("a"),)), True),
    "a preference of theirs goes": (
        "affinity",
        _affinity([_POOL], prefers=({"weight": 2},)),
        _affinity([_POOL]),
        False,
    ),
    "a variable of ours comes": ("containers.0.env", [_ENV], [_ENV, _VOID], True),
    "a variable of theirs goes": ("containers.0.env", [_ENV, _VOID], [_VOID], False),
    "a variable of theirs is another": ("containers.0.env", [_ENV], [{**_ENV, "value": "c"}], False),
}


@pytest.mark.parametrize(("place", "before", "after", "may"), CASES.values(), ids=CASES)
def test_what_an_answer_may_change(place: str, before: Any, after: Any, *, may: bool) -> None:
    one, other = (put(deployment(), f"spec.template.spec.{place}", each) for each in (before, after))
    try:
        only_where_it_should(one, other, "apps", "Deployment", "null")
    except BrokenError:
        assert not may
    else:
        assert may
