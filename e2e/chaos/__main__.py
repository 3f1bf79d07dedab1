"""``python -m e2e.chaos [--seed N] [--minutes N]``: exit status 1 when a promise was broken."""

import argparse
import random
import sys

from e2e.chaos.run import run


def main() -> int:
    """Reads the command line, plays, prints the figures."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    figures = run(options.seed, options.minutes * 60, lambda text: print(text, file=sys.stderr, flush=True))
    print(figures)
    return 1 if figures.broken else 0


if __name__ == "__main__":
    sys.exit(main())
