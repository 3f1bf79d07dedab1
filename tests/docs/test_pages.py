"""The pages hold together: links lead somewhere, and objects in them are ones that Slicewise reads."""

import re
from typing import Any, Final

import pytest
import yaml
from pydantic import BaseModel

from admission.workloads.builtin_kinds import TABLE
from slicewise.api.policy import (
    API_VERSION,
    PLAN_KIND,
    POLICY_KIND,
    PlanSpec,
    PolicySpec,
    built_in,
    read_plan,
    read_policy,
)
from slicewise.kube.snapshot import collect, read_text
from tests.docs.pages import ROOT, Page, pages

READERS: Final[dict[str, Any]] = {POLICY_KIND: read_policy, PLAN_KIND: read_plan}
# Files of this name show what is wrong with them.
BAD: Final = "bad"
every_page = pytest.mark.parametrize("page", pages(), ids=lambda each: each.name)


@every_page
def test_every_relative_link_leads_to_a_file(page: Page) -> None:
    missing = [target for target in page.links() if not (page.path.parent / target).exists()]
    assert missing == []


@every_page
def test_every_object_of_ours_is_one_that_the_models_read(page: Page) -> None:
    for block in page.blocks("yaml", "json"):
        if block.file.startswith(BAD):
            continue
        for document in yaml.safe_load_all(block.text):
            items = document.get("items", [document]) if isinstance(document, dict) else []
            for item in items:
                if isinstance(item, dict) and item.get("apiVersion") == API_VERSION:
                    READERS[item["kind"]](item)


@every_page
def test_every_file_of_a_page_is_a_snapshot_a_manifest_or_a_policy_test(page: Page) -> None:
    for name, text in page.files().items():
        documents = read_text(name, text)
        if not name.startswith(BAD) and all("kind" in document.value for document in documents):
            collect(documents)


def test_the_built_in_policy_is_quoted_as_it_is() -> None:
    page = next(page for page in pages() if page.path.name == "policy.md")
    quoted = read_policy(yaml.safe_load(next(page.blocks("yaml")).text))
    assert quoted == built_in()


@pytest.mark.parametrize(("name", "model"), [("policy.md", PolicySpec), ("plans.md", PlanSpec)])
def test_every_field_is_explained_on_its_page(name: str, model: type[BaseModel]) -> None:
    text = next(page.text for page in pages() if page.path.name == name)
    fields = {str(each.alias) for each in model.model_fields.values()}
    assert [field for field in sorted(fields) if not re.search(rf"`{field}[`.\[]", text)] == []


def test_every_kind_of_the_table_is_on_its_page() -> None:
    text = next(page.text for page in pages() if page.path.name == "kinds.md").partition(
        "\n## Tested under\n"
    )[0]
    named = set(re.findall(r"\w+", text))
    assert sorted({row.kind for row in TABLE} - named) == []


def test_an_upgrade_goes_the_way_of_the_installation_and_an_uninstall_too() -> None:
    """What is applied in an upgrade was applied to install, and what is deleted was applied."""
    install, upgrade = (
        next(page.text for page in pages() if page.path.name == name) for name in ("install.md", "upgrade.md")
    )
    applied = re.findall(r"`(kubectl apply [^`]+)`", upgrade)
    assert len(applied) == 3
    assert [command for command in applied if command not in install] == []
    sources = {words for command in applied for words in re.findall(r"-[kf] \S+", command)}
    deleted = re.findall(r"^\$ kubectl delete .*?(-[kf] \S+)$", upgrade, re.MULTILINE)
    assert set(deleted) == {"-k overlay/", "-k manifests/crds"} <= sources
    release, chart = "slicewise -n slicewise-system", "slicewise charts/slicewise -n slicewise-system"
    assert f"helm install {chart} " in install
    assert f"helm upgrade {chart} " in upgrade
    assert f"helm uninstall {release}\n" in upgrade


def test_every_page_is_led_to_from_another() -> None:
    linked = {(page.path.parent / target).resolve() for page in pages() for target in page.links()}
    starts = {"README.md", "index.md"}
    assert [page.name for page in pages() if page.path not in linked and page.path.name not in starts] == []


def test_no_page_speaks_of_a_machine_of_ours() -> None:
    for page in pages():
        assert str(ROOT) not in page.text


def test_every_path_that_contributors_are_led_to_is_there() -> None:
    text = (ROOT / "docs/contributing.md").read_text() + (ROOT / "docs/stability.md").read_text()
    paths = re.findall(r"`((?:admission|charts|e2e|queue_sync|slicewise|tests)/[\w./-]+)`", text)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
