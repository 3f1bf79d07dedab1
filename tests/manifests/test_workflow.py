"""The workflow for a public forge: it runs what this tree has, with actions pinned and no more rights than it needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
TEXT = (ROOT / ".github/workflows/ci.yaml").read_text()
WORKFLOW: Object = yaml.safe_load(TEXT)


def steps() -> Iterator[Object]:
    """Every step of every job."""
    for job in WORKFLOW["jobs"].values():
        yield from job["steps"]


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    used = re.findall(r"uses: (.*)", TEXT)
    assert len(used) == len([step for step in steps() if "uses" in step])
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each
    assert len(set(used)) == len({each.partition("@")[0] for each in used}), "one version of each"


def test_it_may_only_read_and_every_job_ends() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in WORKFLOW["jobs"].values())


def test_what_it_runs_is_there() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = " ".join(step["run"] for step in steps() if "run" in step)
    called = set(re.findall(r"\bmake ([a-z0-9-]+)", commands))
    assert {"check", "test"} <= called <= targets
    for path in re.findall(r"\b(?:e2e|requirements)/[\w./-]+", commands):
        assert (ROOT / path).exists(), path
