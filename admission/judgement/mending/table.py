"""The menders by the names that the table of kinds gives them."""

from collections.abc import Mapping
from typing import Final

from admission.judgement.mending import serving, training
from admission.judgement.mending.fields import Mender

MENDERS: Final[Mapping[str, Mender]] = {
    each.__name__: each
    for each in (
        training.total,
        training.follow,
        training.ray,
        training.rayjob,
        training.rayservice,
        training.kubeflow,
        training.trainjob,
        training.runtime,
        training.hyperjob,
        training.jobflow,
        training.podgroup,
        training.argo,
        training.taskrun,
        training.spark,
        training.sparkconf,
        serving.kserve,
        serving.llm,
        serving.dynamo,
    )
}
