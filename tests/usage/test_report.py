"""Who holds GPUs, who uses them, and what cannot be said."""

from __future__ import annotations

import json
import math

import pytest

from slicewise.usage import formats, html_page
from slicewise.usage.ownership import Cluster, remember, works
from slicewise.usage.report import report
from slicewise.usage.series import Series
from tests.usage.making import pod, series, usage, wavy

NOTHING = Cluster()


def test_hours_are_held_used_and_idle() -> None:
    found = report(usage(series("a", [10] * 10, 0.25), series("b", [10] * 10, 0.75, "team-b")), NOTHING)
    assert (found.total.allocated, found.total.used, found.total.idle) == (20, 10, 10)
    assert [(name, hours.used) for name, hours in found.rows("namespace")] == [
        ("team-a", 2.5),
        ("team-b", 7.5),
    ]


def test_a_slice_counts_by_its_compute_slices() -> None:
    whole, part = series("a", [10] * 7, 1.0), series("b", [10] * 7, 0.5, profile="3g.40gb")
    found = report(usage(whole, part), NOTHING)
    assert found.total.allocated == pytest.approx(7 + 3)
    assert found.mig.allocated == pytest.approx(3)
    assert found.mig.used == pytest.approx(1.5)


def test_pods_that_share_a_board_split_its_hours_and_are_not_judged() -> None:
    shared = [series(name, [10] * 4, 0.0, board="GPU-1") for name in ("a", "b")]
    found = report(usage(*shared), NOTHING)
    assert found.total.allocated == pytest.approx(4)
    assert found.untouched == []
    assert "devices shared in time: 1;" in found.not_judged[0]


def test_one_pod_after_another_on_a_board_share_nothing() -> None:
    first = series("a", [10, 10, math.nan, math.nan], [0.1, 0.1, math.nan, math.nan], board="GPU-1")
    second = series("b", [math.nan, math.nan, 10, 10], [math.nan, math.nan, 0.1, 0.1], board="GPU-1")
    found = report(usage(first, second), NOTHING)
    assert found.total.allocated == pytest.approx(4)
    assert not any("shared" in each for each in found.not_judged)


def test_who_never_touches_a_gpu_is_named_with_since_when() -> None:
    found = report(usage(series("lazy", [1] * 5, 0.0), series("busy", [1] * 5, [0, 0, 0, 0, 0.2])), NOTHING)
    assert [(each.pod, each.hours, each.since) for each in found.untouched] == [("lazy", 5, found.start)]


def test_series_without_a_pod_are_nobodys() -> None:
    found = report(
        usage(series("", [1] * 5), series("", [1] * 5, profile="1g.10gb"), series("a", [1] * 5)), NOTHING
    )
    assert found.total.allocated == 5
    assert sum("name no pod" in each for each in found.not_judged) == 2


def test_a_device_that_shows_no_use_is_said() -> None:
    found = report(usage(series("a", [1] * 5, [math.nan] * 5)), NOTHING)
    assert found.total.idle == 5
    assert any("show no use" in each for each in found.not_judged)


def test_owners_and_classes_come_from_the_pods() -> None:
    decision = {"class": "inference", "policy": "default", "strategy": "mig", "containers": {}}
    annotated = pod("chat-5d4f-x", annotations={"slicewise.io/decision": json.dumps(decision)})
    job = pod(
        "nightly-28123456-y",
        ownerReferences=[{"kind": "Job", "name": "nightly-28123456", "controller": True}],
    )
    cluster = Cluster(works([annotated, job, pod("bad", annotations={"slicewise.io/decision": "{"})]))
    found = report(
        usage(series("chat-5d4f-x", [1]), series("nightly-28123456-y", [1]), series("bad", [1])), cluster
    )
    assert set(found.groups["owner"]) == {"team-a/Deployment/chat", "team-a/CronJob/nightly"}
    assert set(found.groups["class"]) == {"inference", "unknown"}


def test_owners_come_from_the_source_where_no_pod_is_given() -> None:
    found = report(usage(series("a", [1]), owners={("team-a", "a"): ("Deployment", "chat")}), NOTHING)
    assert list(found.groups["owner"]) == ["team-a/Deployment/chat"]


def test_the_hours_of_the_week_add_up() -> None:
    found = report(usage(series("a", [1] * 24 * 7, 0.5)), NOTHING)
    assert [each.allocated for each in found.week] == [1] * 168
    # 2026-11-18 10:20 UTC, when the first hour begins, is a Wednesday.
    assert report(usage(series("a", [1])), NOTHING).week[2 * 24 + 10].allocated == 1


def test_the_page_holds_names_as_text_and_needs_no_network() -> None:
    found = report(usage(series("<script>alert(1)</script>", [30] * 8)), NOTHING)
    page = html_page.page(found)
    assert "<script" not in page
    assert "http" not in page
    assert "&lt;script&gt;" in page


def test_csv_and_markdown_hold_the_same_rows() -> None:
    found = report(usage(series("a|b", [1] * 4, namespace="=cmd()")), NOTHING)
    assert "namespace,'=cmd(),4.0000" in formats.report_csv(found)
    assert r"a\|b" in formats.markdown(found)


def test_what_is_remembered_needs_no_pods_beside_it() -> None:
    measured = usage(series("chat-5d4f-x", [1]))
    decision = {"class": "inference", "policy": "default", "strategy": "mig", "containers": {}}
    known = pod("chat-5d4f-x", annotations={"slicewise.io/decision": json.dumps(decision)})
    remember(measured, Cluster(works([known])))
    found = report(measured, NOTHING)
    assert set(found.groups["owner"]) == {"team-a/Deployment/chat"}
    assert set(found.groups["class"]) == {"inference"}
    assert found.not_judged == []


def test_plots_for_a_terminal_show_the_week_and_the_slices() -> None:
    found = report(usage(series("a", [5] * 168, 0.5), series("b", [12] * 168, 0.0)), NOTHING)
    assert formats.week_plot(found)[2] == "  Mon " + "█" * 48
    assert formats.peaks_plot(found)[1:3] == [
        "  1g.10gb     9.8Gi ████████████░░░░░░░░░░░░ 1",
        "  1g.20gb    19.6Gi ████████████░░░░░░░░░░░░ 1",
    ]


def test_pods_on_other_boards_and_on_shared_ones_are_in_no_distribution() -> None:
    shared = [series(name, [10], board="GPU-1") for name in ("a", "b")]
    found = report(usage(*shared, series("c", [20]), series("t", [1], model="Tesla T4")), NOTHING)
    assert (found.model, found.peaks) == ("NVIDIA-H100-80GB-HBM3", [20 * 1024])


@pytest.mark.parametrize(
    ("every", "number"),
    [
        pytest.param([series("a", wavy(5), 0.1)], 1, id="a small one"),
        pytest.param([series("a", wavy(5), 0.99)], 0, id="compute wants it whole"),
        pytest.param([series("a", wavy(60), 0.1)], 0, id="memory wants it whole"),
        pytest.param([series(n, wavy(5), 0.1, board="GPU-1") for n in "ab"], 0, id="shared in time"),
        pytest.param([series("a", wavy(5), 0.1, model="NVIDIA B200")], 0, id="slices of unknown memory"),
    ],
)
def test_boards_that_could_be_divided_are_counted(every: list[Series], number: int) -> None:
    assert sum(report(usage(*every), NOTHING).undivided.values()) == number


def test_a_profile_that_no_board_has_is_said() -> None:
    found = report(usage(series("a", wavy(5), profile="banana")), NOTHING)
    assert "series of a MIG profile that their board does not have: 1" in found.not_judged[0]
