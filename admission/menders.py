"""The menders by the names that the table of kinds gives them."""

from collections.abc import Mapping
from typing import Final

from admission import menders_serving as serving
from admission import menders_training as training
from admission.mending import Mender

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
