"""`slicewise test`: policy tests in YAML; the format is in docs/policy-tests.md."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from admission.decision.cluster_state import ClusterState
from admission.mutation.outcome import Verdict
from admission.workloads.decoder import Templates
from slicewise.api import field_errors
from slicewise.api.errors import BadInput
from slicewise.cli import junit
from slicewise.cli.junit import CaseResult
from slicewise.cli.mutate import Result, review
from slicewise.cli.output import line, tell, write
from slicewise.cli.selection import unknown_namespaces
from slicewise.cli.watching import stamps, wait_for_change, watch_argument
from slicewise.cli.webhook_inputs import kinds_argument, templates, world
from slicewise.gpu.strategies import ClassStrategy
from slicewise.kube.snapshot import Document, Snapshot, collect, read_documents, read_file


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Gets(_Strict):
    """What one container is expected to get."""

    to: str
    count: int = 1


class Expectation(_Strict):
    """What is expected of one manifest; what is left out is not looked at."""

    outcome: Verdict | None = None
    class_name: str | None = Field(None, alias="class")
    strategy: ClassStrategy | None = None
    pools: tuple[str, ...] | None = None
    containers: dict[str, Gets] | None = Field(None, min_length=1)
    message: str | None = Field(None, min_length=1)
    """Part of the refusal or of a warning."""

    @model_validator(mode="after")
    def _says_something(self) -> "Expectation":
        if all(value is None for _, value in self):
            raise ValueError("says nothing; write for example outcome: rewritten or strategy: mig")
        return self


def _manifest_or_path(value: Any) -> Any:
    if not isinstance(value, dict | str):
        raise ValueError("is neither an object nor the path of a file; write one of them")  # noqa: TRY004  pydantic asks for it
    return value


_Manifest = Annotated[dict[str, Any] | str, BeforeValidator(_manifest_or_path)]


class Case(_Strict):
    """One manifest and what is expected of it."""

    name: str
    manifest: _Manifest
    """The object, or the path of a file that holds one."""
    old: _Manifest | None = None
    """The same object as it stands, or the path of a file that holds it: an UPDATE is judged."""
    namespace: str | None = None
    expect: Expectation


class Suite(_Strict):
    """One file of policy tests."""

    snapshot: tuple[str, ...]
    """Files of the cluster (nodes, namespaces, policies), relative to this file."""
    namespace: str = "default"
    cases: tuple[Case, ...] = Field(min_length=1)


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `test`."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="policy tests, or a directory: every file in it that has cases",
    )
    parser.add_argument("--junit", metavar="FILE", help="write the results there too, as JUnit's XML")
    watch_argument(parser, "run again whenever a file beside the tests changes")
    kinds_argument(parser)


def run(options: Namespace) -> int:
    """Runs policy tests; prints a line for each case and exits 1 when one fails."""
    if not options.watch:
        return _run_once(options)
    folders = [name if Path(name).is_dir() else str(Path(name).parent) for name in options.files]
    while True:
        before = stamps(folders)
        try:
            _run_once(options)
        except BadInput as error:
            tell(str(error))
        tell("waiting for a change; stop with Ctrl-C")
        wait_for_change(folders, before)


def _run_once(options: Namespace) -> int:
    kinds = templates(options)
    results: list[CaseResult] = []
    for name in _files(options.files):
        suite, folder = _suite(name)
        cluster = _cluster(suite, folder)
        known = world(cluster)
        write(name)
        namespaces: set[str] = set()
        for case in suite.cases:
            start = time.perf_counter()
            result = _judged(case, suite, folder, known, kinds, name)
            namespaces.add(result.namespace)
            faults = list(_faults(case.expect, result))
            results.append(CaseResult(name, case.name, time.perf_counter() - start, faults))
            write(line(f"  {'FAIL' if faults else 'ok  '}  {case.name}"))
            for fault in faults:
                write(line(f"          {fault}"))
        for sentence in unknown_namespaces(namespaces, cluster.namespaces):
            tell(f"warning: {name}: {sentence}")
    if options.junit is not None:
        junit.write(options.junit, results)
    failed = sum(bool(each.faults) for each in results)
    tell(f"{len(results) - failed} passed, {failed} failed")
    return int(bool(failed))


def _files(names: Iterable[str]) -> Iterator[str]:
    """Yields files of tests; of a directory, those that have cases, for snapshots and manifests lie beside them."""
    for name in names:
        if not name or not Path(name).is_dir():
            yield name
            continue
        inside = [str(each) for each in sorted(Path(name).rglob("*")) if each.suffix in {".yaml", ".yml"}]
        found = [each for each in inside if _has_cases(each)]
        if not found:
            raise BadInput(f"{name}: holds no .yaml file with cases; write one (docs/policy-tests.md)")
        yield from found


def _has_cases(name: str) -> bool:
    documents = read_documents(name, sys.stdin)
    return len(documents) == 1 and "cases" in documents[0].value


def _suite(name: str) -> tuple[Suite, Path]:
    documents = read_file(name, sys.stdin)
    if len(documents) != 1:
        raise BadInput(f"{name}: holds {len(documents)} documents; write one with snapshot and cases")
    value = documents[0].value
    if "kind" in value and "cases" not in value:
        raise BadInput(
            f"{name}: holds a {value['kind']} and no cases; name a file of cases (docs/policy-tests.md)"
        )
    try:
        return Suite.model_validate(value), Path(name).parent
    except ValidationError as error:
        field, message = field_errors.first(error, Suite)
        raise BadInput(f"{name}: document 1: {field}: {message}") from None


def _cluster(suite: Suite, folder: Path) -> Snapshot:
    return collect(d for each in suite.snapshot for d in read_file(str(folder / each), sys.stdin))


def _judged(
    case: Case, suite: Suite, folder: Path, known: ClusterState, kinds: Templates, name: str
) -> Result:
    old = None if case.old is None else _manifest(case, case.old, "old", folder, name)
    manifest = _manifest(case, case.manifest, "manifest", folder, name)
    return review(manifest, case.namespace or suite.namespace, known, kinds, old)


def _faults(expect: Expectation, result: Result) -> Iterator[str]:
    outcome, decision = result.outcome.name, result.outcome.whole
    if expect.outcome is not None and outcome != expect.outcome:
        yield f"the outcome was to be {expect.outcome} and is {outcome}{_why(result)}"
    for field, wanted, got in (
        ("class", expect.class_name, decision.class_name if decision else None),
        ("strategy", expect.strategy, decision.strategy if decision else None),
        ("pools", expect.pools, decision.pools if decision else None),
    ):
        if wanted is not None and wanted != got:
            yield f"the {field} {_words(wanted)} was expected, and it is {_words(got)}{_why(result)}"
    for container, gets in (expect.containers or {}).items():
        # Containers of one name in several templates are told apart by `POINTER:NAME`; its name alone means them all.
        named = decision.containers.items() if decision else ()
        found = {
            (each.to, each.count) for name, each in named if container in {name, name.rpartition(":")[2]}
        }
        if found != {(gets.to, gets.count)}:
            shown = " and ".join(f"{count} {to}" for to, count in sorted(found)) or "nothing"
            yield f"container {container} was to get {gets.count} {gets.to} and gets {shown}{_why(result)}"
    said = [result.refusal, *result.outcome.warnings]
    if expect.message is not None and not any(expect.message in sentence for sentence in said):
        answer = " / ".join(filter(None, said)) or "nothing"
        yield f"{expect.message!r} was to be said, and what is said is: {answer}"


def _words(value: str | tuple[str, ...] | None) -> str:
    return value if isinstance(value, str) else ", ".join(value or ()) or "none"


def _why(result: Result) -> str:
    return f" ({result.refusal})" if result.refusal else ""


def _manifest(
    case: Case, written: dict[str, Any] | str, field: str, folder: Path, name: str
) -> dict[str, Any]:
    if isinstance(written, str):
        documents = read_file(str(folder / written), sys.stdin)
    else:
        documents = [Document(f"{name}: case {case.name!r}: {field}", 1, written)]
    items = [item for document in documents for item in document.objects()]
    if len(items) != 1:
        raise BadInput(f"{name}: case {case.name!r}: {field}: holds {len(items)} objects; write one")
    return items[0]
