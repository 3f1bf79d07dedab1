"""Results of tests as JUnit's XML, which CI systems show: suites, cases, and what failed in each."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from slicewise.api.errors import BadInput
from slicewise.cli.output import escaped

_NO_XML: Final = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for (section 2.2, production 2)."""


class CaseResult(NamedTuple):
    """One case: its file, its name, how long it took in seconds, and a sentence for each thing that failed."""

    suite: str
    name: str
    seconds: float
    faults: Sequence[str]


def write(path: str, results: Iterable[CaseResult]) -> None:
    """Writes results to a file.

    Raises:
        BadInput: it cannot be written.
    """
    by_suite: dict[str, list[CaseResult]] = {}
    for each in results:
        by_suite.setdefault(each.suite, []).append(each)
    root = ElementTree.Element("testsuites")
    for suite, cases in by_suite.items():
        failures = sum(bool(case.faults) for case in cases)
        parent = ElementTree.SubElement(
            root, "testsuite", name=suite, tests=str(len(cases)), failures=str(failures), errors="0"
        )
        for case in cases:
            element = ElementTree.SubElement(
                parent, "testcase", classname=suite, name=case.name, time=f"{case.seconds:.3f}"
            )
            if case.faults:
                failure = ElementTree.SubElement(element, "failure", message=case.faults[0])
                failure.text = "\n".join(case.faults)
    ElementTree.indent(root)
    text = _NO_XML.sub(escaped, ElementTree.tostring(root, encoding="unicode", xml_declaration=True))
    try:
        Path(path).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--junit {path}: cannot be written: {error.strerror}; name a file that can be"
        ) from None
