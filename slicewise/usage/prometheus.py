"""Asks Prometheus what dcgm-exporter measured: the server reduces each step to a number, page by page.

Pages are namespaces, and parts of the period short enough that no answer grows large. Metrics and labels:
NVIDIA/dcgm-exporter (etc/default-counters.csv, internal/pkg/transformation); owners: kube-state-metrics.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import time
from array import array
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from slicewise.usage.series import MOST_MEMORY, NOTHING, Key, Series, Usage, step_for

MEMORY: Final = "DCGM_FI_DEV_FB_USED"
FREE: Final = "DCGM_FI_DEV_FB_FREE"
ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
UTILIZATION: Final = "DCGM_FI_DEV_GPU_UTIL"
_PAGE: Final = 50_000
"""Values that one answer has at most, as far as can be told before."""
_AT_ONCE: Final = 4
_TRIES: Final = 3
BACKOFF = 0.5
"""Seconds before the second try; twice that before the third."""
_FAILED: Final = 500
"""HTTP statuses from here on are faults of the server."""
_ROUNDED: Final = 1.01
"""Use that is 1 but for rounding."""
_LARGEST: Final = 256 * 2**20
_MIB: Final = 2**20

Progress = Callable[[int, int], None]


class PrometheusError(Exception):
    """Nothing came of asking; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Prometheus, and how to be let in."""

    url: str
    token_file: str | None = None
    ca_file: str | None = None
    timeout: float = 60.0

    @property
    def name(self) -> str:
        """The address without the password that may be in it."""
        scheme, found, rest = self.url.partition("://")
        return f"{scheme}{found}{rest.rpartition('@')[2]}"


class _Sample(msgspec.Struct, frozen=True, gc=False):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _Data(msgspec.Struct, frozen=True):
    result: list[_Sample] = []


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data | list[str] = msgspec.field(default_factory=_Data)
    error: str = ""
    warnings: list[str] = []


@dataclass(frozen=True, slots=True)
class _Labels:
    """What the labels of this Prometheus are called: its own come first where it does not honour the exporter's."""

    namespace: str
    pod: str
    container: str


