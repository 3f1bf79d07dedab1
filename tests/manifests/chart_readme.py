"""The README of the chart: a table of its values, made of the comments in values.yaml as helm-docs would make it.

`python -m tests.manifests.chart_readme` writes it; a test says when it is no longer current. A comment that begins with
`# --` describes the key below it, and everything under that key.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

CHART: Final = Path(__file__).parents[2] / "charts/slicewise"
README: Final = CHART / "README.md"
_TEXT: Final = """\
<!-- Generated from values.yaml by `python -m tests.manifests.chart_readme`; edit that instead. -->
# {name}

{description}

```console
$ helm install slicewise charts/slicewise --namespace slicewise-system --create-namespace
$ helm test slicewise --namespace slicewise-system
$ helm upgrade slicewise charts/slicewise --namespace slicewise-system --reset-then-reuse-values
$ helm uninstall slicewise --namespace slicewise-system
```

Chart {version} installs Slicewise {appVersion} on Kubernetes {kubeVersion}.

- The definitions are upgraded with the chart. They stay when the release goes, and every policy and plan with them;
  `kubectl delete crd slicingpolicies.slicewise.io quotaplans.slicewise.io` removes both for good.
- Queues and their quotas are left as they were last written.
- Before the release goes, a Job takes the webhook configurations away (`cleanup.enabled`), so that nobody waits for a
  webhook that is gone. Where its pod cannot run, add `--no-hooks` and delete both configurations called
  `admission.slicewise.io` yourself.

| value | default | what it does |
| --- | --- | --- |
{rows}
"""
_KEY: Final = re.compile(r"( *)([A-Za-z]+):")


class Value(NamedTuple):
    """One row of the table."""

    path: str
    default: Any
    text: str


def values(text: str) -> Iterator[Value]:
    """Returns the values that have a description, in order."""
    tree = yaml.safe_load(text)
    path: list[str] = []
    said = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            said = stripped.removeprefix("# --").strip()
        elif stripped.startswith("#") and said:
            said += " " + stripped.removeprefix("#").strip()
        elif found := _KEY.match(line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if said:
                yield Value(".".join(path), _at(tree, path), said)
            said = ""


def _at(tree: Any, path: list[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def rendered(chart: Path = CHART) -> str:
    """Returns the text of the README."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    rows = [
        f"| `{each.path}` | `{json.dumps(each.default)}` | {each.text.replace('|', chr(92) + '|')} |"
        for each in values((chart / "values.yaml").read_text())
    ]
    return _TEXT.format(**about, rows="\n".join(rows))


if __name__ == "__main__":
    README.write_text(rendered())
