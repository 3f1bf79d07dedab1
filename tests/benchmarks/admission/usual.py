"""The webhook that tutorials teach: FastAPI, pydantic models, a deep copy, and `jsonpatch.make_patch`.

It reads the same start-up file as the Go server and gives the same answer.
"""

import base64
import copy
import json
import sys
from pathlib import Path
from typing import Any

import jsonpatch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from slicewise.api import keys

Object = dict[str, Any]


class Kind(BaseModel):
    """Which kind an object is."""

    group: str = ""
    version: str = ""
    kind: str


class Request(BaseModel):
    """The request of a review."""

    uid: str
    kind: Kind
    namespace: str = ""
    operation: str
    object: Object | None = None


class Review(BaseModel):
    """A review as it comes."""

    apiVersion: str  # noqa: N815  as it is on the wire
    kind: str
    request: Request


class Response(BaseModel):
    """The answer to a request."""

    uid: str
    allowed: bool = True
    patch: str | None = None
    patchType: str | None = None  # noqa: N815  as it is on the wire


class Answer(BaseModel):
    """A review as it goes out."""

    apiVersion: str = "admission.k8s.io/v1"  # noqa: N815  as it is on the wire
    kind: str = "AdmissionReview"
    response: Response


def application(answers: Object) -> FastAPI:
    """Makes the application."""
    app = FastAPI()

    @app.post("/mutate", response_model_exclude_none=True)
    async def mutate(review: Review) -> Answer:
        request = review.request
        if (
            request.operation != "CREATE"
            or request.object is None
            or request.namespace not in answers["namespaces"]
        ):
            return Answer(response=Response(uid=request.uid))
        modified = copy.deepcopy(request.object)
        _rewrite(modified, request.kind.kind, answers)
        patch = jsonpatch.make_patch(request.object, modified)
        if not patch:
            return Answer(response=Response(uid=request.uid))
        text = base64.b64encode(patch.to_string().encode()).decode()
        return Answer(response=Response(uid=request.uid, patch=text, patchType="JSONPatch"))

    return app


def _rewrite(item: Object, kind: str, answers: Object) -> None:
    template = item if kind == "Pod" else item["spec"]["template"]
    spec = template["spec"]
    name = item["metadata"].get("labels", {}).get(keys.WORKLOAD_CLASS, answers["default"])
    decision = copy.deepcopy(answers["classes"][name])
    to = decision.pop("to")
    containers = spec["containers"] + spec.get("initContainers", [])
    for container in containers:
        for amounts in container.get("resources", {}).values():
            if count := amounts.pop(keys.GPU, None):
                amounts[to] = count
                decision["containers"][container["name"]] = {
                    "from": keys.GPU,
                    "to": to,
                    "count": int(count),
                    "asked": int(count),
                }
    if not decision["containers"]:
        return
    for container in containers:
        if container["name"] not in decision["containers"]:
            container.setdefault("env", []).append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    if decision["steered"]:
        expression = {"key": keys.POOL, "operator": "In", "values": decision["pools"]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    toleration = {"key": keys.GPU, "operator": "Exists", "effect": "NoSchedule"}
    spec.setdefault("tolerations", []).append(toleration)
    for holder in {id(each): each for each in (item, template)}.values():
        holder["metadata"].setdefault("annotations", {})[keys.DECISION] = json.dumps(decision)


def main(address: str, certificate: str, key: str, answers: str) -> None:
    """Serves until killed."""
    host, _, port = address.rpartition(":")
    uvicorn.run(
        application(json.loads(Path(answers).read_text(encoding="utf-8"))),
        host=host,
        port=int(port),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
