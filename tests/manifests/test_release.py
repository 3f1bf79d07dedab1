"""The files of a release: the same bytes from the same commit, and each of them what it is said to be."""

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from release import sbom
from release.artifacts import ReleaseError, make
from slicewise import __version__
from tests.manifests.tools import tool

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.release
IMAGE, SOURCE = "registry.example.com/team/slicewise", "https://git.example.com/team/slicewise"


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> list[Path]:
    """Two releases of one commit, made of two clones in two places."""
    file = tmp_path_factory.mktemp("key") / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found = []
    for name in ("first", "another-place"):
        folder = tmp_path_factory.mktemp(name)
        clone = ["git", "clone", "--quiet", "--shared", str(ROOT), str(folder / "tree")]
        subprocess.run(clone, check=True, capture_output=True)
        make(folder / "tree", folder / "dist", IMAGE, SOURCE, str(file))
        found.append(folder / "dist")
    return found


def test_the_same_commit_gives_the_same_bytes(releases: list[Path]) -> None:
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in releases)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    suffixes = {name.partition(__version__)[2] or name for name in first}
    assert suffixes == {
        *("-py3-none-any.whl", ".tar.gz", ".tgz", "install.yaml", "crds.yaml", "slicewise.cdx.json"),
        *("slicewise.krew.yaml", "provenance.intoto.json", "SHA256SUMS", "SHA256SUMS.sig"),
    }


def test_the_sums_hold_and_are_signed(releases: list[Path], key: Ed25519PrivateKey) -> None:
    folder = releases[0]
    sums = (folder / "SHA256SUMS").read_bytes()
    key.public_key().verify((folder / "SHA256SUMS.sig").read_bytes(), sums)
    named = {line.partition("  ")[2]: line.partition("  ")[0] for line in sums.decode().splitlines()}
    assert named.keys() == {path.name for path in folder.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    statement = json.loads((folder / "provenance.intoto.json").read_text())
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert subjects == {name: named[name] for name in named.keys() - {"provenance.intoto.json"}}


def test_what_is_installed_names_the_image_and_takes_no_definition_with_it(releases: list[Path]) -> None:
    objects = list(yaml.safe_load_all((releases[0] / "install.yaml").read_text()))
    pods = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    assert {each["containers"][0]["image"] for each in pods} == {f"{IMAGE}:{__version__}"}
    kinds = {one["kind"] for one in objects}
    assert "CustomResourceDefinition" not in kinds
    assert {"Namespace", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy"} <= kinds
    definitions = list(yaml.safe_load_all((releases[0] / "crds.yaml").read_text()))
    assert {one["kind"] for one in definitions} == {"CustomResourceDefinition"}


def test_the_chart_says_where_it_comes_from_and_what_changed(releases: list[Path], tmp_path: Path) -> None:
    package = releases[0] / f"slicewise-chart-{__version__}.tgz"
    linted = subprocess.run(
        [tool("helm"), "lint", "--strict", str(package)], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout
    assert "[INFO]" not in linted.stdout
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    about = yaml.safe_load((tmp_path / "slicewise/Chart.yaml").read_text())
    assert about["sources"] == [SOURCE]
    assert (ROOT / about["icon"].partition(f"/raw/v{__version__}/")[2]).exists()
    annotations = about["annotations"]
    assert yaml.safe_load(annotations["artifacthub.io/images"]) == [
        {"name": "slicewise", "image": f"{IMAGE}:{__version__}"}
    ]
    assert all(each["description"] for each in yaml.safe_load(annotations["artifacthub.io/changes"]))


def test_the_plugin_is_what_its_manifest_names(releases: list[Path]) -> None:
    manifest = yaml.safe_load((releases[0] / "slicewise.krew.yaml").read_text())
    for platform in manifest["spec"]["platforms"]:
        archive = releases[0] / Path(platform["uri"]).name
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == platform["sha256"]
        with tarfile.open(archive) as inner:
            member = inner.getmember(f"kubectl-slicewise/{platform['bin']}")
        assert member.mode & 0o111


def test_the_bill_of_materials_names_what_is_pinned_and_who_depends_on_it() -> None:
    found = sbom.sbom(
        "aiohttp==3.14.5 \\\n    --hash=sha256:00\nPyYAML==6.0.3 ; a\n    # via slicewise\n", "1.2.3"
    )
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    purls = [each["purl"] for each in found["components"]]
    assert purls == ["pkg:pypi/aiohttp@3.14.5", "pkg:pypi/pyyaml@6.0.3"]
    assert found["dependencies"] == [{"ref": "pkg:pypi/slicewise@1.2.3", "dependsOn": purls}]


def test_a_key_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nothing")
    with pytest.raises(ReleaseError, match="name a PEM file of an Ed25519 key"):
        make(ROOT, tmp_path / "dist", key=str(tmp_path / "key.pem"))
