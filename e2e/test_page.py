"""The status page in a real Chromium: what it shows, how it is reached by keyboard, and what it never does.

`SLICEWISE_PICTURES=docs` has the pictures of docs/page.md made anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.harness import nodes
from e2e.harness.browser import Tab, chromium
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import NAMESPACE, page_reader, rendered, token
from e2e.harness.processes import free_port

H100: Final = "NVIDIA-H100-80GB-HBM3"
HOSTILE: Final = "<img src=x onerror=alert(1)>"
PAINTED: Final = "document.documentElement?.dataset.painted === 'true'"
JOB: Final = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "name": "serve",
        "namespace": "team-a",
        "labels": {"slicewise.io/workload-class": "inference"},
    },
    "spec": {
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
                ],
            }
        }
    },
}


def node(
    name: str,
    pool: str,
    labels: dict[str, str],
    devices: dict[str, int],
    *,
    ready: bool = True,
    since: str = "",
) -> dict[str, Any]:
    """A GPU node as the controller labelled it; `since` is when the controller first believed it."""
    amounts = {f"nvidia.com/{key}": str(number) for key, number in devices.items()}
    offer = {"resources": {key: int(number) for key, number in amounts.items()}, "since": since}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {f"nvidia.com/{key}": value for key, value in labels.items()}
            | {"slicewise.io/pool": pool},
            "annotations": {"slicewise.io/offer": json.dumps(offer)} if since else {},
        },
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def mixed(name: str, **more: Any) -> dict[str, Any]:
    """Four boards, each with three slices of 1g.10gb and two of 2g.20gb."""
    labels = {"gpu.product": H100, "gpu.memory": "81559", "gpu.count": "4", "gpu.replicas": "0"}
    labels |= {"mig.strategy": "mixed", "mig-1g.10gb.count": "12", "mig-2g.20gb.count": "8"}
    labels |= {"mig-1g.10gb.memory": "9984", "mig-2g.20gb.memory": "20096"}
    return node(name, "h100-80gb-mig-mixed", labels, {"mig-1g.10gb": 12, "mig-2g.20gb": 8}, **more)


def whole(name: str, product: str = H100, **more: Any) -> dict[str, Any]:
    """Eight whole boards."""
    labels = {"gpu.product": product, "gpu.memory": "81559", "gpu.count": "8", "gpu.replicas": "1"}
    return node(name, "h100-80gb-exclusive", labels, {"gpu": 8}, **more)


def shared(name: str, **more: Any) -> dict[str, Any]:
    """Four boards, each shared by ten."""
    labels = {"gpu.product": "NVIDIA-L4-SHARED", "gpu.memory": "23034", "gpu.count": "4"}
    labels |= {"gpu.replicas": "10", "gpu.sharing-strategy": "time-slicing"}
    return node(name, "l4-time-slicing-x10", labels, {"gpu": 40}, **more)


def pod(name: str, on: str, namespace: str = "team-a", **devices: int) -> dict[str, Any]:
    """A running pod."""
    limits = {f"nvidia.com/{key.replace('__', '-').replace('_', '.')}": str(n) for key, n in devices.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": on, "containers": [{"name": "main", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"},
    }


def cluster_queue() -> dict[str, Any]:
    """A queue that promises more than there is, of nobody's plan."""
    resources = [{"name": "nvidia.com/gpu", "nominalQuota": "8"}]
    flavors = [{"name": "h100-80gb-exclusive", "resources": resources}]
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "typed-once"},
        "spec": {"resourceGroups": [{"coveredResources": ["nvidia.com/gpu"], "flavors": flavors}]},
    }


