"""The reference is complete: every key, field, reason, code, sentence and schema is on its page.

After a change `python -m tests.docs` writes anew what is generated; the rest is written by hand. Metrics are held to
their page in `tests/observability/test_metrics.py`.
"""

import contextlib
import io
import json
import re
from argparse import ArgumentParser
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pytest

from admission.decision.model import Deviation, Reason
from admission.mutation.outcome import Verdict
from slicewise.api import keys
from slicewise.api.policy import DeletionPolicy, PlanMode
from slicewise.cli.commands import COMMANDS, Command
from slicewise.cli.doctor import CODES
from slicewise.cli.main import main
from slicewise.gpu.strategies import MultiGPU, Need, Strategy
from tests.docs import generated, measured, sentences
from tests.docs.pages import ROOT, Page, page, pages
from tests.docs.schemas import faults

REFERENCE: Final = page("reference.md").text
SOURCES: Final = [*sorted((ROOT / "queue_sync").rglob("*.py")), ROOT / "admission/server/owner_events.py"]
# Words in UpperCamelCase that are no reasons: kinds, operators and states of Kubernetes and the engines.
NO_REASONS: Final = frozenset(
    {
        "ChangeSet",
        "ClusterQueue",
        "ConfigMap",
        "DeletionCandidateOfClusterAutoscaler",
        "DoesNotExist",
        "LimitRange",
        "LocalQueue",
        "PodScheduled",
        "MutatingWebhookConfiguration",
        "NoSchedule",
        "NotIn",
        "PodGroup",
        "ResourceClaim",
        "PodTemplate",
        "QuotaPlan",
        "QuotaReserved",
        "ReplicaSet",
        "ResourceFlavor",
        "ResourceFlavors",
        "ResourceQuota",
        "SlicingPolicy",
        "SubjectAccessReview",
        "ToBeDeletedByClusterAutoscaler",
        "TokenReview",
        "ValidatingWebhookConfiguration",
    }
)
REASONS: Final = re.compile(r'"((?:[A-Z][a-z]+){2,})"')
SINGLE: Final = frozenset({"Accepted", "Backed", "Believed", "Synced", "Refused", "Invalid", "Unparsable"})


def test_every_label_and_annotation_is_documented() -> None:
    ours = [
        value for value in vars(keys).values() if isinstance(value, str) and value.startswith(keys.PREFIX)
    ]
    assert [key for key in ours if key != keys.PREFIX and f"`{key}`" not in REFERENCE] == []


@pytest.mark.parametrize("page_", pages(), ids=lambda each: each.name)
def test_what_is_generated_is_as_the_sources_have_it(page_: Page) -> None:
    assert generated.current(page_.text) == page_.text, "run python -m tests.docs"


def test_everything_generated_stands_on_one_page() -> None:
    assert sorted(name for each in pages() for name in generated.named(each.text)) == sorted(
        generated.parts()
    )


def test_every_pattern_of_modules_whose_sentences_are_listed_names_one() -> None:
    patterns = [one for each in (*sentences.GROUPS.values(), sentences.UNLISTED) for one in each]
    assert [one for one in patterns if not any(ROOT.glob(one))] == []


