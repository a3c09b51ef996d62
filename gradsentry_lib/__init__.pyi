from gradsentry_lib.api import Gate as Gate
from gradsentry_lib.api import Result as Result
from gradsentry_lib.api import Scorer as Scorer
from gradsentry_lib.api import scan as scan
from gradsentry_lib.api import scorer as scorer
from gradsentry_lib.errors import BadInput as BadInput
from gradsentry_lib.errors import GateFailed as GateFailed
from gradsentry_lib.errors import GradSentryError as GradSentryError

__version__: str
__all__ = [
    "BadInput",
    "Gate",
    "GateFailed",
    "GradSentryError",
    "Result",
    "Scorer",
    "__version__",
    "scan",
    "scorer",
]
