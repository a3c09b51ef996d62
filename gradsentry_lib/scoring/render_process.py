"""Renders chat templates in a process of their own, started by render.py; imports nothing of the project.

A template is a program of the model's author. Jinja's sandbox keeps it from Python's internals, but not from running
for ever or from filling memory, and a sandbox can have holes. So it runs where the kernel bounds it: processor time
(the process dies at the limit, also inside one endless multiplication), memory, and no file, socket or process can be
opened once the first template is read. The environment is the one in which transformers renders, so that the text is
a trainer's to the byte.

One JSON object a line, in and out. In: {"template", "variables", "tools", "pool": [message, ...], "renders":
[{"messages": [place in the pool, ...], "prompt"}, ...]}. Out: a list of {"same", "text", "generated": [[start, end],
...]} or {"failed": kind, "words"}, one a render; "same" is how much of the first rendering a text begins with, and
"text" the rest: what is rendered are mostly the beginnings of one conversation.
"""

import json
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.constants
import jinja2.debug
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

SECONDS = 2.0  # of processor time, a render; a real template takes about a thousandth of one
MEMORY = 1 << 29
LEAST_CHARACTERS = 1 << 20  # of a rendering that are always allowed
GROWTH = 16  # a rendering may be so many times what goes in


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: the template says itself what the assistant generates. Tells where that text stands."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_kept"), [], [], body).set_lineno(line)

    def _kept(self, caller: jinja2.runtime.Macro) -> str:
        text = caller()
        written = self.environment.written  # type: ignore[attr-defined]
        written.generated.append((written.size, text))
        return text


class Written:
    """What a running template has written so far."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.parts: list[str] = []
        self.size = 0
        self.generated: list[tuple[int, str]] = []

    def take(self, parts: Iterator[str]) -> str:
        for part in parts:
            self.size += len(part)
            if self.size > self.limit:
                raise TooLong(f"it wrote more than {self.limit:,} characters")
            self.parts.append(part)
        return "".join(self.parts)


class TooLong(Exception):
    """A rendering out of all proportion to what went in."""


class Dict:
    """`dict(...)` in a template, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    """`namespace(...)` that takes no name of Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may name one `self`
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} cannot be set on a namespace")


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja's, where what may not be touched raises at once, not only when it is used further."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.runtime.Undefined:
        raise jinja2.exceptions.SecurityError(f"access to {attribute!r} of a {type(obj).__name__}")


NOW = time.localtime()  # one moment for all renderings, so that those of one row agree


def environment() -> Sandbox:
    """The environment of transformers' `apply_chat_template`."""
    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: time.strftime(form, NOW),
        "dict": Dict(),
        "namespace": Namespace,
    }
    return made


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    return environment().from_string(template)


def render(template: str, variables: dict[str, Any], job: dict[str, Any], size: int) -> dict[str, Any]:
    """One rendering of a request of `size` characters, or why there is none."""
    try:
        compiled = _compiled(template)
        written = Written(LEAST_CHARACTERS + GROWTH * size)
        compiled.environment.written = written  # type: ignore[attr-defined]
        told = {"messages": job["messages"], "tools": job["tools"], "documents": None}
        text = written.take(compiled.generate(**{**told, "add_generation_prompt": job["prompt"], **variables}))
    except jinja2.exceptions.SecurityError as error:
        return _failed("escape", error)
    except jinja2.exceptions.TemplateSyntaxError as error:
        return _failed("syntax", error)
    except MemoryError:
        return {"failed": "stopped", "words": "it needed more than 512 MB of memory"}
    except TooLong as error:
        return _failed("stopped", error)
    except BaseException as error:  # a template may raise anything, `RecursionError` too
        return _failed("refused", error)
    generated = [[start, start + len(part)] for start, part in written.generated]
    in_place = all(
        text[start:end] == part for (start, end), (_, part) in zip(generated, written.generated, strict=True)
    )
    return {"text": text, "generated": generated if in_place else []}


def _failed(kind: str, error: BaseException) -> dict[str, Any]:
    words = " ".join(str(error).split())[:500] or type(error).__name__
    return {"failed": kind, "words": words}


# Has Python and Jinja read all the modules that they read when first needed, while files can still be opened.
WARM_UP = (
    r"{% macro m(x) %}{{ x | upper }}{% endmacro %}{% for i in range(2) %}{{ m('\n\u00e9') }}{% break %}{% endfor %}",
    "{% set n = namespace(a=1) %}{% set n.a = 2 %}{{ [{'b': n.a}] | tojson(indent=2) }}{{ '%s' | format(1) }}",
    "{% generation %}{{ ' a b' | trim | wordwrap(1) }}{% endgeneration %}{{ '<b>' | escape | striptags | urlize }}",
    "{{ strftime_now('%c %Z') }}{{ '{:>3}'.format(1) }}{{ '1.5' | float | round | int }}{{ [2, 1] | sort | join }}",
    "{{ {'b': 1} | dictsort | map('first') | list }}{{ [1, 2] | random }}{{ lipsum(1, false, 5, 9) }}",
    "{{ raise_exception('no') }}",
    "{{ missing.attribute }}",
    "{{ ''.__class__.__mro__ }}",
    "{% for %}",
)


def confine() -> None:
    """No more memory than MEMORY; nothing can be opened, written to disk or started from here on."""
    for template in WARM_UP:
        render(template, {}, {"messages": [], "tools": None, "prompt": False}, 0)
    highest = max(sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()) + 1
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_NOFILE, highest),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with suppress(ValueError, OSError):  # a limit that is lower already stays
            resource.setrlimit(kind, (limit, limit))


def shortened(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers, each text without what it has in common with the first one's."""
    first = answers[0].get("text", "") if answers else ""
    for answer in answers[1:]:
        if "text" in answer:
            same = common(first, answer["text"])
            answer |= {"same": same, "text": answer["text"][same:]}
    return answers


def common(left: str, right: str) -> int:
    """How many characters two texts begin with alike."""
    same, end = 0, min(len(left), len(right))
    while same < end:
        middle = (same + end + 1) // 2
        same, end = (middle, end) if left[same:middle] == right[same:middle] else (same, middle - 1)
    return same


def main() -> None:
    confine()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the scan ends this one by closing its input
    for line in sys.stdin:
        request = json.loads(line)
        answers = []
        for job in request["renders"]:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            messages = [request["pool"][place] for place in job["messages"]]
            one = {"messages": messages, "tools": request["tools"], "prompt": job["prompt"]}
            answers.append(render(request["template"], request["variables"], one, len(line)))
            signal.setitimer(signal.ITIMER_PROF, 0)
        try:
            told = json.dumps(shortened(answers))
        except MemoryError:
            told = json.dumps([{"failed": "stopped", "words": "it needed more than 512 MB of memory"}] * len(answers))
        sys.stdout.write(told + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
