"""The chart, rendered for people who install without Helm: `python -m release.manifests` writes `manifests/`.

The chart is the one source of what is installed. Its templates become the files of the kustomize base under the same
names, less the labels that only Helm gives. A release's `install.yaml` and `crds.yaml` are these files in one piece
(`release.artifacts`).
"""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from admission.webhook_configuration import dump
from slicewise.api import keys
from tests.manifests.tools import tool

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "charts/slicewise"
BASE: Final = ROOT / "manifests"

_HEADER: Final = "# Generated from charts/slicewise by `make generate`; edit that instead.\n"
_SOURCE: Final = re.compile(r"^---\n# Source: slicewise/(templates/[\w/.-]+)\n", re.MULTILINE)
_OF_HELM: Final = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
_OPERATOR: Final = "gpu-operator"
_ADMISSION: Final = "admissionregistration.k8s.io/v1"
# The order in which people read a webhook, a rule or a policy; Helm sorts by the alphabet.
_ORDER: Final = (
    *(
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "webhooks",
        "key",
        "operations",
        "apiGroups",
    ),
    *(
        "admissionReviewVersions",
        "clientConfig",
        "rules",
        "apiVersions",
        "resources",
        "scope",
        "failurePolicy",
    ),
    *("path", "port", "operator", "values", "expression", "messageExpression", "reason"),
)


class RenderError(Exception):
    """Helm does not render the chart; the message is what it says."""


def rendered(chart: Path = CHART, values: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Returns the files of the kustomize base by their paths beneath `manifests/`, kustomizations left out.

    Raises:
        RenderError: Helm does not render the chart with these values.
    """
    given = {"namespace.create": True, "nodes.gpuOperatorNamespace": _OPERATOR, **(values or {})}
    command = [
        tool("helm"),
        "template",
        "slicewise",
        str(chart),
        "--namespace",
        keys.OWN_NAMESPACE,
        "--no-hooks",
    ]
    command += ["--api-versions", f"{_ADMISSION}/ValidatingAdmissionPolicy"]
    command += [word for key, value in given.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RenderError(done.stderr.strip())
    files: dict[str, list[str]] = {}
    pieces = _SOURCE.split(done.stdout)
    for template, text in zip(pieces[1::2], pieces[2::2], strict=True):
        path, document = _placed(Path(template).name, _OF_HELM.sub("", text).strip("\n"))
        files.setdefault(path, []).append(document)
    return {path: _headed(path, "---\n".join(documents)) for path, documents in files.items()}


def _placed(name: str, text: str) -> tuple[str, str]:
    """Where a document of a template goes, and how it stands there."""
    document = yaml.safe_load(text)
    metadata = document["metadata"]
    if document["kind"] == "CustomResourceDefinition":
        return f"crds/{metadata['name'].partition('.')[0]}.yaml", text + "\n"
    if document["apiVersion"] == _ADMISSION:
        folder = "backstop/" if name == "backstop.yaml" else ""
        return folder + name, dump(_ordered(document))
    if document["kind"] == "Deployment":
        text = text.replace(f"--gpu-operator-namespace={_OPERATOR}", "--gpu-operator-namespace=")
    return "gpu-operator/rbac.yaml" if metadata.get("namespace") == _OPERATOR else name, text + "\n"


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return [_ordered(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = {key: value[key] for key in _ORDER if key in value}
    return {key: _ordered(each) for key, each in {**known, **value}.items()}


def _headed(path: str, text: str) -> str:
    """A file that begins with what it is generated from, and with what its source says of it."""
    source = CHART / "files" / Path(path).name
    said = source.read_text().partition("apiVersion:")[0] if source.exists() else ""
    ours = [line for line in said.splitlines(keepends=True) if not line.startswith("# Generated")]
    return text if path.startswith("crds/") else _HEADER + "".join(ours) + text


def installed(files: Mapping[str, str]) -> str:
    """Returns everything but the definitions in one stream, in the order of the base; the backstop is the last."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return "---\n".join(files[name] for name in (*names, "backstop/backstop.yaml"))


def definitions(files: Mapping[str, str]) -> str:
    """Returns the definitions in one stream."""
    return "---\n".join(text for path, text in files.items() if path.startswith("crds/"))


def main() -> None:
    """Writes the files of the base."""
    for path, text in rendered().items():
        (BASE / path).write_text(text)


if __name__ == "__main__":
    main()