def items() -> list[dict[str, Any]]:
    """A cluster with something of everything."""
    labels = {"slicewise.io/policy": "default", "team": "a"}
    queues = [
        {"name": "team-a", "share": 3, "namespaces": {"matchLabels": {"team": "a"}}},
        {"name": "team-b", "share": 1},
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": labels}},
        *(mixed(f"mig-{i}", since=f"2026-11-2{i}T08:00:00Z") for i in range(4)),
        mixed("mig-4", ready=False, since="2026-11-20T08:00:00Z"),
        *(whole(f"whole-{i}", since="2026-11-19T12:00:00Z") for i in range(3)),
        *(shared(f"shared-{i}") for i in range(2)),
        pod("serve", "mig-0", mig__1g_10gb=5),
        pod("train", "whole-1", gpu=6),
        pod("search", "mig-1", "team-b", mig__1g_10gb=9, mig__2g_20gb=3),
        pod("rank", "mig-2", "team-b", mig__1g_10gb=2, mig__2g_20gb=5),
        pod("notebooks", "shared-0", "team-b", gpu=27),
        pod("pretrain", "whole-0", "team-b", gpu=8),
        cluster_queue(),
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": "research"},
            "spec": {"engine": "kueue", "cohort": "research", "queues": queues},
        },
    ]


USED: Final = {
    ("team-a", "h100-80gb-mig-mixed"): {"nvidia.com/mig-1g.10gb": 5},
    ("team-a", "h100-80gb-exclusive"): {"nvidia.com/gpu": 6},
    ("team-a", "l4-time-slicing-x10"): {"nvidia.com/gpu": 27},
    ("team-b", "h100-80gb-mig-mixed"): {"nvidia.com/mig-1g.10gb": 11, "nvidia.com/mig-2g.20gb": 8},
    ("team-b", "h100-80gb-exclusive"): {"nvidia.com/gpu": 8},
}
"""What Kueue has admitted, by queue and flavor."""


@cache
def queues() -> tuple[dict[str, Any], ...]:
    """The plan's objects as they stand: team-b has four whole boards, and is to get more."""
    with tempfile.TemporaryDirectory() as folder:
        found = slicewise("plan", "--snapshot", str(listed(Path(folder), *items())))["items"]
    for queue in (item for item in found if item["kind"] == "ClusterQueue"):
        name = queue["metadata"]["name"]
        used = [
            {"name": flavor, "resources": [{"name": each, "total": str(n)} for each, n in numbers.items()]}
            for (of, flavor), numbers in USED.items()
            if of == name
        ]
        queue["status"] = {"flavorsReservation": used}
        if name == "team-b":
            (group,) = queue["spec"]["resourceGroups"]
            (flavor,) = (each for each in group["flavors"] if each["name"] == "h100-80gb-exclusive")
            flavor["resources"][0]["nominalQuota"] = "4"
    return tuple(found)


def listed(folder: Path, *found: dict[str, Any]) -> Path:
    """A file of these objects."""
    file = folder / "cluster.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))
    return file


def write(folder: Path, *more: dict[str, Any]) -> Path:
    """A snapshot of that cluster."""
    return listed(folder, *items(), *queues(), *more)


def printed(*words: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "slicewise", *words], capture_output=True, text=True, check=False
    )
    return done.stdout


