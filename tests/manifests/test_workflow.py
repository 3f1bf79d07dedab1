"""The workflows for a public forge: they run what this tree has, with actions pinned and no more rights than needed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
FILES = sorted((ROOT / ".github/workflows").glob("*.yaml"))
TEXT = "".join(path.read_text() for path in FILES)
WORKFLOWS: dict[str, Object] = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}


def steps(*names: str) -> Iterator[Object]:
    """Every step of every job of these workflows; of all, when none is named."""
    for name in names or WORKFLOWS:
        for job in WORKFLOWS[name]["jobs"].values():
            yield from job["steps"]


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    used = re.findall(r"uses: (.*)", TEXT)
    assert len(used) == len([step for step in steps() if "uses" in step])
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each
    assert len(set(used)) == len({each.partition("@")[0] for each in used}), "one version of each"


def test_rights_are_given_job_by_job_and_every_job_ends() -> None:
    assert WORKFLOWS["ci"]["permissions"] == {"contents": "read"}
    assert WORKFLOWS["release"]["permissions"] == {}
    jobs = {(name, key): job for name, each in WORKFLOWS.items() for key, job in each["jobs"].items()}
    assert all("timeout-minutes" in job for job in jobs.values())
    writers = {key for key, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writers == {("release", "image"), ("release", "python"), ("release", "publish")}
    assert all(jobs[key]["environment"] == "release" for key in writers), "somebody has to say yes"


def test_a_release_is_made_of_a_tag_alone() -> None:
    text = (ROOT / ".github/workflows/release.yaml").read_text()
    assert text.partition("\non:\n")[2].partition("\n\n")[0] == '  push:\n    tags: ["v*"]'


def test_what_it_runs_is_there() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = " ".join(step["run"] for step in steps() if "run" in step)
    called = set(re.findall(r"\bmake ([a-z0-9-]+)", commands))
    assert {"check", "test", "release"} <= called <= targets
    for path in re.findall(r"\b(?:e2e|requirements)/[\w./-]+", commands):
        assert (ROOT / path).exists(), path
