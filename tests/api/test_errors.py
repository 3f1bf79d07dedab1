"""What a misspelt word was meant to be."""

import pytest

from slicewise.api.errors import did_you_mean

KNOWN = ("team-a", "team-b", "research")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("taem-a", "; did you mean team-a?"),
        ("TEAM-A", "; did you mean team-a?"),
        ("team-x", "; did you mean team-a or team-b?"),
        ("zzz", ""),
    ],
)
def test_case_counts_for_nothing_and_all_that_are_as_near_are_named(word: str, said: str) -> None:
    assert did_you_mean(word, KNOWN) == said
