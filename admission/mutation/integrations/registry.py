"""The menders by the names that the table of kinds gives them.

Each mends one place of one kind (`fields.Case`); docs/kinds.md says why, with sources.
"""

from collections.abc import Mapping
from typing import Final

from admission.mutation.integrations import generic, kubeflow, pipelines, ray, serving, spark, volcano
from admission.mutation.integrations.side_fields import SideFieldFixer

FIXERS: Final[Mapping[str, SideFieldFixer]] = {
    each.__name__: each
    for each in (
        generic.total,
        generic.follow,
        ray.ray,
        ray.rayjob,
        ray.rayservice,
        kubeflow.kubeflow,
        kubeflow.trainjob,
        kubeflow.runtime,
        volcano.hyperjob,
        volcano.jobflow,
        volcano.podgroup,
        pipelines.argo,
        pipelines.taskrun,
        spark.spark,
        spark.sparkconf,
        serving.kserve,
        serving.llm,
        serving.dynamo,
    )
}
UNDOERS: Final[Mapping[str, SideFieldFixer]] = {
    generic.total.__name__: generic.without,
    kubeflow.kubeflow.__name__: kubeflow.without_minimum,
    kubeflow.trainjob.__name__: kubeflow.without_patch,
    ray.ray.__name__: ray.without_counts,
    spark.spark.__name__: spark.without_resources,
}
"""What takes away that which carried a decision to the pods, and what followed it."""
REMARKS: Final[Mapping[str, SideFieldFixer]] = {
    pipelines.argo.__name__: pipelines.argo,
    spark.spark.__name__: spark.sparkconf,
    spark.sparkconf.__name__: spark.sparkconf,
}
"""What is to be said of fields that ask for GPUs where no container does."""
