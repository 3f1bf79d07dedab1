"""A real control plane on loopback, started as whoever runs the tests.

Purpose: end-to-end tests run against the real kube-apiserver, scheduler, controller manager and Kueue, without root,
without a container engine and in seconds. ``python -m e2e.harness.cluster`` starts one by hand.

Invariants: every server listens on loopback, on ports that were free; nothing is left running however the test run
ends (see ``supervise.py``); readiness is polled, never slept for; a component that fails is named together with the
end of its log.

:class:`AnyCluster` is what tests may rely on everywhere; :class:`Cluster` is the control plane of this folder, and
``external.py`` has the others.
"""

from __future__ import annotations

import abc
import argparse
import contextlib
import fcntl
import functools
import hashlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Self

import urllib3

from e2e.harness import binaries, definitions, kueue, kwok, volcano
from e2e.harness.binaries import KUEUE, VOLCANO, Programs, ensure
from e2e.harness.certificates import (
    Authority,
    key_pem,
    private_key,
    public_pem,
    write_kubeconfig,
    write_private,
)
from e2e.harness.client import KubeClient
from e2e.harness.errors import ClusterError
from e2e.harness.kueue import SecretMirror
from e2e.harness.processes import TAIL, Program, free_port, own_address, shorten

ADMIN = ("e2e-admin", ("system:masters",))
SERVICE_CIDR = "10.96.0.0/16"
# A fifth of the API server's work would be collecting garbage: memory up to here is at hand, cores are not.
GO = {"GOGC": "400", "GOMEMLIMIT": "2GiB"}
AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Request, userGroups: ["system:serviceaccounts:slicewise-system"], verbs: [create, update, patch]}
- {level: Metadata}
"""


class AnyCluster(KubeClient, abc.ABC):
    """What a test may ask of a cluster, wherever it runs. It is also a client of it, as an administrator."""

    kubeconfig: Path
    """The administrator's kubeconfig file."""
    listen_host: str = "127.0.0.1"
    """Where a server that a test starts must listen for the API server to reach it."""
    owned: bool = False
    """Whether the components are programs of this test run, which can be killed and started again."""

    @abc.abstractmethod
    def kubeconfig_for(self, user: str, groups: Iterable[str] = ()) -> Path:
        """A kubeconfig file for another identity; RBAC decides what it may do.

        A service account is ``system:serviceaccount:NAMESPACE:NAME``; it has its customary groups without saying.
        """

    @abc.abstractmethod
    def kueue_metrics(self) -> str:
        """Kueue's metrics, in Prometheus text format."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stops what this test run started, and nothing else."""

    def client_for(self, user: str, groups: Iterable[str] = ()) -> KubeClient:
        """A client that speaks as another identity."""
        return KubeClient(self.kubeconfig_for(user, groups))

    def expose(self, namespace: str, service: str, port: int) -> int:
        """Puts a server that listens on ``listen_host:port`` behind a Service, for webhooks to name.

        Makes the namespace and the Service, in place of one of another type. Returns what belongs into
        ``clientConfig.service.port``. The server's certificate must be for ``SERVICE.NAMESPACE.svc``.
        """
        host = "localhost" if self.listen_host == "127.0.0.1" else self.listen_host
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        existing = self.find("v1", "Service", service, namespace)
        if existing is not None and existing["spec"]["type"] != "ExternalName":
            self.delete("v1", "Service", service, namespace)
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service, "namespace": namespace},
                "spec": {"type": "ExternalName", "externalName": host},
            }
        )
        return port

    @property
    def components(self) -> list[str]:
        """Names of the programs that this test run started."""
        return []

    def logs(self, name: str) -> str:
        """All that a component has written."""
        raise ClusterError(f"{name} is not a program of this test run: it has no log here.")

    def kill(self, name: str) -> None:
        """Kills a component as ``kill -9`` does."""
        raise ClusterError(f"{name} is not a program of this test run: it cannot be killed.")

    def start(self, name: str) -> None:
        """Starts a killed component again and waits until it is ready."""
        raise ClusterError(f"{name} is not a program of this test run: it cannot be started.")

    def log_tails(self, lines: int = TAIL) -> dict[str, str]:
        """The last lines of every component, for the report of a failed test."""
        return {name: shorten(self.logs(name), lines) for name in self.components}


