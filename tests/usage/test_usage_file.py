"""Files of usage: what is written is read back, and what is wrong is said in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from slicewise.api.errors import BadInput
from slicewise.usage import usage_file
from slicewise.usage.series import seen
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
        ("pod,time,use,memory\na,1,0.5,lots\n", "line 2: memory: 'lots' is not a quantity"),
        ("pod,time,use,memory\na,1\r,0.5,1\n", "is no CSV: new-line character seen in unquoted field; write"),
        ("pod,time,use,memory\na,1\n", "line 2: has 2 values for 4 columns"),
        ("pod,time,use,memory\na,1,0.5,1,2\n", "line 2: has 5 values for 4 columns"),
        ("pod,time,use,memory\na,1,,1\n", "line 2: use is '', and it is a number from 0 to 1"),
        ("pod,time,use,memory\na,1763251200000,0.5,1\n", "divide milliseconds by 1000"),
        ("pod,time,use,memory\na,-5,0.5,1\n", "time -5 is not between 1970 and 2100"),
        (
            "pod,time,use,memory\na,2026-13-01,0.5,1\n",
            "write Unix seconds or for example 2026-11-28T10:00:00Z",
        ),
        ("pod,time,use,memory\n,1,0.5,1\n", "line 2: pod is ''; write a name"),
        ("pod,time,use,memory\na/b/c,1,0.5,1\n", "line 2: pod is 'a/b/c'"),
        ("pod,namespace,time,use,memory\na/b,c,1,0.5,1\n", "line 2: pod is 'a/b'"),
        ("pod,time,use,memory\n\x1b[31ma,1,0.5,1\n", "pod holds a control character"),
        ("pod,time,use,memory,pod\n", "has the column pod twice"),
        ("pod;time;use;memory\n", "separate columns with commas"),
        ('{"format":"other/1"}\n', "line 1: "),
        ('{"format":"slicewise-usage/1","start":0,"step":0,"steps":1,"series":0}\n', "must be 1 or more"),
        (
            '{"format":"slicewise-usage/1","start":0,"step":60,"steps":1,"series":1}\n{"mean":[],"busy":[],"memory":[]}\n',
            "line 2: ",
        ),
        ('{"format":"slicewise-usage/1","start":0,"step":60,"steps":1,"series":1}\n{"mean"\n', "line 2: "),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "u.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as raised:
        usage_file.read(str(path))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_of_columns_and_values_may_stand_in_spaces_and_capitals(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("Pod, Time, Use, Memory\nteam-a/a, 3600, 0.5, 16Gi \n")
    (only,) = usage_file.read(str(path)).series
    assert (only.key.pod, list(seen(only.memory))) == ("a", [16384])


def test_pods_that_were_looked_at_more_seldom_than_others_lose_no_hours(tmp_path: Path) -> None:
    rows = [f"often,{minute * 60},0.5,1Gi" for minute in range(48 * 60)]
    rows += [f"seldom,{hour * 3600},0.5,1Gi" for hour in range(48)]
    path = tmp_path / "u.csv"
    path.write_text("\n".join(["pod,time,use,memory", *rows]))
    found = usage_file.read(str(path))
    hours = {each.key.pod: each.samples * found.step / 3600 for each in found.series}
    assert hours["often"] == pytest.approx(48, abs=0.2)
    assert hours["seldom"] == pytest.approx(48, abs=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("0.1", "7.0"), "line 2: use is from 0 to 1"),
        (("1024.0", "-1.0"), "line 2: memory is from 0 to"),
        (("1024.0", "1e30"), "line 2: memory is from 0 to"),
        (('"boardMemory":80.0', '"boardMemory":-4.0'), "line 2: memory is from 0 to"),
        (('"start":', '"start":9'), "start is Unix seconds before the year 2100"),
        (('"pod":"a"', '"pod":"\\u001b"'), "a name holds a control character"),
        (('"pod":"b"', '"pod":"a"'), "line 3: is of the same device and pod as line 2"),
        (('"series":2', '"series":3'), "holds 2 series, and its first line says 3"),
    ],
)
def test_a_saved_file_that_somebody_changed_is_held_to_the_same_rules(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    path = tmp_path / "u.json"
    every = [series(pod, [1.0] * 3, board="x") for pod in "ab"]
    every[0].board_memory = 80.0
    usage_file.write(str(path), usage(*every))
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(BadInput) as raised:
        usage_file.read(str(path))
    assert words in str(raised.value)


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
