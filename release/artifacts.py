"""The files of a release: `python -m release.artifacts` (`make release`) writes them into `dist/`.

Wheel, source archive, chart package, `install.yaml` and `crds.yaml`, SBOM, the plugin for krew, provenance and
`SHA256SUMS`, which is signed where a key is given. The same commit gives the same bytes: every time stamp is that of
the commit (`SOURCE_DATE_EPOCH`), and nothing tells of the machine.

    python -m release.artifacts --image ghcr.io/OWNER/slicewise --source https://github.com/OWNER/slicewise

`--image` is the repository that the chart and `install.yaml` name, `--source` where the release comes from. Left out,
the chart stays as it is in the tree. The signing key is a PEM file named by $SLICEWISE_SIGNING_KEY (Ed25519); the
signature is `SHA256SUMS.sig`, raw, as `openssl pkeyutl -verify -rawin` takes it.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from release import manifests, sbom
from slicewise import __version__

ROOT: Final = Path(__file__).parents[1]
KEY: Final = "SLICEWISE_SIGNING_KEY"
_SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE", "slicewise", "admission", "queue_sync")


class ReleaseError(Exception):
    """The release cannot be made; the message is one sentence."""


def make(tree: Path, target: Path, image: str = "", source: str = "", key: str = "") -> None:
    """Writes the files of a release of a source tree into a folder that is empty or not there yet.

    Raises:
        ReleaseError: the version is not in CHANGELOG.md, or the key is none.
    """
    signer = _signer(key) if key else None
    epoch = _epoch(tree)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        _python(tree, scratch / "python", target, epoch)
        chart = _chart(tree, scratch, image, source)
        _pack(chart, target / f"slicewise-chart-{__version__}.tgz", epoch)
        files = manifests.rendered(chart)
    (target / "install.yaml").write_text(manifests.installed(files))
    (target / "crds.yaml").write_text(manifests.definitions(files))
    (target / "slicewise.cdx.json").write_text(sbom.text(tree))
    _krew(tree, target, source, epoch)
    made = _sums(target)
    (target / "provenance.intoto.json").write_text(
        json.dumps(_provenance(tree, source, made), indent=2) + "\n"
    )
    sums = "".join(f"{digest}  {name}\n" for name, digest in _sums(target).items())
    (target / "SHA256SUMS").write_text(sums)
    if signer is not None:
        (target / "SHA256SUMS.sig").write_bytes(signer.sign(sums.encode()))


def _git(tree: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=tree, capture_output=True, text=True, check=True
    ).stdout.strip()


def _epoch(tree: Path) -> int:
    """Seconds since 1970 of the commit; $SOURCE_DATE_EPOCH wins."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _git(tree, "log", "-1", "--format=%ct"))