class Cluster(AnyCluster):
    """The control plane as programs of this test run. Use it as a context manager, or call ``up`` and ``stop``."""

    owned = True

    def __init__(
        self,
        *,
        scheduler: bool = True,
        controller_manager: bool = True,
        kwok: bool = True,
        kueue: bool = False,
        volcano: bool = False,
        audit: bool = False,
        node_grace: str = "",
        etcd: Path | None = None,
        anew: bool = False,
    ) -> None:
        """Chooses the components; etcd and the API server always run. Programs not built yet are built here.

        With ``audit``, the API server writes who did what into :attr:`audit_log`. ``node_grace``: how long a node may
        say nothing before it is called unreachable, where that is to be longer than usual. ``etcd``: what
        etcd holds from the start, as :func:`prepared` returns it; where Kueue is asked for, that is what Kueue needs,
        unless all is to be made ``anew``.
        """
        self._audit = audit
        self._node_grace = node_grace
        self._wanted = {
            "kube-scheduler": scheduler,
            "kube-controller-manager": controller_manager,
            "kwok": kwok,
            "kueue": kueue,
            "volcano": volcano,
        }
        self._programs: Programs = binaries.kubernetes()
        self._kwok: Programs = ensure(KUEUE)
        self._kueue: Programs | None = binaries.kueue() if kueue else None
        self._etcd = etcd or (with_kueue() if kueue and not anew else None)
        self._volcano: Programs | None = ensure(VOLCANO) if volcano else None
        self.folder, self._owner_lock = _new_folder()
        self.seconds_to_ready = 0.0
        self._components: dict[str, tuple[Program, Callable[[], bool]]] = {}
        self._mirrors: list[SecretMirror] = []
        self._stopped = False
        self._lock = threading.Lock()
        self._identities: dict[tuple[str, tuple[str, ...]], Path] = {}
        self._authority = Authority()
        self._ports = {"kube-apiserver": free_port()}
        self._url = f"https://127.0.0.1:{self._ports['kube-apiserver']}"
        self._token = secrets.token_hex(16)
        self._write_certificates()
        user, groups = ADMIN
        self.kubeconfig = self.kubeconfig_for(user, groups)
        super().__init__(self.kubeconfig)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def up(self) -> None:
        """Starts everything, in parallel where it can be, and returns when all of it is ready."""
        began = time.monotonic()
        try:
            if self._etcd is not None:
                shutil.copytree(self._etcd, self.folder / "etcd")
            self._add_etcd()
            self._add_api_server()
            for name in ("etcd", "kube-apiserver"):
                self._components[name][0].start()
            for name in ("etcd", "kube-apiserver"):
                self._wait(name)
            starters = {
                "kube-scheduler": self._add_scheduler,
                "kube-controller-manager": self._add_controller_manager,
                "kwok": self._add_kwok,
                "kueue": self._add_kueue,
                "volcano": self._add_volcano,
            }
            with ThreadPoolExecutor(len(starters)) as pool:
                futures = [pool.submit(start) for name, start in starters.items() if self._wanted[name]]
                try:
                    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                        future.result()
                except BaseException:
                    # At once, so that the other starters fail instead of waiting for what will not come.
                    self.stop()
                    raise
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.monotonic() - began

    def stop(self) -> None:
        """Kills every component and removes the cluster's folder. There is nothing in it worth a graceful end."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        for mirror in self._mirrors:
            mirror.stop()
        self.close()
        # Clients first: a component that outlives its API server by a moment would fill its log with that.
        for program, _ in reversed(list(self._components.values())):
            program.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._owner_lock)

    @property
    def components(self) -> list[str]:
        return list(self._components)

    def logs(self, name: str) -> str:
        return self._component(name)[0].log()

    def pids(self) -> list[int]:
        """The process ids of everything that runs for this cluster."""
        return [pid for program, _ in self._components.values() for pid in program.pids]

    def failures(self) -> list[str]:
        """What has ended although nobody asked it to, with the end of its log."""
        return [program.failure("ended") for program, _ in self._components.values() if not program.running]

    def program(self, name: str) -> Program:
        """One component, for a test that changes how it is started."""
        return self._component(name)[0]

    def kill(self, name: str) -> None:
        self.program(name).kill()

    def start(self, name: str) -> None:
        with self._lock:
            if self._stopped:
                raise ClusterError(f"{name} is not started: this cluster has been stopped.")
            self.program(name).start()
        self._wait(name)

    def kubeconfig_for(self, user: str, groups: Iterable[str] = ()) -> Path:
        identity = (user, tuple(groups) or _customary_groups(user))
        if identity not in self._identities:
            number = f"-{len(self._identities)}" if self._identities else ""
            path = self.folder / f"kubeconfig{number}.yaml"
            # The API server verifies a certificate anew with each request: a seventh of its work, where all of the
            # cluster's own programs come with one.
            who = {"token": self._token} if identity == ADMIN else {"pair": self._authority.client(*identity)}
            self._identities[identity] = write_kubeconfig(path, self._url, self._authority.pem, **who)
        return self._identities[identity]

    def kueue_metrics(self) -> str:
        self._component("kueue")
        return fetch_metrics(self._ports["kueue-metrics"], self._token)

    # How each component is started and when it is ready.

    def _write_certificates(self) -> None:
        self._certificates = self.folder / "certificates"
        self._certificates.mkdir()
        (self._certificates / "ca.crt").write_bytes(self._authority.pem)
        write_private(self._certificates / "ca.key", self._authority.key)
        names = (
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "10.96.0.1",
        )
        self._authority.server(*names).write(self._certificates, "server")
        service_accounts = private_key()
        write_private(self._certificates / "service-accounts.key", key_pem(service_accounts))
        (self._certificates / "service-accounts.pub").write_bytes(public_pem(service_accounts))
        user, groups = ADMIN
        line = f'{self._token},{user},{user},"{",".join(groups)}"\n'
        write_private(self._certificates / "tokens.csv", line.encode())

    def _add(self, name: str, command: list[str], ready: Callable[[], bool]) -> None:
        self._components[name] = (Program(name, command, self.folder, GO), ready)

    def _run(self, name: str, command: list[str], ready: Callable[[], bool]) -> None:
        self._add(name, command, ready)
        self.start(name)

    def _component(self, name: str) -> tuple[Program, Callable[[], bool]]:
        if name not in self._components:
            raise ClusterError(f"this cluster has no {name}: it runs {', '.join(self._components)}.")
        return self._components[name]

    def _wait(self, name: str) -> None:
        program, ready = self._component(name)
        program.wait_ready(ready)

    def _add_etcd(self) -> None:
        clients, peers = (f"http://127.0.0.1:{self._port(name)}" for name in ("etcd", "etcd-peers"))
        command = [
            str(self._programs.program("etcd")),
            f"--data-dir={self.folder / 'etcd'}",
            "--name=e2e",
            # The data lives as long as the test run: nothing is lost that anyone would miss.
            "--unsafe-no-fsync",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=e2e={peers}",
            "--log-level=warn",
        ]
        self._add("etcd", command, functools.partial(listens, self._ports["etcd"]))

    def _add_api_server(self) -> None:
        certificates = self._certificates
        command = [
            str(self._programs.program("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self._ports['etcd']}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports['kube-apiserver']}",
            # No endpoints of the `kubernetes` Service: loopback is no valid one, and nobody asks for them.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={certificates}",
            f"--tls-cert-file={certificates / 'server.crt'}",
            f"--tls-private-key-file={certificates / 'server.key'}",
            f"--client-ca-file={certificates / 'ca.crt'}",
            f"--token-auth-file={certificates / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certificates / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={certificates / 'service-accounts.key'}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=RBAC",
            # Pods need no service account here: nothing runs in them.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ]
        if self._audit:
            policy = self.folder / "audit-policy.yaml"
            policy.write_text(AUDIT_POLICY)
            command += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
        self._add("kube-apiserver", command, self._api_ready)

    @property
    def audit_log(self) -> Path:
        """With ``audit``: one JSON object a line for each request."""
        return self.folder / "audit.log"

    def _api_ready(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.request("GET", "/readyz").status == 200
        return False

    def _add_controller_manager(self) -> None:
        certificates = self._certificates
        command = [
            str(self._programs.program("kube-controller-manager")),
            *self._serving("kube-controller-manager"),
            f"--service-account-private-key-file={certificates / 'service-accounts.key'}",
            f"--root-ca-file={certificates / 'ca.crt'}",
            f"--cluster-signing-cert-file={certificates / 'ca.crt'}",
            f"--cluster-signing-key-file={certificates / 'ca.key'}",
            "--node-monitor-period=1s",
        ]
        if self._node_grace:
            command.append(f"--node-monitor-grace-period={self._node_grace}")
        self._run("kube-controller-manager", command, self._healthy("kube-controller-manager"))

    def _add_scheduler(self) -> None:
        command = [str(self._programs.program("kube-scheduler")), *self._serving("kube-scheduler")]
        self._run("kube-scheduler", command, self._healthy("kube-scheduler"))

    def _add_kwok(self) -> None:
        configuration = self.folder / "kwok.yaml"
        kwok.write_configuration(configuration, self._kwok)
        port = self._port("kwok")
        command = kwok.command(self._kwok, self.kubeconfig, configuration, port)
        self._run("kwok", command, functools.partial(answers, port, "/healthz"))

    def _add_kueue(self) -> None:
        if self._kueue is None:
            raise ClusterError("Kueue was not asked for when this cluster was made.")
        host, metrics, health = own_address(), self._port("kueue-metrics"), self._port("kueue-health")
        self.apply(kueue.whereabouts(host, metrics))
        if self._etcd is None:
            self.apply(kueue.manifests(self._kueue))
        certificates = self.folder / "kueue-certificates"
        mirror = kueue.SecretMirror(self, kueue.NAMESPACE, kueue.SECRET, certificates)
        self._mirrors.append(mirror)
        mirror.start()
        configuration = self.folder / "kueue.yaml"
        kueue.write_configuration(configuration, kueue.configuration(host, metrics, health, certificates))
        command = kueue.command(self._kueue, self.kubeconfig, configuration)
        self._run("kueue", command, lambda: answers(health, "/readyz") and kueue.serves(self))

    def _add_volcano(self) -> None:
        if self._volcano is None:
            raise ClusterError("Volcano was not asked for when this cluster was made.")
        self.apply(volcano.crds(self._volcano))
        port = self._port("volcano-webhooks")
        self.expose(volcano.NAMESPACE, volcano.SERVICE, port)
        self._authority.server(volcano.HOST).write(self._certificates, "volcano")
        conf = self.folder / "volcano-scheduler"
        conf.mkdir()
        commands = volcano.commands(self._volcano, self.kubeconfig, self._certificates, conf, port)
        self.apply(volcano.webhook_configurations(port, self._authority.pem))
        ready: dict[str, Callable[[], bool]] = {
            "vc-webhook-manager": functools.partial(listens, port),
            "vc-controller-manager": lambda: True,
            "vc-scheduler": lambda: volcano.queues_open(self),
        }
        for name, command in commands.items():
            self._run(name, command, ready[name])

    def _port(self, name: str) -> int:
        return self._ports.setdefault(name, free_port())

    def _serving(self, name: str) -> list[str]:
        """The flags that the scheduler and the controller manager share."""
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port(name)}",
            f"--tls-cert-file={self._certificates / 'server.crt'}",
            f"--tls-private-key-file={self._certificates / 'server.key'}",
            "--profiling=false",
        ]

    def _healthy(self, name: str) -> Callable[[], bool]:
        return functools.partial(answers, self._ports[name], "/healthz", tls=True)


def prepared(name: str, key: bytes, fill: Callable[[Cluster], object], *, kueue: bool = False) -> Path:
    """What etcd holds once a cluster, with Kueue or without, was filled: made once, and kept in the cache.

    To define many kinds costs an API server several times what it costs to start with them defined. `key`: whatever
    decides what `fill` does.
    """
    programs = [str(binaries.kubernetes().program(name)) for name in sorted(binaries.ASSETS)]
    digest = hashlib.sha256(" ".join(programs).encode() + key).hexdigest()
    found = binaries.cache_folder() / f"etcd-{name}-{digest[:12]}"
    with binaries.locked(found.with_suffix(".lock")):
        if not found.is_dir():
            partial = found.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            with Cluster(kueue=kueue, anew=True) as cluster:
                fill(cluster)
                for each in reversed(cluster.components):
                    cluster.kill(each)
                # Without the file that etcd lays out for later, which is as large as all the rest.
                shutil.copytree(cluster.folder / "etcd", partial, ignore=shutil.ignore_patterns("*.tmp"))
            partial.rename(found)
    return found


def with_kueue() -> Path:
    """What etcd holds where Kueue is ready."""
    sources = (Path(each).read_bytes() for each in (kueue.__file__, definitions.__file__))
    key = b"".join([binaries.kueue().folder.name.encode(), *sources])
    return prepared("kueue", key, lambda cluster: cluster, kueue=True)


def listens(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether a loopback server answers 200."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        status, _ = _fetch(port, path, {}, tls=tls)
        return status == 200
    return False


def fetch_metrics(port: int, token: str) -> str:
    """Kueue's metrics from a loopback port, as somebody whom RBAC allows to read them."""
    status, text = _fetch(port, "/metrics", {"Authorization": f"Bearer {token}"}, tls=True)
    if status != 200:
        raise ClusterError(f"Kueue's metrics answered {status}: {text.strip()[:200]}")
    return text


