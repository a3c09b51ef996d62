"""Templates that wish harm: stopped, said, and nothing of the machine within their reach."""

import os
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.scoring import render_process
from gradsentry_lib.scoring.encoding import EncodingError, encode
from gradsentry_lib.scoring.render import TRIES, Failed, Job, Rendered, Renderer
from tests.scoring.chats import chat, tokenizer

HELLO = [{"role": "user", "content": "Hello."}]
ROW = chat(("user", "One?"), ("assistant", "First."))


def rendered(template: str, renderer: Renderer, **variables: Any) -> Rendered | Failed:
    (found,) = renderer.render(template, variables, [Job(HELLO)])
    return found


@pytest.fixture(scope="module")
def renderer() -> Any:
    made = Renderer()
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A renderer whose process stops a template after a twentieth of a second."""
    text = Path(render_process.__file__).read_text()
    assert "SECONDS = 2.0" in text
    (tmp_path / "render_process.py").write_text(text.replace("SECONDS = 2.0", "SECONDS = 0.05"))
    monkeypatch.setattr("gradsentry_lib.scoring.render.__file__", str(tmp_path / "render.py"))
    made = Renderer()
    yield made
    made.close()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__']['__base__'] }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set n = namespace(__class__=1) %}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ dict.__class__ }}",
    ],
)
def test_a_template_that_reaches_outside_its_sandbox_is_not_used(template: str, renderer: Renderer) -> None:
    found = rendered(template, renderer)
    assert isinstance(found, Failed) and found.kind == "escape", found
    with pytest.raises(BadInput, match="chat template reaches outside its sandbox"):
        encode(ROW, tokenizer(template), 100)


def test_a_template_that_is_none_is_not_used(renderer: Renderer) -> None:
    assert rendered("{% for %}", renderer).kind == "syntax"  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="chat template cannot be read"):
        encode(ROW, tokenizer("{% for m in messages %}"), 100)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{% if 'a' in 'b' %}{% endif %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{% macro m(n) %}{% for i in range(9) %}{{ m(n - 1) if n else '' }}{% endfor %}{% endmacro %}{{ m(90) }}",
        "{% set n = namespace(x='ab' * 9999) %}{% for i in range(99999) %}{% set n.x = n.x | reverse | list | join %}"
        "{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(template: str, impatient: Renderer) -> None:
    found = rendered(template, impatient)
    assert isinstance(found, Failed) and found.kind == "stopped", found
    assert rendered("{{ messages[0].content }}", impatient) == Rendered("Hello.")


def test_a_template_that_was_stopped_often_is_not_tried_again(impatient: Renderer) -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    for _ in range(TRIES):
        assert rendered(endless, impatient).kind == "stopped"  # type: ignore[union-attr]
    impatient.close()
    assert rendered(endless, impatient).kind == "stopped" and impatient._process is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content * 10 ** 8 }}",
        "{{ messages[0].content * 10 ** 10 }}",
        "{% for i in range(99999) %}{{ messages[0].content * 999 }}{% endfor %}",
        "{{ '%999999999d' | format(1) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ '{:>2000000000}'.format('a') }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ messages | tojson(indent=10 ** 9) }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
        "{% generation %}{{ messages[0].role * 10 ** 8 }}{% endgeneration %}",
    ],
)
def test_a_template_that_writes_without_end_is_stopped(template: str, renderer: Renderer) -> None:
    found = rendered(template, renderer)
    assert isinstance(found, Failed) and found.kind == "stopped", str(found)[:300]
    with pytest.raises(EncodingError, match="chat template was stopped"):
        encode(ROW, tokenizer(template), 100)


@pytest.mark.parametrize(
    "template", ["{{ range(10 ** 9) | list }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_fails_is_a_reason_of_the_row(template: str, renderer: Renderer) -> None:
    assert rendered(template, renderer).kind == "refused"  # type: ignore[union-attr]
    with pytest.raises(EncodingError, match="chat template refuses the conversation"):
        encode(ROW, tokenizer(template), 100)


def test_the_process_can_open_nothing_and_knows_nothing(
    monkeypatch: pytest.MonkeyPatch, renderer: Renderer, tmp_path: Path
) -> None:
    """What a hole in the sandbox would find: no file, no socket, no program, and none of this process's variables."""
    code = (
        Path(render_process.__file__)
        .read_text()
        .replace(
            "def _raise(message: str) -> None:", "def _raise(message: str) -> None:\n    return str(eval(message))\n"
        )
    )
    (tmp_path / "render_process.py").write_text(code)
    monkeypatch.setattr("gradsentry_lib.scoring.render.__file__", str(tmp_path / "render.py"))
    monkeypatch.setenv("GRADSENTRY_SIGNING_PASSWORD", "secret")
    holed = Renderer()
    try:
        assert rendered("{{ raise_exception('1 + 1') }}", holed) == Rendered("2")
        for attempt in (
            "open('/etc/hostname').read()",
            f"open('{tmp_path / 'made'}', 'w')",
            "__import__('os').popen('true').read()",
            "__import__('_socket').socket()",
            "__import__('os').pipe()",
        ):
            found = rendered(f"{{{{ raise_exception({attempt!r}) }}}}", holed)
            assert isinstance(found, Failed), (attempt, found)
        inside = rendered("{{ raise_exception('list(__import__(\"os\").environ)') }}", holed)
        assert isinstance(inside, Rendered) and "GRADSENTRY" not in inside.text
    finally:
        holed.close()
    assert not (tmp_path / "made").exists()


def test_a_process_that_died_is_started_anew(renderer: Renderer) -> None:
    rendered("{{ 1 }}", renderer)
    assert renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    assert rendered("{{ messages[0].content }}", renderer) == Rendered("Hello.")


def test_it_ends_with_its_parent(renderer: Renderer) -> None:
    rendered("{{ 1 }}", renderer)
    process = renderer._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0
    assert os.getpid() != process.pid


def test_what_a_row_holds_is_no_template(renderer: Renderer) -> None:
    row = chat(("user", "{{ ''.__class__ }}"), ("assistant", "{% for %} {{ 7 * 7 }} {# no #}"))
    tokens = tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}")
    assert "{% for %} {{ 7 * 7 }} {# no #}" in tokens.decode(encode(row, tokens, 1000).ids)


def test_text_of_any_kind_comes_back_as_it_went(renderer: Renderer) -> None:
    for text in ("\u2028 \x00\x1b[31m", "😀 中文 العربية", "\ud800", 'quote " \\ / \n\t'):
        (found,) = renderer.render("{{ messages[0].content }}", {}, [Job([{"role": "user", "content": text}])])
        assert found == Rendered(text)
