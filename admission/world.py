"""What a decision may look at: namespaces, policies and pools as they stand at this moment.

The webhook fills it from watches, the command from files. Nothing here asks a server: the path of a review
must never wait for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slicewise import keys
from slicewise.policy import BUILT_IN, SlicingPolicy, built_in
from slicewise.pools import Inventory


@dataclass(slots=True)
class World:
    """The state that reviews are answered from; its owner replaces or updates the parts in place."""

    namespaces: Mapping[str, Mapping[str, str]]
    """Labels by namespace. A namespace that is not here has not opted in."""
    policies: Mapping[str, SlicingPolicy]
    pools: Inventory
    own_namespace: str = keys.OWN_NAMESPACE
    protected: frozenset[str] = field(default=keys.SYSTEM_NAMESPACES)
    """Namespaces that are never touched."""

    def policy(self, name: str) -> SlicingPolicy | None:
        """Returns a policy by name; the built-in one stands in for `default` until somebody writes it."""
        found = self.policies.get(name)
        if found is None and name == BUILT_IN:
            return _BUILT_IN
        return found


_BUILT_IN = built_in()
