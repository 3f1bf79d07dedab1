"""Files of usage: what is written is read back, and what is wrong is said in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from slicewise.api.errors import BadInput
from slicewise.usage import usage_file
from tests.usage.making import series, usage

ROWS = "pod,time,use,memory\nteam-a/a,1795000000,0.5,16Gi\nteam-a/a,1795003600,0.25,17179869184\n"


@pytest.mark.parametrize("name", ["u.json", "u.json.gz"])
def test_what_is_saved_is_read_back_and_saved_alike(tmp_path: Path, name: str) -> None:
    kept = usage(
        series("a", [1.5, math.nan, 3], [0.1234, math.nan, 0.5], profile="1g.10gb"),
        owners={("team-a", "a"): ("Deployment", "chat")},
    )
    path, again = str(tmp_path / name), str(tmp_path / f"again-{name}")
    usage_file.write(path, kept)
    back = usage_file.read(path)
    usage_file.write(again, back)
    assert (back.owners, back.series[0].key, back.series[0].profile) == (
        kept.owners,
        kept.series[0].key,
        "1g.10gb",
    )
    assert back.series[0].mean.tobytes() == kept.series[0].mean.tobytes()
    if name.endswith(".json"):
        assert Path(path).read_bytes() == Path(again).read_bytes()


def test_csv_has_a_row_for_each_sample(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text(ROWS)
    found = usage_file.read(str(path))
    (only,) = found.series
    assert (only.key.namespace, only.key.pod, found.step) == ("team-a", "a", 3600)
    assert list(only.memory) == [16384, 16384]
    assert list(only.mean) == [0.5, 0.25]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: is neither a saved file nor CSV with the column pod"),
        ("pod,time,use\n", "with the column memory"),
        ("pod,time,use,memory\n", "holds no sample"),
        ("pod,time,use,memory\na,yesterday,0,1\n", "line 2: "),
        ("pod,time,use,memory\na,1,50,1\n", "divide per cent by 100"),
        ("pod,time,use,memory\na,1,0.5,1e99\n", "memory is from 0 to 1Pi"),
        ("pod,time,use,memory\na,1,0.5,lots\n", "line 2: 'lots' is not a quantity"),
        ("pod,time,use,memory\na,1\n", "line 2: "),
        ('{"format":"other/1"}\n', "line 1: "),
        ('{"format":"slicewise-usage/1","start":0,"step":0,"steps":1}\n', "must be 1 or more"),
        (
            '{"format":"slicewise-usage/1","start":0,"step":60,"steps":1}\n{"mean":[],"busy":[],"memory":[]}\n',
            "line 2: ",
        ),
        ('{"format":"slicewise-usage/1","start":0,"step":60,"steps":1}\n{"mean"\n', "line 2: "),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "u.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as raised:
        usage_file.read(str(path))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "u.json.gz"
    usage_file.write(str(path), usage(series("a", [1.0] * 100)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="is damaged"):
        usage_file.read(str(path))
    with pytest.raises(BadInput, match="cannot be read"):
        usage_file.read(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="cannot be written"):
        usage_file.write(str(tmp_path / "none" / "u.json"), usage(series("a", [1.0])))
