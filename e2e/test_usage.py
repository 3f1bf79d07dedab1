"""`slicewise report` and `slicewise advise` against a real Prometheus that scrapes dcgm-exporter's text format.

Fifty nodes: whole boards, MIG slices and boards shared in time. Two days of past are put into its storage, and the same
exporter is scraped while the test runs.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.harness.client import eventually
from e2e.harness.prometheus import Exporter, Prometheus

# The first test waits for the build.
pytestmark = pytest.mark.timeout(1800)

MODEL: Final = "NVIDIA H100 80GB HBM3"
EVERY: Final = 300
PAST: Final = 2 * 86_400
# Of "slicewise" hashed with bcrypt, as Prometheus wants it.
HASH: Final = "$2b$10$qtdsFHHKAtHsvtQjEW7mSuEqtKGkKk9QcLxuHr.A7OLPFtgvuLcbS"


@dataclass(frozen=True)
class Device:
    """One board, slice or share with its pod, as dcgm-exporter shows it."""

    node: str
    board: str
    namespace: str
    pod: str
    level: float
    """Memory in MiB."""
    use: float
    profile: str = ""
    instance: str = ""

    def labels(self) -> str:
        """The labels of each of its series."""
        words = {
            "gpu": "0",
            "UUID": self.board,
            "modelName": MODEL,
            "Hostname": self.node,
            "namespace": self.namespace,
            "pod": self.pod,
            "container": "main" if self.pod else "",
        }
        if self.profile:
            words |= {"GPU_I_PROFILE": self.profile, "GPU_I_ID": self.instance}
        return ",".join(f'{name}="{value}"' for name, value in words.items())

    def values(self, moment: int) -> dict[str, float]:
        """Its metrics at one time: memory goes up and down by a tenth within the hour."""
        wave = 0.95 + 0.05 * math.sin(moment / 3600 * 2 * math.pi)
        memory = round(self.level * wave)
        return {
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE": self.use,
            "DCGM_FI_DEV_FB_USED": memory,
            "DCGM_FI_DEV_FB_FREE": (9_984 if self.profile else 81_000) - memory,
        }


def devices() -> list[Device]:
    """Fifty nodes."""
    found = [Device(f"whole-{i:02}", f"GPU-w{i}", "chat", f"llama-{i}", 14_000, 0.1) for i in range(20)]
    for i in range(20):
        found += [
            Device(
                f"mig-{i:02}",
                f"GPU-m{i}",
                "embed" if j else "lazy",
                f"e-{i}-{j}",
                5_000,
                0.5 * j,
                "1g.10gb",
                str(j),
            )
            for j in range(2)
        ]
        found.append(Device(f"mig-{i:02}", f"GPU-m{i}", "", "", 1, 0.0, "1g.10gb", "9"))
    for i in range(10):
        found += [Device(f"shared-{i:02}", f"GPU-s{i}", "lab", f"nb-{i}-{j}", 20_000, 0.2) for j in range(3)]
    return found


def text(every: list[Device], moments: list[int], *, timed: bool) -> str:
    """The metrics in the text format; with times (in seconds) as OpenMetrics."""
    lines = []
    for name in ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"):
        lines.append(f"# TYPE {name} gauge")
        lines += [
            f"{name}{{{device.labels()}}} {device.values(moment)[name]}" + (f" {moment}" if timed else "")
            for device in every
            for moment in moments
        ]
    lines.append("# TYPE kube_pod_owner gauge")
    lines += [
        f'kube_pod_owner{{namespace="{device.namespace}",pod="{device.pod}",owner_kind="StatefulSet",'
        f'owner_name="{device.pod.split("-")[0]}"}} 1' + (f" {moment}" if timed else "")
        for device in every
        if device.pod
        for moment in moments[-1:]
    ]
    return "\n".join([*lines, *(["# EOF"] if timed else [])]) + "\n"


def slicewise(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder that has the cluster's file."""
    (folder / "cluster.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "chat", "labels": {"slicewise.io/policy": "default"}},
            }
        )
    )
    command = [sys.executable, "-m", "slicewise", *words, "--snapshot", "cluster.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def wait_scraped(folder: Path, url: str) -> None:
    """Waits until something was scraped."""
    deadline = time.monotonic() + 120
    while True:
        ran = slicewise(folder, "report", "--prometheus", url, "--period", "1h", "-o", "json")
        if ran.returncode == 0 and json.loads(ran.stdout)["byNamespace"]:
            return
        assert time.monotonic() < deadline, ran.stderr
        time.sleep(1)


def last_scrape(url: str) -> float:
    """When the exporter was last scraped, as a Unix time: scrapes are stored one after the other."""
    query = f"{url}/api/v1/query?query=min(timestamp(DCGM_FI_DEV_FB_USED))"
    with urllib.request.urlopen(query, timeout=30) as answer:  # noqa: S310  loopback
        (found,) = json.load(answer)["data"]["result"]
    return float(found["value"][1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Prometheus]]:
    folder = tmp_path_factory.mktemp("prometheus")
    every = devices()
    exporter = Exporter(lambda: text(every, [int(time.time())], timed=False))
    job = {"job_name": "dcgm", "honor_labels": True, "static_configs": [{"targets": [exporter.address]}]}
    prometheus = Prometheus(folder, [job])
    now = int(time.time()) // EVERY * EVERY
    prometheus.fill(text(every, list(range(now - PAST, now - 2 * EVERY, EVERY)), timed=True))
    exporter.start()
    try:
        prometheus.start()
        yield folder, prometheus
    finally:
        prometheus.stop()
        exporter.stop()


@pytest.fixture(scope="module")
def saved(running: tuple[Path, Prometheus]) -> tuple[Path, dict[str, str]]:
    """What was measured, kept in a file, and what the commands printed of it while they asked Prometheus."""
    folder, prometheus = running
    wait_scraped(folder, prometheus.url)
    until = int(time.time())
    eventually(lambda: last_scrape(prometheus.url) > until, "nothing more comes of before")
    source = ("--prometheus", prometheus.url, "--period", "47h", "--until", str(until))
    printed = {}
    for name, words in COMMANDS.items():
        ran = slicewise(folder, *words, *source, "--save", "usage.json.gz")
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        printed[name] = ran.stdout
    return folder, printed


COMMANDS: Final = {
    "report": ("report", "-o", "json"),
    "table": ("report",),
    "page": ("report", "-o", "html"),
    "advise": ("advise", "-o", "json"),
    "explain": ("advise", "--explain", "chat/StatefulSet/llama"),
}


def test_hours_are_held_and_used(saved: tuple[Path, dict[str, str]]) -> None:
    found: dict[str, Any] = json.loads(saved[1]["report"])
    by_namespace = {each["name"]: each for each in found["byNamespace"]}
    # Twenty boards; twenty slices of a seventh; ten boards, each in three parts.
    for namespace, boards, use in (
        ("chat", 20, 0.1),
        ("lazy", 20 / 7, 0),
        ("embed", 20 / 7, 0.5),
        ("lab", 10, 0.2),
    ):
        assert by_namespace[namespace]["allocated"] == pytest.approx(47 * boards, rel=0.02)
        assert by_namespace[namespace]["used"] == pytest.approx(47 * boards * use, rel=0.02)
    assert found["mig"]["idleShare"] == pytest.approx(0.75, abs=0.01)
    assert {each["namespace"] for each in found["untouched"]} == {"lazy"}
    assert len(found["untouched"]) == 20
    assert any("devices shared in time: 10;" in each for each in found["notJudged"])
    assert any("20 series of slices name no pod" in each for each in found["notJudged"])


def test_owners_get_the_smallest_size_and_those_who_share_no_verdict(
    saved: tuple[Path, dict[str, str]],
) -> None:
    found: dict[str, Any] = json.loads(saved[1]["advise"])
    owners = {each["name"]: each for each in found["owners"] if each["namespace"] != "lazy"}
    assert (owners["llama"]["replicas"], owners["llama"]["current"], owners["llama"]["advised"]) == (
        20,
        "",
        "1g.20gb",
    )
    assert owners["llama"]["memoryMiB"] >= owners["llama"]["peakMiB"] * 1.04
    assert owners["e"]["advised"] == "1g.10gb"
    assert owners["nb"]["advised"] is None
    assert "share boards in time" in owners["nb"]["why"]
    (lazy,) = (each for each in found["owners"] if each["namespace"] == "lazy")
    assert lazy["advised"] is None
    assert "none of its pods ever worked on its GPU" in lazy["why"]
    assert found["boards"][0]["before"] > found["boards"][0]["after"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_file_says_the_same_byte_for_byte(saved: tuple[Path, dict[str, str]], name: str) -> None:
    folder, printed = saved
    ran = slicewise(folder, *COMMANDS[name], "--usage", "usage.json.gz")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == printed[name]


def test_labels_that_prometheus_moved_aside_are_read(tmp_path: Path) -> None:
    every = devices()[:3]
    exporter = Exporter(lambda: text(every, [int(time.time())], timed=False))
    target = {
        "targets": [exporter.address],
        "labels": {"namespace": "gpu-operator", "pod": "dcgm-exporter-x"},
    }
    prometheus = Prometheus(tmp_path, [{"job_name": "dcgm", "static_configs": [target]}])
    exporter.start()
    try:
        prometheus.start()
        wait_scraped(tmp_path, prometheus.url)
        ran = slicewise(tmp_path, "report", "--prometheus", prometheus.url, "--period", "1h", "-o", "json")
        assert [each["name"] for each in json.loads(ran.stdout)["byNamespace"]] == ["chat"]
    finally:
        prometheus.stop()
        exporter.stop()


def test_one_that_wants_credentials_has_no_such_metrics_or_is_down_is_said_in_a_sentence(
    tmp_path: Path,
) -> None:
    prometheus = Prometheus(tmp_path, [], {"basic_auth_users": {"admin": HASH}})
    prometheus.start()
    try:
        ran = slicewise(tmp_path, "report", "--prometheus", prometheus.url)
        assert ran.returncode == 2
        assert "does not let us in (HTTP 401); give a token with --prometheus-token-file" in ran.stderr
    finally:
        prometheus.stop()
    ran = slicewise(tmp_path, "report", "--prometheus", prometheus.url)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "cannot be reached" in ran.stderr
    other = tmp_path / "other"
    other.mkdir()
    empty = Prometheus(other, [])
    empty.start()
    try:
        ran = slicewise(tmp_path, "report", "--prometheus", empty.url)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert "has none of DCGM_FI_DEV_FB_USED" in ran.stderr
    finally:
        empty.stop()
