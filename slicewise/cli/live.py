"""What commands read of a live cluster: imported when there is one, for the libraries of the network load slowly."""

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import msgspec

from queue_sync.planning.kueue_configuration import is_configuration
from slicewise.cli.errors import Failed
from slicewise.cli.inputs import GPU_OPERATOR_NAMESPACE, Collection, Unreachable, kueue_files
from slicewise.cli.output import tell
from slicewise.inventory.gpu_operator import holds
from slicewise.kube.client import Client
from slicewise.kube.config import Kubeconfig
from slicewise.kube.errors import ApiError, ConfigError, ForbiddenError, KubeError, NotFoundError
from slicewise.kube.informer import Informer
from slicewise.kube.snapshot import KUEUE_NAMESPACE, Document, Object

T = TypeVar("T")
_DRA: Final = "resource.k8s.io/"
_CUSTOMARY: Final = (GPU_OPERATOR_NAMESPACE, KUEUE_NAMESPACE)
_LOOK_AGAIN: Final = 5.0
"""Seconds between two looks whether a live cluster is followed."""
_TOGETHER: Final = 1.0
"""Seconds for which changes are gathered before they are shown."""


def chosen(options: Namespace) -> Kubeconfig:
    """Returns the configuration that the flags of `inputs.live_arguments` choose; an empty one is none."""
    return Kubeconfig(
        options.kubeconfig or None,
        options.context or None,
        options.cluster or None,
        options.user or None,
        options.as_user or None,
        options.as_uid or None,
        tuple(options.as_groups),
    )


def live(options: Namespace, *collections: Iterable[Collection]) -> Iterator[Document]:
    """Reads collections of a live cluster; kinds that it does not serve are none."""

    async def read(client: Client) -> list[Object]:
        of_kueue, found = kueue_files(options), list[Object]()
        for each in (each for group in collections for each in group):
            absent = _is_absent(each[0], found)
            found.append(await _list(client, *each, of_kueue=each in of_kueue, absent=absent))
        return found

    for number, value in enumerate(ask(options, read), start=1):
        yield Document("live cluster", number, value)


def ask(options: Namespace, read: Callable[[Client], Awaitable[T]]) -> T:
    """Returns what `read` finds in a live cluster.

    Raises:
        Failed: there is none, or it does not let itself be read.
    """

    async def connected() -> T:
        async with Client.from_kubeconfig(chosen(options), component="cli") as client:
            return await read(client)

    try:
        return asyncio.run(connected())
    except ConfigError as error:
        raise Unreachable(f"no cluster to read: {error}") from None
    except ApiError as error:
        raise Failed(f"the API server answered: {error}; check what this identity may read") from None
    except KubeError as error:
        raise Unreachable(f"the cluster cannot be reached: {error}; give --kubeconfig FILE") from None


def readable(options: Namespace, collections: Iterable[Collection]) -> tuple[list[Document], list[str]]:
    """Reads collections as far as the caller may; returns them, and the names of those that are forbidden."""
    forbidden: list[str] = []

    async def read(client: Client) -> list[Object]:
        found = []
        for path, api_version, kind in collections:
            try:
                listed = await items(client, path)
            except NotFoundError:
                continue
            except ForbiddenError:
                forbidden.append(path.rpartition("/")[2])
                continue
            found.append({"apiVersion": api_version, "kind": f"{kind}List", "items": listed})
        return found

    values = ask(options, read)
    return [
        Document("live cluster", number, value) for number, value in enumerate(values, start=1)
    ], forbidden


async def items(client: Client, path: str) -> list[Object]:
    """Returns every item of a collection, page by page."""
    found: list[Object] = []
    more = ""
    while True:
        query = {"limit": "500", **({"continue": more} if more else {})}
        answer = msgspec.json.decode((await client.get(path, query=query)).body)
        found += answer["items"] or []
        more = (answer.get("metadata") or {}).get("continue") or ""
        if not more:
            return found


