"""What a decision may look at: namespaces, policies and pools as they stand at this moment.

The webhook fills it from watches, the command from files. Nothing here asks a server: the path of a review
must never wait for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from slicewise import keys
from slicewise.choose import Ask, Choice, NothingFits, TooMany, choose
from slicewise.policy import BUILT_IN, SlicingPolicy, built_in
from slicewise.pools import Inventory, Pool


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

    _seen: int = field(default=-1, init=False)
    _pools: tuple[Pool, ...] = field(default=(), init=False)
    _choices: dict[Ask, Choice | TooMany | NothingFits] = field(default_factory=dict, init=False)

    def all_pools(self) -> tuple[Pool, ...]:
        """Returns every pool as it is now."""
        if self._seen != self.pools.revision:
            self._pools = tuple(self.pools)
            self._choices.clear()
            self._seen = self.pools.revision
        return self._pools

    def chosen(self, ask: Ask) -> Choice | TooMany | NothingFits:
        """Chooses for a template without selectors of its own; remembered until a pool changes."""
        pools = self.all_pools()
        found = self._choices.get(ask)
        if found is None:
            if len(self._choices) >= _REMEMBERED:
                self._choices.clear()
            found = self._choices[ask] = choose(ask, pools)
        return found

    def policy(self, name: str) -> SlicingPolicy | None:
        """Returns a policy by name; the built-in one stands in for `default` until somebody writes it."""
        found = self.policies.get(name)
        if found is None and name == BUILT_IN:
            return _BUILT_IN
        return found


_BUILT_IN: Final = built_in()
_REMEMBERED: Final = 4096