def collect(source: Source, days: float, until: int | None, progress: Progress | None = None) -> Usage:
    """Returns the use of a period that ends at `until` (Unix time; None: now).

    Raises:
        PrometheusError: it cannot be reached, does not let us in, or has no such metrics.
    """
    headers = {"Accept": "application/json"}
    if source.token_file:
        try:
            token = Path(source.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise PrometheusError(
                f"{source.token_file}: cannot be read: {error.strerror}; name a file with a token"
            ) from None
        except UnicodeDecodeError:
            token = ""
        if not (token.isprintable() and token.isascii() and token) or " " in token:
            raise PrometheusError(
                f"{source.token_file}: holds no token, which is one word; name a file with a token"
            )
        headers["Authorization"] = f"Bearer {token}"
    try:
        trust = ssl.create_default_context(cafile=source.ca_file)
    except OSError as error:
        why = (
            "holds no certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        )
        raise PrometheusError(f"{source.ca_file}: {why}; name a file of PEM certificates") from None
    if not source.url.startswith(("http://", "https://")) or "?" in source.url:
        raise PrometheusError(f"{source.name}: is no address; write http://HOST:PORT")
    return asyncio.run(_collected(source, headers, trust, days, until or int(time.time()), progress))


async def _collected(
    source: Source,
    headers: dict[str, str],
    trust: ssl.SSLContext,
    days: float,
    until: int,
    progress: Progress | None,
) -> Usage:
    limits = aiohttp.ClientTimeout(total=source.timeout, sock_connect=10)
    async with aiohttp.ClientSession(
        headers=headers, timeout=limits, connector=aiohttp.TCPConnector(ssl=trust)
    ) as session:
        return await _Collector(source, session, days, until, progress).collect()


@dataclass(slots=True)
class _Collector:
    source: Source
    session: aiohttp.ClientSession
    days: float
    until: int
    progress: Progress | None
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    series: dict[tuple[Key, str, str], Series] = field(default_factory=dict)
    owners: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    controllers: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    by_utilization: set[Key] = field(default_factory=set)
    done: int = 0
    queries: int = 0

    async def collect(self) -> Usage:
        seconds = self.days * 86_400
        number = await self._number()
        step = step_for(number, seconds)
        end = self.until
        steps = max(1, math.ceil(seconds / step))
        start = end - (steps - 1) * step
        labels = await self._labels(start, end)
        namespaces = await self._label_values(labels.namespace, start, end)
        sizes = await self._sizes(labels.namespace)
        tasks = []
        for namespace in ("", *namespaces):
            # Pods that are gone are in no count of now: a tenth of all is the least that is reckoned with.
            chunk = max(1, min(steps, _PAGE // max(1, sizes.get(namespace, 0), number // 10)))
            tasks += [
                self._page(labels, namespace, start, step, steps, first, min(chunk, steps - first))
                for first in range(0, steps, chunk)
            ]
        tasks += [self._owners(namespace, end, max(step, math.ceil(seconds))) for namespace in namespaces]
        self.queries = len(tasks)
        for task in asyncio.as_completed([asyncio.ensure_future(self._bounded(each)) for each in tasks]):
            await task
            self.done += 1
            if self.progress:
                self.progress(self.done, self.queries)
        found = sorted(
            self.series.values(), key=lambda each: (tuple(_words(each.key)), each.model, each.profile)
        )
        if not any(each.key.pod for each in found):
            self.warnings[
                "no series names a pod: dcgm-exporter does not map them, or labels are called otherwise"
            ] = None
        if self.by_utilization:
            self.warnings[
                f"{len(self.by_utilization)} devices have no {ACTIVE}; {UTILIZATION} was taken, which says only "
                "whether anything ran"
            ] = None
        self._resolve()
        return Usage(
            start, step, steps, found, dict(sorted(self.owners.items())), notes=tuple(sorted(self.warnings))
        )

    async def _bounded(self, page: Coroutine[Any, Any, None]) -> None:
        """Goes through one page while few others are under way: a page that waits would hold its last answer."""
        async with self.gate:
            await page

    async def _number(self) -> int:
        answer = await self._ask(
            "query", query=f"count({MEMORY} or {ACTIVE} or {UTILIZATION})", time=str(self.until)
        )
        samples = answer.data.result if isinstance(answer.data, _Data) else []
        if samples and samples[0].value:
            return int(float(samples[0].value[1]))
        return 1

    async def _sizes(self, label: str) -> dict[str, int]:
        """Returns how many series each namespace has now."""
        answer = await self._ask("query", query=f"count by ({label}) ({MEMORY})", time=str(self.until))
        samples = answer.data.result if isinstance(answer.data, _Data) else []
        return {each.metric.get(label, ""): int(float(each.value[1])) for each in samples if each.value}

    async def _label_values(self, label: str, start: int, end: int) -> list[str]:
        path = f"label/{label}/values"
        match = f'{{__name__=~"{MEMORY}|{ACTIVE}|{UTILIZATION}"}}'
        answer = await self._ask(path, **{"match[]": match, "start": str(start), "end": str(end)})
        return sorted(answer.data) if isinstance(answer.data, list) else []

    async def _labels(self, start: int, end: int) -> _Labels:
        if not await self._label_values("__name__", start, end):
            raise PrometheusError(
                f"{self.source.name}: has none of {MEMORY}, {ACTIVE} and {UTILIZATION} in the period; let it scrape "
                "dcgm-exporter, or look further back with --period"
            )
        if await self._label_values("exported_pod", start, end):
            return _Labels("exported_namespace", "exported_pod", "exported_container")
        return _Labels("namespace", "pod", "container")

    async def _page(
        self, labels: _Labels, namespace: str, start: int, step: int, steps: int, first: int, length: int
    ) -> None:
        """Asks for one namespace and one part of the period, and puts the answers into their series."""
        where = f"{labels.namespace}={json.dumps(namespace)}"
        span = f"[{step}s]"
        period = {
            "start": str(start + first * step),
            "end": str(start + (first + length - 1) * step),
            "step": str(step),
        }
        active, use = f"{ACTIVE}{{{where}}}", f'{UTILIZATION}{{{where},GPU_I_ID=""}}'
        unless = f"unless on (UUID) avg_over_time({active}{span})"
        queries = (
            ("memory", f"round(max_over_time({MEMORY}{{{where}}}{span}))"),
            ("mean", f"round(avg_over_time({active}{span}), 0.0001)"),
            ("busy", f"round(quantile_over_time(0.95, {active}{span}), 0.0001)"),
            ("mean", f"round(avg_over_time({use}{span}) / 100, 0.0001) {unless}"),
            ("busy", f"round(quantile_over_time(0.95, {use}{span}) / 100, 0.0001) {unless}"),
        )
        for name, query in queries:
            answer = await self._ask("query_range", query=query, **period)
            for sample in answer.data.result if isinstance(answer.data, _Data) else []:
                series = self._series(sample.metric, labels, steps)
                if UTILIZATION in query:
                    self.by_utilization.add(series.key)
                values: array[float] = getattr(series, name)
                for moment, text in sample.values:
                    value = float(text)
                    if 0 <= value <= MOST_MEMORY:  # NaN is not
                        if name != "memory" and value > 1:
                            if value > _ROUNDED:
                                self.warnings[
                                    "some use was above 1, which nothing can be, and counts as 1"
                                ] = None
                            value = 1.0
                        values[int((moment - start) / step + 0.5)] = value
        answer = await self._ask(
            "query", query=f"{MEMORY}{{{where}}} + {FREE}{{{where}}}", time=period["end"]
        )
        for sample in answer.data.result if isinstance(answer.data, _Data) else []:
            series = self._series(sample.metric, labels, steps)
            if sample.value:
                series.board_memory = max(series.board_memory, round(float(sample.value[1])))

    def _series(self, metric: dict[str, str], labels: _Labels, steps: int) -> Series:
        get = metric.get
        pod = get(labels.pod, "")
        container = get(labels.container, "")
        if labels.pod == "pod" and container in {"exporter", "dcgm-exporter", "nvidia-dcgm-exporter"}:
            pod = container = (
                ""  # the exporter itself, put there by a Prometheus that finds it through its pod
            )
        node = get("Hostname") or get("node") or get("instance", "")
        namespace = get(labels.namespace, "") if pod else ""
        key = Key(namespace, pod, container, node, get("UUID", ""), get("GPU_I_ID", ""))
        model, profile = get("modelName", ""), get("GPU_I_PROFILE", "")
        known = self.series.get((key, model, profile))
        if known is None:
            values = (array("f", [NOTHING]) * steps for _ in range(3))
            known = self.series[key, model, profile] = Series(key, model, profile, 0.0, *values)
        return known

    async def _owners(self, namespace: str, end: int, seconds: int) -> None:
        where = f"{{namespace={json.dumps(namespace)}}}[{seconds}s]"
        query = f"max by (pod, owner_kind, owner_name) (max_over_time(kube_pod_owner{where}))"
        answer = await self._ask("query", query=query, time=str(end))
        for sample in answer.data.result if isinstance(answer.data, _Data) else []:
            pod, kind, name = (sample.metric.get(label, "") for label in ("pod", "owner_kind", "owner_name"))
            if pod and kind not in {"", "<none>"}:
                self.owners[namespace, pod] = (kind, name)
        for kind, label, metric in (
            ("ReplicaSet", "replicaset", "kube_replicaset_owner"),
            ("Job", "job_name", "kube_job_owner"),
        ):
            query = f"max by ({label}, owner_kind, owner_name) (max_over_time({metric}{where}))"
            answer = await self._ask("query", query=query, time=str(end))
            for sample in answer.data.result if isinstance(answer.data, _Data) else []:
                owner = (sample.metric.get("owner_kind", ""), sample.metric.get("owner_name", ""))
                if owner[0] not in {"", "<none>"}:
                    self.controllers[namespace, kind, sample.metric.get(label, "")] = owner

    def _resolve(self) -> None:
        """Puts the Deployment of a ReplicaSet, and the CronJob of a Job, in its place; keeps pods that are seen."""
        pods = {(each.key.namespace, each.key.pod) for each in self.series.values()}
        self.owners = {
            pod: self.controllers.get((pod[0], *owner), owner)
            for pod, owner in self.owners.items()
            if pod in pods
        }

    async def _ask(self, path: str, **query: str) -> _Answer:
        url = f"{self.source.url.rstrip('/')}/api/v1/{path}"
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                async with self.session.get(url, params=query) as response:
                    body = bytearray()
                    async for chunk in response.content.iter_any():
                        body += chunk
                        if len(body) > _LARGEST:
                            break
                    if response.status < _FAILED or last:
                        return self._answer(response.status, bytes(body))
            except TimeoutError:
                if last:
                    raise PrometheusError(
                        f"{self.source.name}: did not answer within {self.source.timeout:g} s; give it longer with "
                        "--prometheus-timeout, or ask for less with --period"
                    ) from None
            except aiohttp.InvalidURL:
                raise PrometheusError(f"{self.source.name}: is no address; write http://HOST:PORT") from None
            except aiohttp.ClientPayloadError:
                if last:
                    raise PrometheusError(
                        f"{self.source.name}: breaks off in the middle of an answer; look at what is between"
                    ) from None
            except aiohttp.ClientError as error:
                if last:
                    raise PrometheusError(
                        f"{self.source.name}: cannot be reached: {error}; check --prometheus and that it runs"
                    ) from None
            await asyncio.sleep(BACKOFF * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _answer(self, status: int, body: bytes) -> _Answer:
        url = self.source.name
        if status in {401, 403}:
            raise PrometheusError(
                f"{url}: does not let us in (HTTP {status}); give a token with --prometheus-token-file"
            )
        if len(body) > _LARGEST:
            raise PrometheusError(
                f"{url}: answers with more than {_LARGEST // _MIB} MiB; ask for less with --period"
            )
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, RecursionError):
            if status >= _FAILED:
                raise PrometheusError(
                    f"{url}: fails (HTTP {status}); look at its log, or ask for less with --period"
                ) from None
            raise PrometheusError(
                f"{url}: answers HTTP {status} with what is no answer of Prometheus; check the address "
                "(a path in front of /api/v1 belongs to it)"
            ) from None
        if answer.status != "success":
            raise PrometheusError(
                f"{url}: refuses a query: {answer.error or f'HTTP {status}'}; ask for less with --period"
            )
        for warning in answer.warnings:
            self.warnings[f"Prometheus warns that its answer may not be whole: {warning}"] = None
        return answer


def _words(key: Key) -> Iterable[str]:
    return (key.namespace, key.pod, key.container, key.node, key.board, key.instance)
