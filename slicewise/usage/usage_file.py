"""Files of usage: what `slicewise report --save` writes, and plain CSV.

A saved file is one JSON object a line: first the period, then one for each series, so that neither side ever holds more
than it must. A name that ends in `.gz` is compressed. What is read back gives the same reports, byte for byte.
"""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, Literal, cast

import msgspec

from slicewise.api.errors import BadInput
from slicewise.api.quantities import QuantityError, parse
from slicewise.usage.series import NOTHING, Key, Series, Usage, step_for

FORMAT: Final = "slicewise-usage/1"
_MOST_STEPS: Final = 100_000
_MOST_VALUES: Final = 60_000_000
"""Of one file: 240 MB."""
_MOST_MEMORY: Final = 2.0**50
"""Bytes; a thousand times the largest board, so that a slip of the pen is not taken for a peak."""
_REQUIRED: Final = ("pod", "time", "use", "memory")
_KEYS: Final = ("namespace", "pod", "container", "node", "board", "instance")


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["slicewise-usage/1"]
    start: int
    step: int
    steps: int
    owners: list[tuple[str, str, str, str]] = []
    classes: list[tuple[str, str, str]] = []
    notes: tuple[str, ...] = ()


class _Line(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    mean: list[float | None]
    busy: list[float | None]
    memory: list[float | None]
    namespace: str = ""
    pod: str = ""
    container: str = ""
    node: str = ""
    board: str = ""
    instance: str = ""
    model: str = ""
    profile: str = ""
    board_memory: float = 0.0


def write(path: str, usage: Usage) -> None:
    """Writes a file that `read` gives back.

    Raises:
        BadInput: it cannot be written.
    """
    owners = [(*pod, *owner) for pod, owner in sorted(usage.owners.items())]
    classes = [(*pod, name) for pod, name in sorted(usage.classes.items())]
    header = _Header(FORMAT, usage.start, usage.step, usage.steps, owners, classes, usage.notes)
    encoder = msgspec.json.Encoder()
    try:
        with _opened(path, "wb") as file:
            file.write(encoder.encode(header) + b"\n")
            for each in usage.series:
                names = {name: getattr(each.key, name) for name in _KEYS}
                line = _Line(
                    _out(each.mean, 4),
                    _out(each.busy, 4),
                    _out(each.memory, 0),
                    **names,
                    model=each.model,
                    profile=each.profile,
                    board_memory=each.board_memory,
                )
                file.write(encoder.encode(line) + b"\n")
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be written: {error.strerror}; name a file in a folder that is there"
        ) from None


def read(path: str) -> Usage:
    """Reads a saved file, or CSV with the columns pod, time, use and memory.

    Raises:
        BadInput: it is neither, or a line of it breaks the format.
    """
    try:
        with _opened(path, "rb") as file:
            first = file.readline(1_000_000_000)
            return _saved(path, first, file) if first.startswith(b"{") else _csv(path, first, file)
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read: {error.strerror or error}; name a file that is there"
        ) from None
    except (EOFError, UnicodeDecodeError):
        raise BadInput(
            f"{path}: is damaged or no text; write it anew with `slicewise report --save`"
        ) from None


def _opened(path: str, mode: Literal["rb", "wb"]) -> IO[bytes]:
    if path.endswith(".gz"):
        # Without the time of writing: the same usage is the same file.
        return cast("IO[bytes]", gzip.GzipFile(path, mode, mtime=0))
    return Path(path).open(mode)


def _out(values: array[float], digits: int) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in values]  # noqa: PLR0124  NaN


def _in(values: Iterable[float | None]) -> array[float]:
    return array("f", (NOTHING if value is None else value for value in values))


