"""The image, built and run without Docker: `python -m release.image` (`make image-test`).

Buildah builds the Dockerfile, on a base that mmdebstrap makes of Debian's packages, so that no registry of images is
needed. Both are Debian packages and need root; root gets them by name. Where they cannot be had, it says so
and does nothing: the workflow builds the image with Docker.

The image is run as the cluster would: as nobody in particular, on a root that cannot be written to.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from slicewise import __version__

ROOT: Final = Path(__file__).parents[1]
USER: Final = 65532
_TAG: Final = "localhost/slicewise:test"
_PACKAGES: Final = ("buildah", "mmdebstrap")
_SUITE: Final = "trixie"  # its Python is the one of the Dockerfile
_INCLUDED: Final = "python3,python3-venv,python3-dev,python-is-python3,gcc,libc6-dev,ca-certificates"
_CERTIFICATES: Final = Path("/etc/ssl/certs")


class ImageError(Exception):
    """The image cannot be built; the message is the end of what the program said."""


def why_not() -> str:
    """Returns why the image cannot be built here, after having tried to install what it takes; "" when it can."""
    if os.geteuid() != 0:
        return "it needs root; run it as root, or build the image with Docker"
    if all(map(shutil.which, _PACKAGES)):
        return ""
    if shutil.which("apt-get") is None:
        return f"{' and '.join(_PACKAGES)} are not there; build the image with Docker"
    subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *_PACKAGES]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return f"the packages cannot be installed: {done.stdout.strip()[-300:]}" if done.returncode else ""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise ImageError(f"{command[0]}: {(done.stdout + done.stderr).strip()[-4000:]}")
    return done.stdout.strip()


def _cache() -> Path:
    own = os.environ.get("SLICEWISE_CACHE")
    return (
        Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slicewise"
    )


def base() -> Path:
    """Returns an archive of a Debian root with Python; made once."""
    archive = _cache() / f"base-{_SUITE}-gcc.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(".partial.tar")
        _run("mmdebstrap", "--quiet", "--variant=essential", f"--include={_INCLUDED}", _SUITE, str(made))
        made.replace(archive)
    return archive


class Image:
    """A built image in a storage of its own, and its files."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        _run(*self._buildah("import-base"), "--name", "base", "scratch")
        _run(*self._buildah("add"), "--quiet", "base", str(base()))
        _run(*self._buildah("commit"), "--quiet", "base", "localhost/base")
        _run(
            *self._buildah("bud"),
            *("--isolation", "chroot", "--network", "host", "--tag", _TAG),
            *("--build-arg", "PYTHON=localhost/base", "--build-arg", f"VERSION={__version__}"),
            *self._pip_settings(),
            str(ROOT),
        )
        _run(*self._buildah("from"), "--name", "run", _TAG)
        self.files = Path(_run(*self._buildah("mount"), "run"))

    def _buildah(self, command: str) -> list[str]:
        command = "from" if command == "import-base" else command
        places = ["--root", str(self._storage / "root"), "--runroot", str(self._storage / "run")]
        return ["buildah", *places, "--storage-driver", "vfs", command]

    def _pip_settings(self) -> Iterator[str]:
        """How pip is set up on this machine holds within the build too."""
        said = _run(sys.executable, "-m", "pip", "config", "list")
        settings = {}
        for line in said.splitlines():
            name, _, value = line.partition("=")
            settings[name.rpartition(".")[2]] = value.strip("'")
        settings.pop("find-links", None)
        file = self._storage / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        yield from ("--volume", f"{file}:/etc/pip.conf:ro")
        if _CERTIFICATES.is_dir():
            yield from ("--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro")

    def inspect(self, template: str) -> str:
        """Returns what a Go template finds in the image's configuration."""
        return _run(*self._buildah("inspect"), "--type", "image", "--format", template, _TAG)

    def command(
        self,
        *words: str,
        mounted: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Returns how to run a command of the image as a cluster does: as nobody, on a root that is read-only.

        `mounted` has folders of this machine by the path at which the command finds them. The command needs no shell:
        what sets the stage is outside. The process becomes the command, so a signal to it reaches the command.
        """
        steps = [f"mount --bind {self.files} {self.files}", f"mount --rbind /dev {self.files}/dev"]
        for path, folder in (mounted or {}).items():
            steps += [f"mkdir -p {self.files}{path}", f"mount --bind {folder} {self.files}{path}"]
        steps += [
            f"mount -t proc proc {self.files}/proc",
            f"mount -o remount,ro,bind {self.files}",
            f'exec chroot --userspec={USER}:{USER} {self.files} "$@"',
        ]
        variables = self.inspect("{{range .OCIv1.Config.Env}}{{.}}\n{{end}}").split()
        variables += [f"{name}={value}" for name, value in (environment or {}).items()]
        stage = ["unshare", "--mount", "sh", "-ec", "\n".join(steps), "sh"]
        return [*stage, "/usr/bin/env", "-i", *variables, *words]

    def remove(self) -> None:
        """Lets go of the files and of everything that was built."""
        for command in (("umount", "run"), ("rm", "--all"), ("rmi", "--all", "--force")):
            subprocess.run([*self._buildah(command[0]), *command[1:]], check=False, capture_output=True)


@contextmanager
def built() -> Iterator[Image]:
    """Builds the image; it is gone afterwards.

    Raises:
        ImageError: something of it does not work.
    """
    with tempfile.TemporaryDirectory(prefix="slicewise-image-") as folder:
        image = Image(Path(folder))
        try:
            yield image
        finally:
            image.remove()


def main() -> int:
    """Builds and tests the image where that can be done."""
    if reason := why_not():
        print(f"image-test: not run here: {reason}")
        return 0
    return int(pytest.main(["-q", str(Path(__file__).with_name("test_image.py"))]))


if __name__ == "__main__":
    sys.exit(main())
