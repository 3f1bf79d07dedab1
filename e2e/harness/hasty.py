"""The webhook with a rotation that a test can wait for: shorter periods in the same order, all else as shipped."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from unittest import mock

from admission.server import serve
from admission.tls.rotation import Periods
from slicewise.cli import main

# What the last two are for, clocks that differ and a week of leaves, takes no time on one machine.
PERIODS = Periods(
    between_rounds=timedelta(seconds=1),
    settle=timedelta(seconds=6),
    leaf=timedelta(seconds=12),
    margin=timedelta(seconds=4),
)

if __name__ == "__main__":
    with mock.patch.object(serve, "Options", partial(serve.Options, periods=PERIODS)):
        sys.exit(main())
