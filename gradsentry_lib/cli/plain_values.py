"""What a command was told, without pydantic where it has nothing to do: it takes a fifth of a second to come, and Typer
asks it of every option, also of text and of what nobody said.
"""

from typing import Any


def plain_values(parameters: list[Any]) -> list[Any]:
    """A command's parameters, which take text and nothing as they are; for all else Typer is asked."""
    for parameter in parameters:
        if "get_runtime_param" not in vars(parameter):
            parameter.get_runtime_param = _Plain(parameter.get_runtime_param).get
    return parameters


class _Plain:
    def __init__(self, typers: Any) -> None:
        self.typers = typers

    def get(self) -> "_Plain":
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """As Typer's own: several values are none where nothing is said."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(value, str) and param.type_descriptor.annotation is str:
            return value
        return self.typers().coerce(value, param=param, ctx=ctx)