def test_every_refusal_has_its_code_with_cause_fix_and_sentences() -> None:
    section = page("messages.md").text.partition("\n## Refusals\n")[2].partition("\n## ")[0]
    entries = dict(re.findall(r"^### `([\w-]+)`\n\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL))
    assert list(entries) == list(Reason)
    for code, text in entries.items():
        assert re.match(r"\*\*Cause\.\*\* \w.*\n\*\*Fix\.\*\* \w", text, re.DOTALL), code
        assert (f"<!-- generated: refusals {code} -->" in text) == (code in sentences.refusals()), code


def test_every_warning_has_its_code_with_cause_and_what_to_do() -> None:
    section = page("messages.md").text.partition("\n## Warnings\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \| \w[^|]+ \| \w[^|]+ \|$", section, re.MULTILINE) == list(Deviation)


def test_every_reason_is_documented_with_what_to_do() -> None:
    found = {word for path in SOURCES for word in REASONS.findall(path.read_text(encoding="utf-8"))}
    said = {word for word in (found | SINGLE) - NO_REASONS if f"`{word}`" not in REFERENCE}
    assert sorted(said) == []
    table = REFERENCE.partition("\n## Reasons of events and conditions\n")[2].partition("\n\nThe action")[0]
    rows = table.strip().splitlines()[2:]
    assert len(rows) > 40
    row = re.compile(r"\| `\w+` \| [^|]+ \| [\w`][^|]+ \| [\w\[][^|]+ \|")
    assert [line for line in rows if not row.fullmatch(line)] == []


def test_every_reason_of_a_review_is_documented() -> None:
    text = page("monitoring.md").text
    assert [reason for reason in (*Reason, *Deviation) if f"`{reason}`" not in text] == []


def test_every_finding_of_doctor_is_documented_with_its_severity() -> None:
    text = page("doctor.md").text
    rows = dict(re.findall(r"^\| `(\w+)` \| (error|warning|note) \|", text, re.MULTILINE))
    assert rows == {code: str(severity) for code, severity in CODES.items()}


@pytest.mark.parametrize(
    "words", [Strategy, MultiGPU, Need, PlanMode, DeletionPolicy, Verdict], ids=lambda each: each.__name__
)
def test_every_word_that_stands_for_a_choice_is_in_the_glossary(words: type[StrEnum]) -> None:
    text = page("glossary.md").text
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_command_is_documented() -> None:
    assert [each.name for each in COMMANDS if f"`slicewise {each.name}" not in REFERENCE] == []


FLAGS: Final = frozenset(flag for each in pages() for flag in re.findall(r"(?<![\w-])--?\w[\w-]*", each.text))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_every_flag_is_on_a_page(command: Command) -> None:
    """By its short form or its long one."""
    declared = ArgumentParser(add_help=False)
    command.load()[0](declared)
    names = [action.option_strings for action in declared._actions if action.option_strings]
    assert [each for each in names if FLAGS.isdisjoint(each)] == []


# --- What the command prints for programs ------------------------------------------------------------------

SCHEMAS: Final[dict[str, Any]] = {
    schema["$id"]: schema
    for block in page("reference.md").blocks("json")
    if "$id" in (schema := json.loads(block.text))
}
CLUSTER: Final = ("--snapshot", "cluster.yaml")
PRINTED: Final = {
    "pools": ("pools", *CLUSTER, "-o", "json"),
    "plan": ("plan", *CLUSTER, "-o", "json"),
    "drift": ("drift", *CLUSTER, "--snapshot", "slipped.yaml", "-o", "json"),
    "diff": ("diff", *CLUSTER, "-o", "json"),
    "why": ("why", "team-a", *CLUSTER, "-o", "json"),
    "why-workload": ("why", "pod/p", "-n", "team-a", "--snapshot", "slipped.yaml", "-o", "json"),
    "uninstall": ("uninstall", "--check", *CLUSTER, "-o", "json"),
    "explain": ("explain", "-f", "jobs.yaml", *CLUSTER, "-o", "json"),
    "doctor": ("doctor", *CLUSTER, "--snapshot", "slipped.yaml", "-o", "json"),
    "report": ("report", *CLUSTER, "--usage", "usage.json", "-o", "json"),
    "advise": ("advise", *CLUSTER, "--usage", "usage.json", "-o", "json"),
    "patch": ("mutate", "-f", "jobs.yaml", *CLUSTER, "-o", "patch"),
    "decision": ("mutate", "-f", "jobs.yaml", *CLUSTER, "-o", "decision"),
}
SLIPPED: Final = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "team-a"},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/mig-9g.99gb": "1"}}}]},
}


@pytest.mark.parametrize("name", PRINTED)
def test_what_the_command_prints_fits_its_documented_schema(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, text in page("example.md").files().items():
        Path(file).write_text(text, encoding="utf-8")
    Path("slipped.yaml").write_text(json.dumps(SLIPPED), encoding="utf-8")
    measured.write("usage.json")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        assert main(PRINTED[name]) < 2
    lines = out.getvalue().splitlines() if name in {"patch", "decision"} else [out.getvalue()]
    values = [json.loads(line) for line in lines]
    assert any(values)
    assert [fault for value in values for fault in faults(value, SCHEMAS[name])] == []


def test_there_is_a_schema_for_each_of_them_and_no_other() -> None:
    assert set(SCHEMAS) == set(PRINTED)
    printing = set()
    for command in COMMANDS:
        declared = ArgumentParser(add_help=False)
        command.load()[0](declared)
        if any(action.dest == "output" and action.choices for action in declared._actions):
            printing.add(command.name)
    # What these print are objects of Kubernetes.
    assert printing - {words[0] for words in PRINTED.values()} == {"overlays", "deviceclasses"}
