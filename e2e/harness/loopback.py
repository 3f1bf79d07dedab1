"""What leads the webhook's calls to this machine, in objects that were rendered: a Service and the port behind it.

As a program it is Helm's post-renderer, which is started with each upgrade: it imports next to nothing.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

from e2e.harness.documents import parse

SERVICE = "slicewise-webhook"
WEBHOOK_KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def rewritten(items: list[dict[str, Any]], host: str, port: int) -> list[dict[str, Any]]:
    """What the post-renderer makes of rendered objects."""
    items = copy.deepcopy(items)
    for item in items:
        if item["kind"] == "Service" and item["metadata"]["name"] == SERVICE:
            item["spec"] = {"type": "ExternalName", "externalName": host}
        if item["kind"] in WEBHOOK_KINDS:
            for webhook in item["webhooks"]:
                webhook["clientConfig"]["service"]["port"] = port
    return items


if __name__ == "__main__":
    for item in rewritten(parse(sys.stdin.read()), sys.argv[1], int(sys.argv[2])):
        print("---", json.dumps(item), sep="\n")  # JSON is YAML, and is written in no time