def slicewise(*words: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(printed(*words, "-o", "json"))


@asynccontextmanager
async def served(*words: str) -> AsyncIterator[str]:
    """Runs `slicewise page`; yields the address that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "slicewise",
        "page",
        *words,
        "--listen",
        "127.0.0.1:0",
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(120):
            line = (await process.stderr.readline()).decode()
        found = re.search(r"http://\S+/page/", line)
        assert found is not None, line + (await process.stderr.read()).decode()
        yield found[0]
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def shown(*words: str) -> AsyncIterator[Tab]:
    """The page in a browser, once it is painted."""
    async with served(*words) as address, chromium() as tab:
        await tab.look()
        await tab.open(address)
        await tab.until(PAINTED)
        yield tab


async def open_pool(tab: Tab, name: str) -> None:
    """Shows the nodes of a pool."""
    await tab.run(f"document.getElementById('pool/{name}').querySelector('button').click()")
    await tab.until(f"document.getElementById('pool/{name}').querySelector('.board') !== null")


async def point(tab: Tab, board: str) -> None:
    """Moves the mouse onto a board, where it was drawn after scrolling there."""
    await tab.run(
        f"document.querySelector('[data-board=\"{board}\"]').scrollIntoView({{block: 'nearest', behavior: 'instant'}})"
    )
    await tab.run(
        "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))).then(() => true)"
    )
    place = await tab.run(
        f"document.querySelector('[data-board=\"{board}\"]').getBoundingClientRect().toJSON()"
    )
    await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place["x"] + 5, y=place["y"] + 5)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go."""
    return Path(os.environ.get("SLICEWISE_PICTURES") or tmp_path)


TEXT: Final = "document.getElementById('{}').innerText"


async def test_it_shows_what_the_commands_print(tmp_path: Path) -> None:
    file = str(write(tmp_path))
    async with shown("--snapshot", file) as tab:
        for pool in slicewise("pools", "--snapshot", file):
            card = await tab.run(TEXT.format(f"pool/{pool['name']}"))
            assert f"{pool['model']}, {pool['strategy']}, {len(pool['nodes'])} node" in card
            for resource, quantity in pool["resources"].items():
                (line,) = re.findall(rf"^{re.escape(resource)}: (.*)$", card, re.MULTILINE)
                parts = re.findall(r"(\d+) (?:used|free|offered|held back)", line)
                assert sum(map(int, parts)) == quantity
            for each in pool["unsettled"]:
                details = f"document.getElementById('pool/{pool['name']}').textContent"
                assert f"{each['node']}: {each['reason']}" in await tab.run(details)
        rows = await tab.run(
            "[...document.querySelectorAll('#plan-list tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"
        )
        drawn = {(row[0], row[1], row[2]): row[3] for row in rows}
        used = {(row[0], row[1], row[2]): int(row[5]) for row in rows if row[5] != "0"}
        assert used == {(*where, name): n for where, each in USED.items() for name, n in each.items()}
        assert {row[0]: row[4] for row in rows if row[1] == "h100-80gb-exclusive"} == {
            "team-a": "18",
            "team-b": "4",
        }
        wanted = {
            (item["metadata"]["name"], flavor["name"], each["name"]): str(each["nominalQuota"])
            for item in slicewise("plan", "--snapshot", file)["items"]
            for group in item["spec"].get("resourceGroups") or ()
            for flavor in group["flavors"]
            for each in flavor["resources"]
            if str(each["nominalQuota"]) != "0"
        }
        assert drawn == wanted != {}
        drift = [
            f"{each['code']} {each['sentence']}".replace("`", "")  # set as code
            for each in slicewise("drift", "--snapshot", file)
        ]
        assert (
            await tab.run("[...document.querySelectorAll('#drift li')].map((e) => e.innerText)")
            == drift
            != []
        )
        doctor = slicewise("doctor", "--snapshot", file)
        texts = await tab.run(
            "[...document.querySelectorAll('#doctor > ul:first-child > li')].map((e) => e.innerText)"
        )
        assert len(texts) == len(doctor["findings"])
        for text, each in zip(texts, doctor["findings"], strict=True):
            assert each["code"] in text
            assert each["sentence"] in text
        promise = await tab.run(TEXT.format("promises"))
        assert re.search(r"team-a, team-b, typed-once\s+30\s+24\s+6", promise), promise
        changes = await tab.run(
            "[...document.querySelectorAll('#change-list tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"
        )
        assert [row[1] for row in changes[:3]] == ["mig-3", "mig-2", "mig-1"]
        assert changes[0][0] == "2026-11-23 08:00:00"
        at_a_glance = await tab.run("[...document.querySelectorAll('nav b')].map((each) => each.textContent)")
        assert at_a_glance == ["3", "1", str(len(doctor["findings"])), str(len(changes)), "?"]
        assert tab.problems == []


async def test_boards_are_drawn_to_scale_with_what_is_used(tmp_path: Path) -> None:
    async with shown("--snapshot", str(write(tmp_path))) as tab:
        await open_pool(tab, "h100-80gb-mig-mixed")
        drawn = await tab.run(
            "[...document.querySelectorAll('[data-board=\"mig-0/0\"] .bar > *')]"
            ".map((e) => [e.className, e.getBoundingClientRect().width])"
        )
        assert [kind for kind, _ in drawn] == ["used", "used", "used", "free", "free", "rest"]
        unit = sum(width for _, width in drawn) / 8  # memory slices of the board
        assert [round(width / unit) for _, width in drawn] == [1, 1, 1, 2, 2, 1]
        named = "getComputedStyle(document.querySelector('[data-board=\"mig-0/0\"] .{}'), '::before').content"
        assert [await tab.run(named.format(kind)) for kind in ("used", "free")] == ['"1g"', '"2g"']
        held = "[...document.querySelectorAll('[data-board=\"mig-4/0\"] .bar > .held')].length"
        assert await tab.run(held) == 5


async def test_a_board_says_why_under_the_mouse(tmp_path: Path) -> None:
    async with shown("--snapshot", str(write(tmp_path))) as tab:
        await open_pool(tab, "h100-80gb-mig-mixed")
        await point(tab, "mig-4/1")
        why = await tab.until(
            "!document.getElementById('tip').hidden && document.getElementById('tip').innerText"
        )
        assert why.startswith("mig-4, board 2 of 4: 3 held back nvidia.com/mig-1g.10gb")
        assert why.endswith("the node is not Ready")
        await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        await tab.until("document.getElementById('tip').hidden")


async def test_a_board_is_reached_by_keyboard_and_says_why(tmp_path: Path) -> None:
    async with shown("--snapshot", str(write(tmp_path))) as tab:
        await open_pool(tab, "h100-80gb-mig-mixed")
        for _ in range(30):
            await tab.press("Tab")
            if await tab.run("document.activeElement.classList.contains('board')"):
                break
        assert await tab.run("document.activeElement.dataset.board") == "mig-0/0"
        assert "3 used nvidia.com/mig-1g.10gb" in await tab.run(TEXT.format("tip"))
        await tab.run("document.querySelector('[data-board=\"mig-3/3\"]').focus()")
        await tab.press("ArrowRight")
        assert await tab.run("document.activeElement.dataset.board") == "mig-4/0"
        assert (
            "held back nvidia.com/mig-1g.10gb, 2 held back nvidia.com/mig-2g.20gb; the node is not Ready"
            in (await tab.run(TEXT.format("tip")))
        )
        await tab.press("Escape")
        assert await tab.run("document.getElementById('tip').hidden")
        await tab.press("Tab")
        assert not await tab.run("document.activeElement.classList.contains('board')")


async def test_what_is_pasted_is_explained(tmp_path: Path) -> None:
    file = str(write(tmp_path))
    async with shown("--snapshot", file) as tab:

        async def explained(text: str) -> str:
            await tab.run(f"document.getElementById('manifest').value = {json.dumps(text)}")
            await tab.run("document.querySelector('#explain button').click()")
            return str(
                await tab.until(
                    "((e) => !e.hidden && e.textContent !== '…' && e.textContent)"
                    "(document.getElementById('explanation'))"
                )
            )

        manifest = tmp_path / "job.json"
        manifest.write_text(json.dumps(JOB))
        words = printed("explain", "-f", str(manifest), "--snapshot", file)
        assert await explained(json.dumps(JOB)) + "\n" == words
        assert "mig-1g.10gb" in words
        assert tab.problems == []


async def test_hostile_words_are_text_and_nobody_else_is_asked(tmp_path: Path) -> None:
    hostile = (
        whole(f"n{HOSTILE}", product=f"NVIDIA-{HOSTILE}"),
        whole("n-2", product=f"X{HOSTILE}", ready=False),
    )
    async with shown("--snapshot", str(write(tmp_path, *hostile))) as tab:
        await tab.run("document.querySelectorAll('.card button').forEach((each) => each.click())")
        await tab.until("document.querySelectorAll('.board').length > 40")
        assert HOSTILE in await tab.run("document.body.innerText")
        assert await tab.run("document.querySelectorAll('main img, main script, [onerror]').length") == 0
        assert tab.problems == []
        origin = (await tab.run("location.origin")) + "/page/"
        assert [url for url in tab.requests if not url.startswith(origin)] == []
        refused = await tab.run(
            "(() => { try { document.body.innerHTML = '<b>x</b>'; return '' } catch (e) { return e.name } })()"
        )
        assert refused == "TypeError"  # nothing on the page could be put there as markup


async def test_a_live_cluster_is_followed(installed: AnyCluster) -> None:
    await asyncio.to_thread(nodes.add, installed, nodes.exclusive("page-1", gpus=8))
    try:
        async with shown("--kubeconfig", str(installed.kubeconfig)) as tab:
            pool = "document.getElementById('pool/h100-80gb-exclusive')?.innerText.includes('{} free')"
            await tab.until(pool.format(8))
            await asyncio.to_thread(nodes.add, installed, nodes.exclusive("page-2", gpus=8))
            await tab.until(pool.format(16))
            assert await tab.run(TEXT.format("state")) == "Live: changes appear by themselves."
            assert tab.problems == []
    finally:
        await asyncio.to_thread(nodes.remove, installed, "page-1", "page-2")


@asynccontextmanager
async def controller(cluster: AnyCluster) -> AsyncIterator[str]:
    """The controller under its own account, with the rights of the chart; yields the address of its page."""
    port = free_port()
    account = f"system:serviceaccount:{NAMESPACE}:slicewise-controller"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "slicewise", "controller", "--page", "--authenticate", "--leader-elect=false"),
        f"--operations-listen=127.0.0.1:{port}",
        f"--kubeconfig={cluster.kubeconfig_for(account)}",
        "--self-check=0s",
    )
    try:
        yield f"http://127.0.0.1:{port}/page/"
    finally:
        process.terminate()
        await process.wait()


