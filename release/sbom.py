"""A software bill of materials in CycloneDX 1.6: `python -m release.sbom` prints it.

It names what `requirements/run.txt` pins, which is what the image installs, with the license that each installed
package declares. Nothing in it depends on the time or the machine. Only the standard library is used: the image's build
runs it too.
"""

import json
import re
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
Component = dict[str, Any]

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def sbom(pins: str, version: str) -> dict[str, Any]:
    """Returns the bill of materials of a version of Slicewise and of the pins of a requirements file."""
    own = _component("slicewise", version, "application", "Apache-2.0")
    parts = [_component(name, pin, "library", _license(name, pin)) for name, pin in _PIN.findall(pins)]
    references = [each["bom-ref"] for each in parts]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join([own['bom-ref'], *references]))}",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": references}],
    }


def _component(name: str, version: str, kind: str, license_: str | None) -> Component:
    reference = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
    found: Component = {
        "type": kind,
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
    }
    if license_:
        found["licenses"] = [{"expression": license_}]
    return found


def _license(name: str, version: str) -> str | None:
    """The SPDX expression of an installed package; None where it is another version, or declares none."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    return (
        found["License-Expression"] if found["Version"] == version and "License-Expression" in found else None
    )


def text(root: Path = ROOT) -> str:
    """Returns the bill of materials of a source tree as JSON."""
    source = (root / "slicewise/__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__(?:: \w+)? = "(.+)"', source, re.MULTILINE)
    pins = (root / "requirements/run.txt").read_text(encoding="utf-8")
    return json.dumps(sbom(pins, version), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
