"""A tokenizer as the library `tokenizers` reads it, with the few names of transformers' that the scorer asks for.

transformers' own tokenizers do the same through the same library, behind a second of imports. Whether a model's does
exactly the same is found by trying (tested.py): its serialised form, its special tokens, its chat template and what it
makes of some awkward texts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.scoring.checkpoint import read_if_object

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# What tokenizers have been seen to differ in: white space, accents in two forms, scripts, control tokens, digits.
AWKWARD = (
    *(
        "",
        " ",
        "a",
        " leading and  double  spaces\t\n\n",
        "naïve nai\u0308ve ﬁ Å",
        "日本語 العربية עברית 한국어 ไทย",
        "👩‍👩‍👧 🏳️‍🌈",
    ),
    *(
        "<|im_start|>user\nhi<|im_end|>\n",
        "</s><s>[INST] x [/INST]",
        "3.14159 1,000,000 0x1F",
        "def f(x):\n    return x\n",
    ),
    *("it's don't I'LL", "\u200b\ufeff\u00a0\u2028", "\x00\x07\x7f", "a" * 300, "### Answer:\n"),
)


@dataclass(frozen=True, eq=False)
class PlainTokenizer:
    """`named`: the special tokens by transformers' names."""

    backend: Any
    named: dict[str, str]
    chat_template: str | None
    is_fast: bool = True

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        made = self.backend.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": list(made.ids), "offset_mapping": list(made.offsets)}

    def __getattr__(self, name: str) -> Any:
        """`eos_token`, `eos_token_id` and the like: None where the tokenizer has none."""
        if name in NAMED:
            return self.named.get(name)
        if name.removesuffix("_id") in NAMED:
            token = self.named.get(name.removesuffix("_id"))
            return None if token is None else self.backend.token_to_id(token)
        raise AttributeError(name)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return self.named

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        return dict(self.backend.get_added_tokens_decoder())

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: number for number, token in sorted(self.added_tokens_decoder.items())}

    def get_chat_template(self, _: Any = None, __: Any = None) -> str:
        assert self.chat_template is not None
        return self.chat_template


def plain_tokenizer(folder: Path) -> PlainTokenizer:
    """The tokenizer of a folder. Raises BadInput where it is kept in another form."""
    from tokenizers import Tokenizer

    told = read_if_object(folder / "tokenizer_config.json")
    named = {name: token for name in NAMED if isinstance(token := _content(told.get(name)), str)}
    template = told.get("chat_template")
    if (folder / "chat_template.jinja").is_file():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if not (folder / "tokenizer.json").is_file() or not (template is None or isinstance(template, str)):
        raise UnusableModel(f"{folder} has a tokenizer of a kind that is not written out")
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.no_truncation()
    return PlainTokenizer(backend, named, template)


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def same_tokenizer(plain: PlainTokenizer, full: Any) -> bool:
    """Whether it is transformers' tokenizer in all that the scorer asks of one."""
    backend = getattr(full, "backend_tokenizer", None)
    if backend is None or json.loads(backend.to_str()) != json.loads(plain.backend.to_str()):
        return False
    if isinstance(full.chat_template, dict) or plain.chat_template != full.chat_template:
        return False
    if {name: str(token) for name, token in full.special_tokens_map.items() if name in NAMED} != plain.named:
        return False
    if set(full.special_tokens_map) - set(NAMED):
        return False
    pairs: list[tuple[Any, Any]] = [(plain.get_added_vocab(), full.get_added_vocab())]
    pairs += [(getattr(plain, f"{name}_id"), getattr(full, f"{name}_id")) for name in NAMED]
    mine, its = ({n: (t.content, t.special) for n, t in each.added_tokens_decoder.items()} for each in (plain, full))
    pairs.append((mine, its))
    for text in AWKWARD:
        for special in (True, False):
            told = full(text, add_special_tokens=special, return_offsets_mapping=True)
            made = plain(text, add_special_tokens=special)
            pairs += [(made[name], list(told[name])) for name in ("input_ids", "offset_mapping")]
            pairs.append((plain.encode(text, special), full.encode(text, add_special_tokens=special)))
    return all(a == b for a, b in pairs)
