"""What README.md and the tutorial say that `make cluster-demo` prints is what it prints, on the real control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.harness import nodes
from e2e.harness.cluster import AnyCluster
from e2e.harness.demo import LABELLED, PLAIN, play
from e2e.harness.installation import Installation
from e2e.harness.kueue import forget_plan
from tests.docs.pages import ROOT

SAYS = {
    "README.md": "The second creates the same Job twice and asks the real Kueue about it:\n\n```\n",
    "docs/tutorial.md": "Among others, it prints:\n\n```\n",
}


def test_the_pages_show_what_it_prints(
    cluster: AnyCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slicewise = Installation(cluster, tmp_path, settle="2s", hold_down="10s", replicas=1)
    try:
        slicewise.start()
        play(cluster, say=lambda _: None)
    finally:
        slicewise.stop()
        for space in (LABELLED, PLAIN):
            cluster.delete("v1", "Namespace", space)
        forget_plan(cluster, "demo")
        nodes.remove(cluster, "gpu-1")
    printed = capsys.readouterr().out
    for name, begins in SAYS.items():
        shown = (ROOT / name).read_text().partition(begins)[2].partition("```")[0].splitlines()
        assert len(shown) > 2
        assert [line for line in shown if line not in printed.splitlines()] == [], name
