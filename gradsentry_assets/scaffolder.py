"""What `dg scaffold defs gradsentry_assets.GradSentryComponent NAME` writes."""

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field


class StageParams(BaseModel):
    """At most one of them; a folder in the project if none is given."""

    asset: str | None = Field(default=None, description="The key of an asset of yours that the stage reads.")
    folder: str | None = Field(default=None, description="A folder, a URL or a pattern of files that arrive.")
    file: str | None = Field(default=None, description="One file or URL.")


class StageScaffolder(dg.Scaffolder[StageParams]):
    """A stage of the folder's name, on the source that was named."""

    @classmethod
    def get_scaffold_params(cls) -> type[StageParams]:
        return StageParams

    def scaffold(self, request: dg.ScaffoldRequest[StageParams]) -> None:
        name = "".join(letter if letter.isalnum() else "_" for letter in request.target_path.name)
        source = {kind: place for kind, place in request.params.model_dump().items() if place}
        attributes = {"name": name, "source": source or {"folder": f"data/{name}"}, "group": name}
        scaffold_component(request, attributes)