async def test_the_controller_lets_in_whom_the_cluster_lets(installed: AnyCluster) -> None:
    rights = [each for each in rendered({"controller": {"page": True}}) if each["kind"].startswith("Cluster")]
    await asyncio.to_thread(installed.apply, [*rights, page_reader("page-reader")])
    await asyncio.to_thread(nodes.add, installed, nodes.exclusive("page-3", gpus=8))
    known = await asyncio.to_thread(token, installed, "page-reader")
    other = await asyncio.to_thread(token, installed, "page-nobody")
    try:
        async with controller(installed) as address, chromium() as tab:
            await tab.look()

            async def signs_in(with_token: str) -> None:
                await tab.run(f"document.getElementById('token').value = {json.dumps(with_token)}")
                await tab.run("document.querySelector('#login button').click()")

            for _ in range(600):  # until it answers
                await tab.open(address)
                if await tab.run("document.getElementById('token') !== null"):
                    break
                await asyncio.sleep(0.1)
            await tab.until("!document.getElementById('login').hidden")
            assert await tab.run("document.querySelector('main').innerText.startsWith('Who are you?')")
            assert "Pools" not in await tab.run("document.body.innerText")
            await signs_in(other)
            refused = await tab.until("document.getElementById('login-problem').textContent")
            account = f"system:serviceaccount:{NAMESPACE}:page-nobody"
            assert refused == (
                f"{account} may not get /page/events; bind it to a ClusterRole with nonResourceURLs: [/page/events]\n"
            )
            await signs_in(known)
            await tab.until(
                "document.getElementById('pool/h100-80gb-exclusive')?.innerText.includes('8 offered')"
            )
            assert await tab.run("document.getElementById('login').hidden")
            await open_pool(tab, "h100-80gb-exclusive")
            text = await tab.run("document.body.innerText")
            assert "what the controller counts" in text
            assert "Nobody looked: run slicewise doctor." in text
    finally:
        await asyncio.to_thread(nodes.remove, installed, "page-3")


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("light", {"dark": False, "width": 1280, "height": 1300}),
        ("dark", {"dark": True, "width": 1280, "height": 1300}),
        ("phone", {"dark": False, "width": 390, "height": 1700}),
    ],
)
async def test_everybody_can_use_it(tmp_path: Path, pictures: Path, name: str, look: dict[str, Any]) -> None:
    async with shown("--snapshot", str(write(tmp_path))) as tab:
        await tab.look(**look)
        await open_pool(tab, "h100-80gb-mig-mixed")
        await point(tab, "mig-4/1")
        await tab.until("!document.getElementById('tip').hidden")
        (pictures / f"page-{name}.png").write_bytes(await tab.picture())
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
        await tab.call("Page.setBypassCSP", enabled=True)  # for axe, whose own scripts the policy keeps out
        await tab.call("Page.reload")
        await tab.until(PAINTED)
        await open_pool(tab, "h100-80gb-mig-mixed")
        await tab.run("document.querySelector('[data-board=\"mig-4/1\"]').focus()")
        assert await tab.judged() == []
