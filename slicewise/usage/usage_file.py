"""Files of usage: what `slicewise report --save` writes, and plain CSV.

A saved file is one JSON object a line: first the period, then one for each series, so that neither side ever holds more
than it must. A name that ends in `.gz` is compressed. What is read back gives the same reports, byte for byte.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, Literal, cast

import msgspec

from slicewise.api.errors import BadInput
from slicewise.api.quantities import QuantityError, parse
from slicewise.usage.series import LATEST, MOST_MEMORY, NOTHING, Key, Series, Usage, step_for

FORMAT: Final = "slicewise-usage/1"
_MOST_STEPS: Final = 100_000
_MOST_VALUES: Final = 60_000_000
"""Of one file: 240 MB."""
_LONGEST: Final = 86_400.0
"""Seconds for which one sample may stand."""
_REQUIRED: Final = ("pod", "time", "use", "memory")
_KEYS: Final = ("namespace", "pod", "container", "node", "board", "instance")


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["slicewise-usage/1"]
    start: int
    step: int
    steps: int
    series: int
    """How many lines follow."""
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
    header = _Header(
        FORMAT, usage.start, usage.step, usage.steps, len(usage.series), owners, classes, usage.notes
    )
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
        raise _unwritable(path, error.strerror) from None


def require_writable(path: str) -> None:
    """Checks that a file can be written, before the work that is to go into it.

    Raises:
        BadInput: it cannot.
    """
    target = Path(path)
    there = target if target.exists() else target.parent
    if target.is_dir():
        raise _unwritable(path, "it is a folder")
    if not os.access(there, os.W_OK):
        raise _unwritable(path, "no such folder" if not there.exists() else "permission denied")


def _unwritable(path: str, why: str | None) -> BadInput:
    return BadInput(f"{path}: cannot be written: {why}; name a file in a folder that is there")


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
    except csv.Error as error:
        why = str(error).partition(" - ")[0]  # what follows is advice for programmers
        raise BadInput(f"{path}: is no CSV: {why}; write a line for each pod and time") from None
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
    if not 0 <= header.start <= LATEST or header.step * header.steps > LATEST:
        raise BadInput(f"{path}: line 1: start is Unix seconds before the year 2100; write the file anew")
    decoder = msgspec.json.Decoder(_Line)
    series: list[Series] = []
    lines: dict[tuple[Key, str, str], int] = {}
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
        key = Key(*(getattr(line, name) for name in _KEYS))
        if (wrong := _wrong(line)) is not None:
            raise BadInput(f"{path}: line {number}: {wrong}; write the file anew")
        if (earlier := lines.setdefault((key, line.model, line.profile), number)) != number:
            raise BadInput(
                f"{path}: line {number}: is of the same device and pod as line {earlier}; keep one"
            )
        series.append(
            Series(
                key,
                line.model,
                line.profile,
                line.board_memory,
                _in(line.mean),
                _in(line.busy),
                _in(line.memory),
            )
        )
    if len(series) != header.series:
        raise BadInput(
            f"{path}: holds {len(series)} series, and its first line says {header.series}; write the file anew"
        )
    owners = {(namespace, pod): (kind, name) for namespace, pod, kind, name in header.owners}
    classes = {(namespace, pod): name for namespace, pod, name in header.classes}
    return Usage(header.start, header.step, header.steps, series, owners, classes, header.notes)


def _wrong(line: _Line) -> str | None:
    """Returns what cannot be in a line of a saved file."""
    names = (*(getattr(line, name) for name in _KEYS), line.model, line.profile)
    if any(not name.isprintable() for name in names):
        return "a name holds a control character"
    if any(value is not None and not 0 <= value <= 1 for value in (*line.mean, *line.busy)):
        return "use is from 0 to 1"
    if any(
        value is not None and not 0 <= value <= MOST_MEMORY for value in (*line.memory, line.board_memory)
    ):
        return f"memory is from 0 to {MOST_MEMORY:.0f} MiB"
    return None


def _csv(path: str, first: bytes, file: IO[bytes]) -> Usage:
    """Reads a row for each sample; further columns are those of a saved file's lines."""
    names = [name.strip().lower() for name in next(csv.reader([first.decode("utf-8-sig")]), [])]
    if len(names) == 1 and ";" in names[0]:
        raise BadInput(f"{path}: line 1: is separated by semicolons; separate columns with commas")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise BadInput(
            f"{path}: line 1: is neither a saved file nor CSV with the column {missing[0]}; "
            f"write {','.join(_REQUIRED)} (and namespace, node, model, profile where you know them)"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"{path}: line 1: has the column {twice[0]} twice; keep one")
    samples: dict[Key, list[tuple[float, float, float]]] = {}
    about: dict[Key, tuple[str, str]] = {}
    for number, cells in enumerate(csv.reader(_text(file)), start=2):
        if not cells:
            continue
        if len(cells) != len(names):
            raise BadInput(
                f"{path}: line {number}: has {len(cells)} values for {len(names)} columns; write one for each"
            )
        try:
            key, more, sample = _row(dict(zip(names, map(str.strip, cells), strict=True)))
        except BadInput as error:
            raise BadInput(f"{path}: line {number}: {error}") from None
        samples.setdefault(key, []).append(sample)
        about[key] = more
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