def _saved(path: str, first: bytes, file: IO[bytes]) -> Usage:
    try:
        header = msgspec.json.decode(first, type=_Header)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: line 1: {error}; give a file that `slicewise report --save` wrote") from None
    if header.step < 1 or not 1 <= header.steps <= _MOST_STEPS:
        raise BadInput(f"{path}: line 1: step and steps must be 1 or more (steps at most {_MOST_STEPS})")
    decoder = msgspec.json.Decoder(_Line)
    series: list[Series] = []
    for number, text in enumerate(file, start=2):
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}: line {number}: {error}; write the file anew") from None
        if any(len(values) != header.steps for values in (line.mean, line.busy, line.memory)):
            raise BadInput(
                f"{path}: line {number}: has not {header.steps} values of each; write the file anew"
            )
        if 3 * header.steps * len(series) > _MOST_VALUES:
            raise BadInput(
                f"{path}: holds more than {_MOST_VALUES} values; save fewer namespaces or longer steps"
            )
        series.append(
            Series(
                Key(*(getattr(line, name) for name in _KEYS)),
                line.model,
                line.profile,
                line.board_memory,
                _in(line.mean),
                _in(line.busy),
                _in(line.memory),
            )
        )
    owners = {(namespace, pod): (kind, name) for namespace, pod, kind, name in header.owners}
    classes = {(namespace, pod): name for namespace, pod, name in header.classes}
    return Usage(header.start, header.step, header.steps, series, owners, classes, header.notes)


def _csv(path: str, first: bytes, file: IO[bytes]) -> Usage:
    """Reads a row for each sample; further columns are those of a saved file's lines."""
    columns = next(csv.reader([first.decode("utf-8-sig")]), [])
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise BadInput(
            f"{path}: line 1: is neither a saved file nor CSV with the column {missing[0]}; "
            f"write {','.join(_REQUIRED)} (and namespace, node, model, profile where you know them)"
        )
    samples: dict[Key, list[tuple[float, float, float]]] = {}
    about: dict[Key, tuple[str, str]] = {}
    for number, row in enumerate(csv.DictReader(_text(file), columns), start=2):
        try:
            use, memory = float(row["use"]), float(parse(row["memory"])) / 2**20
            time = _time(row["time"])
        except (ValueError, TypeError, QuantityError) as error:
            raise BadInput(
                f"{path}: line {number}: {error}; write time in seconds or as 2026-11-28T10:00:00Z, use from 0 to 1, "
                "memory in bytes or as 16Gi"
            ) from None
        if not 0 <= use <= 1:
            raise BadInput(f"{path}: line {number}: use is from 0 to 1; divide per cent by 100")
        if not 0 <= memory <= _MOST_MEMORY:
            raise BadInput(
                f"{path}: line {number}: memory is from 0 to 1Pi; write bytes or a quantity such as 16Gi"
            )
        names = {name: row.get(name) or "" for name in _KEYS}
        if not names["namespace"] and "/" in names["pod"]:
            names["namespace"], _, names["pod"] = names["pod"].partition("/")
        key = Key(**names)
        samples.setdefault(key, []).append((time, use, memory))
        about[key] = (row.get("model") or "", row.get("profile") or "")
    if not samples:
        raise BadInput(f"{path}: holds no sample; write a line for each pod and time")
    first_time = min(time for rows in samples.values() for time, _, _ in rows)
    last_time = max(time for rows in samples.values() for time, _, _ in rows)
    step = step_for(len(samples), last_time - first_time, _apart(samples.values()))
    start = int(first_time // step + 1) * step
    steps = int((last_time - start) // step) + 2
    if steps * len(samples) * 3 > _MOST_VALUES:
        raise BadInput(f"{path}: spans {steps} steps of {step} s; give a shorter period")
    series = [
        Series(key, *about[key], 0.0, *_binned(rows, start, step, steps)) for key, rows in samples.items()
    ]
    return Usage(start, step, steps, series)


def _apart(samples: Iterable[list[tuple[float, float, float]]]) -> float:
    """Returns how far apart the samples of one series usually are: a shorter step would show gaps as absence."""
    gaps = []
    for rows in samples:
        times = sorted(time for time, _, _ in rows)
        gaps += [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return sorted(gaps)[len(gaps) // 2] if gaps else 60.0


def _text(file: IO[bytes]) -> Iterator[str]:
    return (line.decode("utf-8") for line in file)


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _binned(
    rows: Iterable[tuple[float, float, float]], start: int, step: int, steps: int
) -> tuple[array[float], array[float], array[float]]:
    bins: dict[int, list[tuple[float, float]]] = {}
    for time, use, memory in rows:
        bins.setdefault(max(0, int((time - start) // step) + 1), []).append((use, memory))
    mean, busy, most = (array("f", [NOTHING]) * steps for _ in range(3))
    for index, values in bins.items():
        uses = sorted(use for use, _ in values)
        mean[index] = sum(uses) / len(uses)
        busy[index] = uses[-(-95 * len(uses) // 100) - 1]
        most[index] = max(memory for _, memory in values)
    return mean, busy, most
