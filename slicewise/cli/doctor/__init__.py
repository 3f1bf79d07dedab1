"""`slicewise doctor`: what is wrong or risky in a cluster, in order of importance, and how to mend it.

Pure checks over a snapshot (`installation`, `webhooks`, `engines`, `namespaces`, `policies`, `nodes`, `configurations`,
`quotas`, `autoscaling`), each a generator of findings; `patient` is what they look at, and `live` alone talks to
a server.
"""

from slicewise.cli.doctor.cluster import Patient, admit
from slicewise.cli.doctor.command import arguments, examined, findings, run
from slicewise.cli.doctor.findings import CODES, Finding, Severity

__all__ = ["CODES", "Finding", "Patient", "Severity", "admit", "arguments", "examined", "findings", "run"]