def follow(
    options: Namespace,
    collections: Iterable[Iterable[Collection]],
    show: Callable[[Iterable[Document]], None],
) -> NoReturn:
    """Calls `show` with a live cluster as it stands, whenever something of these collections changed.

    Collections that the caller may not list are nothing, as for `live`. While the cluster is away, the last state
    stands, and standard error says so once.

    Raises:
        Failed: there is none to follow.
    """
    every = [each for group in collections for each in group]

    async def watched(client: Client) -> NoReturn:
        news = asyncio.Event()
        informers = {
            each: Informer(client, each[0], _object, on_change=lambda _: news.set(), optional=True)
            for each in every
            if await _may_list(client, each[0])
        }
        running = [asyncio.create_task(each.run()) for each in informers.values()]
        try:
            for informer in informers.values():
                await informer.synced()
            await _show(informers, news, show)
        finally:
            for task in running:
                task.cancel()

    ask(options, watched)


async def _show(
    informers: Mapping[Collection, Informer[Object]],
    news: asyncio.Event,
    show: Callable[[Iterable[Document]], None],
) -> NoReturn:
    trouble: list[str] = []
    while True:
        news.clear()
        show(
            Document("live cluster", number, {"apiVersion": version, "kind": f"{kind}List", "items": items})
            for number, ((_, version, kind), informer) in enumerate(informers.items(), start=1)
            for items in [[each for each in informer.store.values() if kind != "ConfigMap" or _is_read(each)]]
        )
        while not news.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _LOOK_AGAIN)
            before, healths = trouble, [each.healthy() for each in informers.values()]
            trouble = [each.sentence for each in healths if not each.ok]
            if trouble and not before:
                tell(
                    f"the cluster cannot be followed, and what is printed is the last that was seen: {trouble[0]}"
                )
        await asyncio.sleep(_TOGETHER)


def _object(raw: msgspec.Raw) -> Object:
    found: Object = msgspec.json.decode(raw)
    return found


def _plans_nodes(config_map: Object) -> bool:
    return any(map(holds, (config_map.get("data") or {}).values()))


def _is_read(config_map: Object) -> bool:
    return _plans_nodes(config_map) or any(map(is_configuration, (config_map.get("data") or {}).values()))


async def _may_list(client: Client, path: str) -> bool:
    try:
        await client.get(path, query={"limit": "1"})
    except NotFoundError:
        return True
    except ForbiddenError:
        return False
    return True


def _is_absent(path: str, listed: Iterable[Object]) -> bool:
    """True for files in a customary namespace that the cluster does not have: nobody installed what they are of."""
    spaces = {
        item["metadata"]["name"]
        for each in listed
        if each["kind"] == "NamespaceList"
        for item in each["items"]
    }
    customary = {f"/api/v1/namespaces/{name}/configmaps": name for name in _CUSTOMARY}
    return bool(spaces) and path in customary and customary[path] not in spaces


async def _list(
    client: Client, path: str, api_version: str, kind: str, *, of_kueue: bool, absent: bool
) -> Object:
    found: list[Object] = []
    why = "nothing there is such a file"
    try:
        found = await items(client, path)
    except NotFoundError:
        pass
    except ForbiddenError as error:
        if api_version.startswith(_DRA):
            tell(f"what DRA publishes is not known: {path}: {error.message}; nothing of it is counted")
        elif of_kueue and not absent:
            tell(
                f"how Kueue counts is not known: {path}: {error.message}; say where its configuration is with "
                '--kueue-namespace, or "" to do without'
            )
        elif kind != "ConfigMap":
            raise
        why = error.message
    if kind == "ConfigMap":
        found = list(filter(_is_read, found))
        if not of_kueue and not absent and not any(map(_plans_nodes, found)):
            tell(
                f"what is planned for nodes is not known: {path}: {why}; say where its files are "
                'with --gpu-operator-namespace, or "" to do without'
            )
    return {"apiVersion": api_version, "kind": f"{kind}List", "items": found}
