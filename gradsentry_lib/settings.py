"""Every option of GradSentry, once: name, default, unit, range, meaning, environment variable.

`Settings` holds their values. The library takes one; the command's options (cli/options.py), the fields of Dagster's
resources (gradsentry_assets/resources.py) and docs/options.md are made from the same fields, so no option exists in one
of them alone, unless `only` says why. What is given goes over the environment, the environment over the default.

A frozen dataclass rather than pydantic-settings: what is asked of each option here is a dozen lines, an error is one
sentence that names the option or the variable, and a value that nobody uses in this process is not looked at.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gradsentry_lib.errors import UnusableOption

EMBEDDED = "embedded"  # the name of the model that the project brings along
POLICIES = ("auto", "paper")
FORMER_POLICIES = ("conditional", "coherence", "surprise", "any")  # of earlier versions: each means "auto" now
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Option:
    """What there is to say of one option.

    `group`: the Dagster resource it is a field of, or what else it belongs to. `otherwise`: in words, what counts where
    nobody says anything, if that is not the default itself. `usual`: that as a value, where there is one. `flag`,
    `field`, `variable`: its names on the command line, in Dagster and in the environment where they do not follow from
    `name`. `only`: where it is (command, dagster, environment) if not everywhere, and why.
    """

    name: str
    kind: type
    default: Any
    help: str
    group: str
    otherwise: str = ""
    usual: Any = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    former: tuple[str, ...] = ()  # choices of earlier versions, which are still understood
    flag: str = ""
    field: str = ""
    variable: str = ""
    secret: bool = False
    only: str = ""

    def __post_init__(self) -> None:
        for name, usual in (
            ("flag", f"--{self.name.replace('_', '-')}"),
            ("field", self.name),
            ("variable", f"GRADSENTRY_{self.name.upper()}"),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, usual)

    @property
    def places(self) -> tuple[str, ...]:
        """Where it can be said: as an option of the command, as a field of a Dagster resource, or in neither."""
        return (self.only.partition(":")[0],) if self.only else ("command", "dagster")

    @property
    def range(self) -> str:
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None:
            return ""
        return f"{self.low:g} to {self.high:g}" if self.high is not None else f"{self.low:g} or more"

    @property
    def without(self) -> str:
        """What counts where neither the caller nor the environment says anything."""
        return self.otherwise or ("nothing" if self.default in (None, "") else str(self.default))

    @property
    def told(self) -> str:
        """In a sentence or two, for `--help` and the launchpad."""
        within = f" ({self.range})" if self.range else ""
        return f"{self.help}{within}. If left out: {self.variable}, else {self.without}."

    def check(self, value: Any, said: str = "") -> None:
        """Raises UnusableOption for a value out of range. `said`: where it comes from, if not from the caller."""
        if value is None:
            return
        label = said or self.name
        if self.choices and value not in (*self.choices, *self.former):
            words = said or self.name.replace("_", " ")
            raise UnusableOption(f"unknown {words} {value!r}: choose one of {self.range}")
        if self.low is None:
            return
        if self.high is not None and not self.low <= value <= self.high:
            raise UnusableOption(f"{label} must lie between {self.low:g} and {self.high:g}, not {value}")
        if not self.low <= value:
            raise UnusableOption(f"{label} {value}: give at least {self.low:g}{f' {self.unit}' if self.unit else ''}")

    def parse(self, text: str) -> Any:
        """The value of the environment variable. Raises UnusableOption, which names that."""
        if self.kind is bool:
            if text.lower() not in (*YES, *NO):
                raise UnusableOption(f"{self.variable} is neither 1 nor 0: {text!r}")
            return text.lower() in YES
        try:
            value = self.kind(text)
        except ValueError:
            raise UnusableOption(f"{self.variable} is no number: {text!r}") from None
        self.check(value, self.variable)
        return value


def _option(default: Any, group: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"group": group, "help": help, **more})


_LIMIT = {"unit": "fraction of rows", "low": 0.0, "high": 1.0}
_RUN_BY = "environment: read where Dagster loads its definitions, no scan depends on it"
_PLACE = "environment: one place for all that this user runs on this machine"


@dataclass(frozen=True)
class Settings:
    """The value of every option; `read()` makes one. Raises UnusableOption for a value out of range."""

    # Where things lie.
    home: str = _option(
        ".gradsentry",
        "store",
        "The store: ledger, batches, score cache; a folder",
        otherwise="`.gradsentry` in the working directory",
        only="dagster: every command has to mean the same store, so the command reads the variable",
    )
    outputs: str | None = _option(
        None,
        "store",
        "Where the results of every published batch go besides, each in a folder of the batch's name: a folder or an "
        "fsspec URL (s3://...)",
        otherwise="nowhere else than in the store",
        only="dagster: the command has --out, and Python `result.save(...)`",
    )
    cache: str | None = _option(
        None, "store", "Where the embedded model is kept", otherwise="`gradsentry` in the user's cache", only=_PLACE
    )
    tested: str | None = _option(
        None,
        "store",
        "Where the results of the scorer's self-tests are kept",
        otherwise="`tested` in the cache",
        only=_PLACE,
    )
    landing: str | None = _option(
        None,
        "landing",
        "Where batches arrive: a folder or an fsspec URL (s3://...)",
        otherwise="`landing` in the store",
        field="url",
        only="dagster: the command is given its source",
    )
    landing_pattern: str = _option(
        "*",
        "landing",
        "Which files are batches, like `team-a/*`",
        field="pattern",
        only="dagster: the command is given its source",
    )
    landing_mapping: str | None = _option(
        None,
        "landing",
        "LLaMA-Factory's dataset_info.json or Axolotl's YAML, by which files are read",
        field="mapping",
        only="dagster: the command has --mapping for its one source",
    )
    landing_marker: bool = _option(
        False,
        "landing",
        "Wait for `<file>.done` instead of for a file to settle",
        otherwise="0",
        field="done_marker",
        only="dagster: the command is given its source",
    )

    # What scores.
    model: str = _option(EMBEDDED, "model", "Scoring model: a folder, a .gguf file, a hub name, or `embedded`")
    revision: str | None = _option(
        None, "model", "Branch, tag or commit of a hub model", otherwise="the hub's main branch"
    )
    base_model: str | None = _option(None, "model", "An adapter's base", otherwise="where the adapter says")
    device: str = _option("auto", "model", "auto, cpu, cuda, cuda:N, or spread: over all there is, then disk")
    dtype: str = _option(
        "auto", "model", "Number format of the model", choices=("auto", "float32", "bfloat16", "float16", "float64")
    )
    max_memory: str | None = _option(
        None,
        "model",
        "With the device `spread`: what the model may take, such as 0=20GiB,cpu=40GiB",
        otherwise="what is free",
        only="environment: it is the machine's, and differs between the nodes of one deployment",
    )
    max_tokens: int | None = _option(
        None, "model", "Longest sample; longer ones are cut", unit="tokens", low=2, otherwise="the model's limit"
    )
    module: str | None = _option(
        None, "model", "Linear layer whose gradient gives the entropy", otherwise="the output projection"
    )
    k: int = _option(16, "model", "Singular values the entropy is of", unit="singular values", low=2)
    crop: int = _option(8, "model", "Part of the gradient looked at: 1/crop a side, 1: all of it", low=1)
    token_budget: int | None = _option(
        None, "model", "Tokens in one pass", unit="tokens", low=1, otherwise="sized to the device"
    )
    engine: str = _option(
        "local", "model", "Where to score: in the process itself, or on a Ray cluster", choices=("local", "ray")
    )
    ray_address: str | None = _option(
        None, "model", "Ray cluster to join", otherwise="RAY_ADDRESS, or one of this machine's own"
    )
    resident: str = _option(
        "auto", "model", "Whether to score with the model that `gradsentry serve` keeps loaded", choices=("auto", "off")
    )
    workers: int | None = _option(
        None, "model", "With Ray: models loaded at once", unit="models", low=1, otherwise="one a GPU"
    )

    # What the scores mean.
    policy: str = _option(
        "auto",
        "judging",
        "How scores become verdicts; `paper`: the published score",
        choices=POLICIES,
        former=FORMER_POLICIES,
    )
    threshold: float | None = _option(
        None, "judging", "A fixed entropy threshold", low=0.0, high=1.0, otherwise="the one that the batch shows"
    )
    max_flagged: float | None = _option(
        None, "judging", "Gate: largest flagged fraction", usual=0.5, otherwise="the store's own (0.5)", **_LIMIT
    )
    warn_flagged: float | None = _option(
        None, "judging", "Flagged fraction that warns", usual=0.2, otherwise="the store's own (0.2)", **_LIMIT
    )
    max_unscored: float | None = _option(
        None, "judging", "Gate: largest unscored fraction", usual=0.05, otherwise="the store's own (0.05)", **_LIMIT
    )
    max_rejected: float | None = _option(
        None,
        "judging",
        "Gate: largest fraction of rows that can't be read",
        usual=0.05,
        otherwise="the store's own (0.05)",
        **_LIMIT,
    )
    min_power: float | None = _option(
        None,
        "judging",
        "Gate: least share of planted attacks of ten rows that the scan must find",
        usual=0.0,
        otherwise="the store's own (0: not asked)",
        unit="share of planted attacks",
        low=0.0,
        high=1.0,
    )
    power: str = _option(
        "auto",
        "judging",
        "A certificate of what the scan would have found, by attacks planted into copies of its rows; auto: from 2,000 "
        "rows on, or where min_power asks",
        choices=("auto", "on", "off"),
    )
    limits_by: str = _option("", "judging", "Who answers for limits looser than the store's own; recorded", flag="--by")
    limits_reason: str = _option("", "judging", "Why they are looser; recorded and shown", flag="--reason")
    control_tokens: str = _option(
        "quarantine",
        "judging",
        "Rows whose own text holds control tokens (<|im_start|>, </s>)",
        choices=("quarantine", "keep"),
    )
    watched: str = _option(
        "keep", "judging", "What becomes of rows that are watched, not flagged", choices=("keep", "quarantine")
    )

    known: str | None = _option(
        None,
        "judging",
        "Files of groups that others found (`gradsentry review export`), to look for; several with "
        f"{os.pathsep} between them, on the command line also one by one",
    )

    # How sources are read. What is said of one source alone (columns, split, ...) is an argument, not an option.
    max_bytes: str = _option(
        "64GiB",
        "reading",
        "Largest source, unpacked: 500MB, 64GiB",
        unit="bytes",
        only="command: a sensor and the runs that it starts have to mean the same limit, so both read the variable",
    )

    # What stands around it.
    signing_key: str | None = _option(
        None,
        "signing",
        "Private ed25519 key in PEM that signs every attestation",
        only="environment: a deployment's, not a run's; run configurations are kept and shown",
    )
    key_password: str | None = _option(
        None,
        "signing",
        "Password of private keys",
        secret=True,
        only="environment: a secret belongs on no command line",
    )
    webhook: str | None = _option(
        None, "service", "URL that is told of refused gates", secret=True, only=_RUN_BY, otherwise="nobody is told"
    )
    webhook_proxy: str | None = _option(
        None, "service", "Proxy to the webhook; the usual proxy variables are not looked at", secret=True, only=_RUN_BY
    )
    review_port: int = _option(
        8765,
        "service",
        "Where `gradsentry review` serves, on this machine alone",
        low=1,
        high=65535,
        only="environment: the UI's links and `gradsentry review` have to mean the same port",
    )
    ui_url: str | None = _option(None, "service", "The web server's address, for links in those messages", only=_RUN_BY)
    rescan_cron: str = _option("0 3 * * *", "service", "When stale batches are scanned again (UTC)", only=_RUN_BY)
    keep_runs_days: int = _option(90, "service", "How long Dagster's history is kept", unit="days", low=1, only=_RUN_BY)

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            option.check(getattr(self, name))

    @property
    def limits(self) -> Mapping[str, float | None]:
        """The gate's limits as asked for; None: the store's own."""
        names = ("max_flagged", "warn_flagged", "max_unscored", "max_rejected", "min_power")
        return {name: getattr(self, name) for name in names}

    @property
    def known_files(self) -> tuple[Path, ...]:
        return tuple(Path(path).expanduser() for path in (self.known or "").split(os.pathsep) if path)


def _kind(hint: Any) -> type:
    return next((kind for kind in get_args(hint) if kind is not type(None)), hint)


OPTIONS: Mapping[str, Option] = {
    each.name: Option(each.name, _kind(get_type_hints(Settings)[each.name]), each.default, **each.metadata)
    for each in fields(Settings)
}


def value(name: str, given: Any = None) -> Any:
    """One option: what is given (None and "" are not), else the environment's, else the default.

    Raises UnusableOption for a value that is none or out of range.
    """
    option = OPTIONS[name]
    if given is not None and given != "":
        option.check(given)
        return given
    text = os.environ.get(option.variable)
    return option.parse(text) if text else option.default


def read(**given: Any) -> Settings:
    """Every option that a scan has: as given, else from the environment, else the default. Raises UnusableOption."""
    wanted = [option.name for option in OPTIONS.values() if option.group in ("model", "judging", "reading")]
    return Settings(**{name: value(name, given.get(name)) for name in dict.fromkeys((*wanted, *given))})


def home() -> Path:
    """The store: ledger, batches, score cache."""
    return Path(value("home")).absolute()


def model() -> str:
    """The scoring model: a folder, a hub name, or `embedded`."""
    return value("model")


def device() -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `spread`."""
    return value("device")


