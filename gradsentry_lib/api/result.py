"""What came of a scan, for who asked for it in Python."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.gate import GateCheck, refusals
from gradsentry_lib.detection.verdict import Group, not_clean
from gradsentry_lib.errors import GateFailed
from gradsentry_lib.files import atomic_path
from gradsentry_lib.pipeline.decided import Evidence, load_evidence
from gradsentry_lib.pipeline.power import load_certificate
from gradsentry_lib.pipeline.run import ScanResult
from gradsentry_lib.power.certificate import Certificate
from gradsentry_lib.samples.sample import Reject
from gradsentry_lib.samples.table import read_rejects
from gradsentry_lib.store.paths import DecisionFiles, Store


@dataclass(frozen=True)
class Gate:
    """Whether the batch may be used, and every check that was made. As a truth value: whether it is open."""

    open: bool
    status: str  # passed, accepted (by a person), or failed
    checks: tuple[GateCheck, ...]

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """The checks that refuse the batch."""
        return refusals(self.checks)

    @property
    def warnings(self) -> tuple[GateCheck, ...]:
        return tuple(check for check in self.checks if not check.passed and check.severity == "warn")

    def __bool__(self) -> bool:
        return self.open


class Result:
    """One scanned batch. Rows read = clean + quarantined (flagged and unscored) + rejected, always.

    Without a store of its own, its files live as long as this object does: keep it, or `save` them.
    """

    def __init__(
        self,
        made: ScanResult,
        store: Store,
        take: Callable[[Sequence[int]], Any] | None = None,
        origin: str | Path | None = None,
    ) -> None:
        self.made = made
        self.store = store
        self._take = take
        self._origin = origin

    @property
    def batch(self) -> str:
        """The batch's name in the store and its ledger."""
        return self.made.batch.batch_key

    @property
    def counts(self) -> dict[str, int]:
        """Rows: read = clean + flagged + unscored + rejected."""
        decided = self.made.decided
        return {
            "read": self.made.batch.read,
            "clean": decided.clean,
            "flagged": decided.flagged,
            "unscored": decided.unscored,
            "rejected": decided.rejected,
        }

    @property
    def gate(self) -> Gate:
        """Whether the clean part may be used."""
        published = self.made.published
        return Gate(published is not None, published.gate if published else "failed", self.made.decided.gate_checks)

    @property
    def clean(self) -> Any:
        """The clean rows, in order, in the kind that came in; of a file, the path of a copy without the others.

        Raises GateFailed where the gate refused the batch.
        """
        if self.made.published is None:
            said = "; ".join(check.message for check in self.gate.failed)
            raise GateFailed(
                f"the gate refused this batch: {said}. There is no clean part; result.report() shows what was found"
            )
        if self._take is None:
            return self.made.published.clean
        return self._take(self._rows(~not_clean(self.verdicts)))

    @property
    def quarantine(self) -> Any:
        """The flagged and unscored rows, in order, in the kind that came in; of a file, the path of a JSONL file with
        their reasons, which is written only where the gate is open. `reasons` has them by row."""
        if self._take is not None:
            return self._take(self._rows(not_clean(self.verdicts)))
        if self.made.published is None:
            raise GateFailed("the gate refused this batch: result.verdicts and result.report() show what was flagged")
        return self.made.published.quarantine

    def _rows(self, chosen: np.ndarray) -> list[int]:
        return self.verdicts["row"].to_numpy()[chosen].tolist()

    @cached_property
    def verdicts(self) -> pa.Table:
        """A line a readable row: `row`, `sample_id`, `entropy`, `supervised_tokens`, `nll`, `verdict`, `reasons`, and
        the policy's further signals. `.to_pandas()` makes a frame of it."""
        return pq.ParquetFile(self._decision.verdicts).read()

    @property
    def reasons(self) -> dict[int, list[str]]:
        """Why each quarantined row is in quarantine, by its number."""
        kept = self.verdicts.filter(pa.array(not_clean(self.verdicts)))
        return dict(zip(kept["row"].to_pylist(), kept["reasons"].to_pylist(), strict=True))

    @property
    def rejected(self) -> list[Reject]:
        """The rows that could not be read: number, line, reason, and how each begins."""
        return list(read_rejects(self.store.rejected(self.batch)))

    @cached_property
    def _evidence(self) -> Evidence:
        return load_evidence(self.store, self.made.decided)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Rows that look like one attack and were flagged: what their answers share, what their prompts share."""
        return tuple(group for group in self._evidence.groups if not group.watched)

    @property
    def watched(self) -> tuple[Group, ...]:
        """Groups for a person to look at, whose rows stay clean."""
        return tuple(group for group in self._evidence.groups if group.watched)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be known of the batch as a whole, in sentences."""
        return (*self.made.batch.notes, *self.made.decided.remarks)

    @cached_property
    def power(self) -> Certificate | None:
        """What this scan would have found: attacks planted into copies of the rows, and how many were found. None where
        none were planted (`power="on"` asks for it; from 2,000 rows on it is there)."""
        return load_certificate(self.store, self.made.decided)

    def report(self, path: str | Path | None = None) -> Path:
        """The HTML page on this batch, which needs no network; copied to `path` where one is given."""
        published = self.made.published
        page = published.report if published else self._decision.report
        if path is None:
            return page
        with atomic_path(Path(path)) as temporary:
            shutil.copyfile(page, temporary)
        return Path(path)

    @property
    def files(self) -> Mapping[str, Path]:
        """Everything that was written, by name. `clean...` and `quarantine.jsonl` only where the gate is open."""
        return self.made.files(self.store)

    def save(self, target: str | Path, overwrite: bool = False) -> None:
        """Copies every file of the result into a folder or to a URL (`s3://bucket/prefix`), the clean one last.

        What an earlier scan of the same store wrote there is replaced or removed. Raises InTheWay where anything else
        lies there and is not to be overwritten.
        """
        from gradsentry_lib.pipeline.deliver import outputs_at

        outputs_at(str(target), self.store.home, self._origin, overwrite).write(self.files)

    @property
    def _decision(self) -> DecisionFiles:
        return self.store.decision(self.batch, self.made.decided.decision_key)

    def __repr__(self) -> str:
        counts = ", ".join(f"{rows} {what}" for what, rows in self.counts.items())
        return f"<Result {self.batch}: {counts}; gate {self.gate.status}>"

    def _repr_html_(self) -> str:
        from gradsentry_lib.api.notebook import as_html

        return as_html(self)

    def top_flagged(self, count: int) -> pa.Table:
        """The flagged rows of highest entropy."""
        flagged = self.verdicts.filter(pc.equal(self.verdicts["verdict"], "flagged"))
        return flagged.sort_by([("entropy", "descending")]).slice(0, count)
