"""The vocabulary both halves speak: strategies, profiles, nodes, pools, policies and plans.

Nothing in this package's pure modules reads a clock or opens a connection; `slicewise.kube` is the one
exception and `slicewise.cli` stands on top of everything (docs/architecture.md, "Layers").
"""

from typing import Final

__version__: Final = "0.1.0"