def _fetch(port: int, path: str, headers: dict[str, str], *, tls: bool) -> tuple[int, str]:
    host = "127.0.0.1"
    if tls:
        # Loopback, to a program of ours that made up its certificate a moment ago.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def _customary_groups(user: str) -> tuple[str, ...]:
    """The groups that the API server gives a service account itself; a certificate must carry them."""
    kind, _, rest = user.rpartition("system:serviceaccount:")
    if kind or not rest or ":" not in rest:
        return ()
    return ("system:serviceaccounts", f"system:serviceaccounts:{rest.partition(':')[0]}")


def _new_folder() -> tuple[Path, int]:
    """A folder for one cluster, locked for as long as this process lives; those of the dead are removed."""
    base, prefix = Path(tempfile.gettempdir()), f"slicewise-e2e-{os.getuid()}-"
    for old in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            lock = os.open(old / "owner.lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    # Locked under another name first: a lock that is there and free means that its owner is dead.
    fresh = os.open(folder / "owner.new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fresh, fcntl.LOCK_EX)
    (folder / "owner.new").rename(folder / "owner.lock")
    return folder, fresh


def main(arguments: list[str]) -> int:
    """``python -m e2e.harness.cluster``: everything, until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.harness.cluster", description="A control plane on loopback."
    )
    for name in ("scheduler", "controller-manager", "kwok", "kueue"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--volcano", action=argparse.BooleanOptionalAction, default=False)
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster(**vars(chosen)) as cluster:
            print(f"# ready in {cluster.seconds_to_ready:.1f} s: {', '.join(cluster.components)}")
            print(f"# logs in {cluster.folder}; Ctrl-C stops everything")
            if chosen.kwok:
                (fake,) = (f"{key}: {value}" for key, value in kwok.FAKE_NODE.items())
                print(f"# a Node that you apply stays Ready with the annotation {fake}")
            print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
            reported: set[str] = set()
            while True:
                time.sleep(1)
                for failure in set(cluster.failures()) - reported:
                    reported.add(failure)
                    print(failure, file=sys.stderr, flush=True)
    except ClusterError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
