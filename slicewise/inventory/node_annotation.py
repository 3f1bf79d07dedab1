"""The last belief about a node, kept on the Node itself, so that a restart forgets nothing."""

import msgspec

from slicewise.api import keys
from slicewise.api.quantities import QuantityError, count
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node
from slicewise.inventory.node_resources import Offer, Resource, division_of, offer_of
from slicewise.inventory.pool_name import PoolName
from slicewise.inventory.sources import facts_of


class PersistedOffer(msgspec.Struct, frozen=True, gc=False):
    """The last belief about a node, as its annotation `slicewise.io/offer` keeps it."""

    offer: Offer
    since: str
    """RFC 3339; when this offer was first believed."""
    held_since: str = ""
    """RFC 3339; since when less than this was seen, "" while the offer stands."""
    following: str = ""
    """The division, or the lesser numbers, that wait to be believed in its place, as `queue_sync.planning.node_trust`
    names them; "" for none."""
    following_since: str = ""
    """RFC 3339; since when a division has been seen without a break, or since when even less than lesser numbers is
    seen."""


class _Annotation(msgspec.Struct, omit_defaults=True, rename="camel"):
    resources: dict[str, int | str]
    since: str = ""
    held_since: str = ""
    following: str = ""
    following_since: str = ""
    pool: str = ""
    model: str = ""
    strategy: Strategy | None = None
    units: tuple[Resource, ...] = ()


_decode_annotation = msgspec.json.Decoder(_Annotation, strict=False).decode


def write_offer_annotation(kept: PersistedOffer) -> str:
    """Returns the value of the annotation `slicewise.io/offer`; `read_offer_annotation` is its inverse."""
    return msgspec.json.encode(
        _Annotation(
            resources=dict(kept.offer.quantities),
            since=kept.since,
            held_since=kept.held_since,
            following=kept.following,
            following_since=kept.following_since,
            pool=kept.offer.pool,
            model=kept.offer.model,
            strategy=kept.offer.strategy,
            units=kept.offer.resources,
        )
    ).decode()


def read_offer_annotation(node: Node) -> PersistedOffer | None:
    """Reads the annotation; None when there is none or it cannot be read (then nothing is kept).

    Whoever may write Nodes may write it, so a pool that is never called so, a model that is no line of text, or a
    unit in no shares counts for no more than one that is left out.

    What the annotation leaves out (only `resources` is required) is taken from the node's labels.
    """
    text = (node.metadata.annotations or {}).get(keys.OFFER)
    if not text:
        return None
    try:
        note = _decode_annotation(text)
        quantities = {name: count(number) for name, number in note.resources.items()}
    except (msgspec.DecodeError, QuantityError, RecursionError):
        return None
    units = {unit.name: unit for unit in note.units if unit.replicas > 0}
    pool = next((name for name in (note.pool, node.labels.get(keys.POOL, "")) if PoolName.parse(name)), "")
    model, strategy = note.model if note.model.isprintable() else "", note.strategy
    if not (pool and model and strategy and quantities.keys() <= units.keys()):
        shown = {name: number or 1 for name, number in quantities.items()}
        derived = division_of(node, facts_of(node.labels), shown, quantities).offer()
        units = {**{unit.name: unit for unit in derived.resources}, **units}
        pool, model, strategy = pool or derived.pool, model or derived.model, strategy or derived.strategy
    resources = tuple(
        msgspec.structs.replace(units[name], quantity=number)
        for name, number in sorted(quantities.items())
        if name in units
    )
    offer = offer_of(pool, model, strategy, resources)
    return PersistedOffer(offer, note.since, note.held_since, note.following, note.following_since)
