"""The benchmark of rules: what it calls a false zero, and what it reads of a trace."""

from pathlib import Path

import pytest

from queue_sync.planning.node_trust import Settings
from tests.benchmarks import quota_rules as rules
from tests.benchmarks.quota_traces import Shape, TraceError, described, made_up, shapes
from tests.queue_sync.scenes import GPU, ONE

BOARDS = made_up(1)[0]


def moment(at: float, *, sliced: bool, truth: bool = True, **changes: object) -> rules.Moment:
    shown = rules.whole("n", BOARDS, sliced=sliced, **changes)
    return rules.Moment(at, "n", shown, rules.offer(BOARDS, sliced=sliced) if truth else {})


def test_our_rule_promises_nothing_late_and_takes_nothing_away_that_is_there() -> None:
    moments = rules.life(made_up(30), 12, 7)
    ours = rules.replay(moments, 12 * 3600, rules.Ours(Settings()))
    theirs = rules.replay(moments, 12 * 3600, rules.sum_of_allocatable)
    assert (ours.false_zeros, ours.beyond_late) == (0, 0.0)
    assert theirs.false_zeros > 0
    assert ours.idle < 0.01 * ours.truth


def test_a_false_zero_is_of_what_was_counted_and_is_still_there() -> None:
    slices, boards = rules.offer(BOARDS, sliced=True), rules.offer(BOARDS, sliced=False)
    said = {0.0: slices, 10.0: {}, 20.0: {}, 30.0: boards, 40.0: {}}
    moments = [
        moment(0, sliced=True),
        moment(10, sliced=True),  # 10: taken away, and there all the time
        moment(20, sliced=False),  # 20: something else, which was never counted
        moment(30, sliced=False),
        moment(40, sliced=False, truth=False),  # 40: there is nothing
    ]
    answers = iter(said.values())
    account = rules.replay(moments, 50, lambda _name, _seen: next(answers))
    assert (account.false_zeros, account.not_yet) == (1, 1)
    assert account.truth == pytest.approx(8 * 40)
    assert account.idle == pytest.approx(8 * 20)
    assert {**boards, **slices} == {GPU: 8, ONE: 56}


TRACES = {
    "2023": "sn,cpu_milli,memory_mib,gpu,model\na,1,1,2,T4\nb,1,1,0,T4\n",
    "2026": "gpu_model,gpu_capacity_num,cpu_num,node_name\nA100-SXM4-80GB,8,1,0\nGPU-series-1,4,1,1\n",
}
FOUND = {
    "2023": [Shape("NVIDIA-T4", 2, divisible=False)],
    "2026": [Shape("NVIDIA-A100-SXM4-80GB", 8), Shape("NVIDIA-GPU-series-1", 4, divisible=False)],
}


@pytest.mark.parametrize("year", TRACES)
def test_a_trace_gives_the_nodes_and_it_is_said_who_divides_them(tmp_path: Path, year: str) -> None:
    (tmp_path / "nodes.csv").write_text(TRACES[year])
    found = shapes(tmp_path)
    assert found == FOUND[year]
    told = described(found)
    assert len(told) == len(found)
    assert all(("divided by this benchmark" in line) == ("A100" in line) for line in told)
    offered = {name for each in rules.life(found, 4, 1) for name in each.truth}
    assert offered == ({GPU, ONE} if year == "2026" else {GPU})


def test_a_folder_without_a_trace_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TraceError, match="name a folder with the trace's list of nodes"):
        shapes(tmp_path)
    (tmp_path / "nodes.csv").write_text("a,b\n1,2\n")
    assert rules.run(["--trace", str(tmp_path)]) == 2
    assert "has none of the columns model, gpu or gpu_model, gpu_capacity_num" in capsys.readouterr().err