def _signer(path: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ReleaseError(f"${KEY}: {path} is no key: {error}; name a PEM file of an Ed25519 key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(
            f"${KEY}: {path} is no Ed25519 key; make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def _python(tree: Path, scratch: Path, target: Path, epoch: int) -> None:
    """The wheel and the source archive."""
    scratch.mkdir()
    for name in _SOURCES:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, scratch / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(tree / name, scratch / name)
    for path in (scratch, *scratch.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    for what in ("wheel", "sdist"):
        build = f"from setuptools import build_meta; import sys; build_meta.build_{what}(sys.argv[1])"
        command = [sys.executable, "-c", build, str(target.resolve())]
        subprocess.run(command, cwd=scratch, env=environment, check=True, capture_output=True)
    (archive,) = target.glob("*.tar.gz")
    unpacked = scratch / "sdist"
    with tarfile.open(archive) as inner:
        inner.extractall(unpacked, filter="data")
    _pack(unpacked / archive.name.removesuffix(".tar.gz"), archive, epoch)


def _chart(tree: Path, scratch: Path, image: str, source: str) -> Path:
    """A copy of the chart that says what this release is and where it comes from."""
    chart = scratch / "slicewise"
    shutil.copytree(tree / "charts/slicewise", chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    changes = [{"kind": "changed", "description": each} for each in _changes(tree)]
    about["annotations"]["artifacthub.io/changes"] = yaml.safe_dump(changes, sort_keys=False, width=10_000)
    if source:
        about |= {"home": source, "sources": [source], "icon": f"{source}/raw/v{__version__}/docs/icon.svg"}
    if image:
        about["annotations"]["artifacthub.io/images"] = yaml.safe_dump(
            [{"name": "slicewise", "image": f"{image}:{__version__}"}]
        )
        values = chart / "values.yaml"
        text = values.read_text()
        named = text.replace("\n  repository: slicewise\n", f"\n  repository: {image}\n")
        if named == text:
            raise ReleaseError(
                "values.yaml does not name the image where a release puts its own; mend release/artifacts.py"
            )
        values.write_text(named)
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about, sort_keys=False, width=10_000))
    return chart


def _changes(tree: Path) -> list[str]:
    """What CHANGELOG.md says of this version, entry by entry."""
    text = (tree / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(__version__)}\b.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ReleaseError(f"CHANGELOG.md: there is no section {__version__}; say what changed")
    return [" ".join(entry.split()) for entry in re.split(r"^- ", found[1], flags=re.MULTILINE)[1:]]


def _pack(folder: Path, archive: Path, epoch: int) -> None:
    """Packs a folder so that the same content gives the same bytes."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = epoch
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as packed:
        packed.add(folder, folder.name, filter=plain)
    archive.write_bytes(gzip.compress(buffer.getvalue(), mtime=epoch))


_PLUGIN: Final = """\
#!/usr/bin/env python3
import sys

try:
    from slicewise.cli.main import main
except ImportError:
    sys.exit(f"kubectl slicewise: run `{sys.executable} -m pip install slicewise==VERSION` first")
sys.exit(main())
"""


def _krew(tree: Path, target: Path, source: str, epoch: int) -> None:
    """The plugin for `kubectl krew` and its manifest: the archive finds the command that pip installed."""
    archive = target / f"kubectl-slicewise-{__version__}.tar.gz"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "kubectl-slicewise"
        folder.mkdir()
        plugin = folder / "kubectl-slicewise"
        plugin.write_text(_PLUGIN.replace("VERSION", __version__))
        plugin.chmod(0o755)
        shutil.copy(tree / "LICENSE", folder)
        _pack(folder, archive, epoch)
    home = source or "https://slicewise.io"
    document: dict[str, Any] = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "slicewise"},
        "spec": {
            "version": f"v{__version__}",
            "homepage": home,
            "shortDescription": "Show which slice of a GPU work gets, and why",
            "description": "Explains what the webhook would do to a manifest, lists pools and checks quotas.",
            "caveats": f"Needs Python 3.11 with the package: python3 -m pip install slicewise=={__version__}",
            "platforms": [
                {
                    "selector": {"matchLabels": {"os": system}},
                    "uri": f"{home}/releases/download/v{__version__}/{archive.name}",
                    "sha256": _sha256(archive),
                    "files": [{"from": "kubectl-slicewise/*", "to": "."}],
                    "bin": "kubectl-slicewise",
                }
                for system in ("linux", "darwin")
            ],
        },
    }
    (target / "slicewise.krew.yaml").write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))


def _provenance(tree: Path, source: str, made: Mapping[str, str]) -> dict[str, Any]:
    """An in-toto statement with SLSA's provenance: which files, made of which commit, by what."""
    commit = _git(tree, "rev-parse", "HEAD")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in made.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://slicewise.io/release/v1",
                "externalParameters": {"source": source, "version": __version__},
                "resolvedDependencies": [
                    {"uri": f"git+{source}" if source else "git", "digest": {"gitCommit": commit}}
                ],
            },
            "runDetails": {"builder": {"id": f"{source or 'https://slicewise.io'}/release/artifacts.py"}},
        },
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sums(folder: Path) -> dict[str, str]:
    return {path.name: _sha256(path) for path in sorted(folder.iterdir())}


def main() -> int:
    """Writes the files of a release into dist/."""
    parser = argparse.ArgumentParser(description="Writes the files of a release into dist/.")
    parser.add_argument("--image", default="", help="repository of the image that the chart names")
    parser.add_argument("--source", default="", help="address of the repository that is released")
    options = parser.parse_args()
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    try:
        make(ROOT, target, options.image, options.source, os.environ.get(KEY, ""))
    except (ReleaseError, manifests.RenderError) as error:
        print(error, file=sys.stderr)
        return 2
    print((target / "SHA256SUMS").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
