"""What the models of both kinds stand on: their base, the error of a rule that spans fields, and plain values."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from slicewise.api.quantities import MOST

_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=_NAME, max_length=63)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=253)]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Number = Annotated[int, Field(strict=True)]
"""`true` and "3" are none, as the API server has it."""
Share = Annotated[int, Field(strict=True, ge=0, le=MOST)]


class FieldError(ValueError):
    """A rule that spans fields is broken; `field` is the path, below the model, of the one to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Model(BaseModel):
    """Fields in camelCase, none unknown, none changed after reading."""

    # Each call of the command is a new process, which pays for the models that it reads something into.
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, defer_build=True
    )