def review_port() -> int:
    """Where `gradsentry review` listens, and where the UI's links point."""
    return value("review_port")


def max_memory() -> dict[int | str, str] | None:
    """With the device `spread`: how much of each GPU (0, 1, ...) and of main memory (`cpu`) the model may take.

    None: what is free. Raises UnusableOption.
    """
    told = value("max_memory")
    if not told:
        return None
    found: dict[int | str, str] = {}
    for item in told.split(","):
        match = re.fullmatch(r"\s*(\d+|cpu)\s*=\s*(\d+(?:\.\d+)?\s*[KMG]i?B)\s*", item)
        if match is None:
            raise UnusableOption(f"{OPTIONS['max_memory'].variable}: write 0=20GiB,cpu=40GiB, not {item!r}")
        place, size = match.groups()
        found[place if place == "cpu" else int(place)] = size
    return found


def cache() -> Path:
    """Where the embedded model is kept, shared by all checkouts."""
    base = value("cache")
    if base:
        return Path(base).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradsentry"


def model_digests() -> Path:
    """Remembers digests of model files. Not in the store: whoever may write there could have one model pass for another
    by it."""
    return cache() / "model_digests.json"


def unfinished() -> Path:
    """Where `gradsentry bench` keeps what is done until all is done."""
    return cache() / "bench"


def tested() -> Path:
    """Where the results of the scorer's self-tests are kept."""
    told = value("tested")
    return Path(told).absolute() if told else cache() / "tested"


def signing_key() -> Path | None:
    """The private key that attestations are signed with by themselves."""
    path = value("signing_key")
    return Path(path) if path else None


def max_bytes() -> int:
    """The largest source that is read, in bytes of text once unpacked."""
    return parse_bytes(value("max_bytes"), OPTIONS["max_bytes"].variable)


def parse_bytes(text: str, name: str) -> int:
    """A number of bytes as people write it: `500000`, `20 GB`, `64GiB`. Raises UnusableOption, which names it."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", text, re.IGNORECASE)
    if not found:
        raise UnusableOption(f"{name} is to be a number of bytes, such as 20GB, not {text!r}")
    power = " kmgt".index((found[2] or " ").lower())
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


MAX_BYTES = parse_bytes(OPTIONS["max_bytes"].default, "max_bytes")