def _row(row: dict[str, str]) -> tuple[Key, tuple[str, str], tuple[float, float, float]]:
    """Returns whose sample a row is, its model and profile, and its time, use and memory.

    Raises:
        BadInput: a value breaks a rule.
    """
    names = {name: row.get(name, "") for name in (*_KEYS, "model", "profile")}
    if control := [name for name, text in names.items() if not text.isprintable()]:
        raise BadInput(f"{control[0]} holds a control character; write it as it is called")
    if "/" in names["pod"] and not names["namespace"]:
        names["namespace"], _, names["pod"] = names["pod"].partition("/")
    if not names["pod"] or "/" in names["pod"]:
        raise BadInput(
            f"pod is {row['pod']!r}; write a name, or namespace/name where no column says the namespace"
        )
    try:
        use = float(row["use"])
    except ValueError:
        use = math.nan
    if not 0 <= use <= 1:
        raise BadInput(f"use is {row['use']!r}, and it is a number from 0 to 1; divide per cent by 100")
    try:
        memory = float(parse(row["memory"])) / 2**20
    except QuantityError as error:
        raise BadInput(f"memory: {error}; write bytes or a quantity such as 16Gi") from None
    if not 0 <= memory <= MOST_MEMORY:
        raise BadInput("memory is from 0 to 1Pi; write bytes or a quantity such as 16Gi")
    key = Key(**{name: names[name] for name in _KEYS})
    return key, (names["model"], names["profile"]), (seconds(row["time"]), use, memory)


def seconds(text: str) -> float:
    """Returns a time, in Unix seconds or as RFC 3339, as Unix seconds.

    Raises:
        BadInput: it is none, or not between 1970 and 2100.
    """
    try:
        time = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BadInput(
                f"time is {text!r}; write Unix seconds or for example 2026-11-28T10:00:00Z"
            ) from None
        time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= time <= LATEST:
        raise BadInput(
            f"time {text} is not between 1970 and 2100; write seconds (divide milliseconds by 1000)"
        )
    return time


def _apart(samples: Iterable[list[tuple[float, float, float]]]) -> float:
    """Returns how far apart the samples of one series usually are: a shorter step would show gaps as absence."""
    gaps = []
    for rows in samples:
        times = sorted(time for time, _, _ in rows)
        gaps += [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return sorted(gaps)[len(gaps) // 2] if gaps else 60.0


def _text(file: IO[bytes]) -> Iterator[str]:
    return (line.decode("utf-8") for line in file)


def _binned(
    rows: Iterable[tuple[float, float, float]], start: int, step: int, steps: int
) -> tuple[array[float], array[float], array[float]]:
    """Puts samples into steps; one that is taken more seldom than there are steps counts for all of its time."""
    rows = list(rows)
    apart = _apart([rows])
    lasts = max(1, round(apart / step)) if apart <= _LONGEST else 1
    bins: dict[int, list[tuple[float, float]]] = {}
    for time, use, memory in rows:
        first = max(0, int((time - start) // step) + 1)
        for index in range(first, min(first + lasts, steps)):
            bins.setdefault(index, []).append((use, memory))
    mean, busy, most = (array("f", [NOTHING]) * steps for _ in range(3))
    for index, values in bins.items():
        uses = sorted(use for use, _ in values)
        mean[index] = sum(uses) / len(uses)
        busy[index] = uses[-(-95 * len(uses) // 100) - 1]
        most[index] = max(memory for _, memory in values)
    return mean, busy, most
