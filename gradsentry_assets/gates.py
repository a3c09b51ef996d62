"""The gate, as blocking checks on `entropy_threshold`.

`decide` has judged the gate by plain code and the ledger keeps its answer. Here Great Expectations judges it again on
the same verdicts; where it says no to what plain code let pass, its answer goes into the ledger and stands. So a batch
is published only if both agree, whoever starts `clean_dataset` and with whatever selection. How: second_judge.py.
"""

from collections.abc import Iterator

import dagster as dg

from gradsentry_assets.assets import AGAIN
from gradsentry_assets.partitions import Said
from gradsentry_assets.stage import Stage

# What the UI says of each check, and which of the gate's own checks it stands for.
CHECKS = {
    "flagged_fraction": (
        ("flagged_fraction", "flagged_fraction_warning"),
        "Not too much is flagged. Above the limit nothing is published: a score that condemns half a batch has more "
        "likely met data that it cannot judge than that much poison. Above the lower limit it warns.",
    ),
    "unscored_fraction": (("unscored_fraction",), "Nearly every readable row could be scored."),
    "rejected_fraction": (
        ("rejected_fraction",),
        "Nearly every row could be read: nine tenths of a file that nobody could judge are no clean remainder.",
    ),
    "entropy_in_range": (("entropy_in_range",), "Every entropy lies in [0, 1]."),
    "unique_rows": (("unique_rows",), "No row is judged twice."),
    "rows_conserved": (("rows_conserved",), "Rows read = clean + flagged + unscored + rejected."),
    "whole_source": (
        ("whole_source",),
        "Nothing shows that the source is cut short: no row, packing, table or numbered file is without its end.",
    ),
    "power": (
        ("power",),
        "What the scan would have found, where that is asked for (`min_power`): attacks planted into copies of the "
        "batch's own rows were found often enough.",
    ),
    "nothing_watched": (
        ("nothing_watched",),
        "No row carries what nothing explains over an answer that can't be shown to differ; only warns. Such rows are "
        "kept unless the policy is told to quarantine them: look at them first.",
    ),
    "score_trusted": (("score_trusted",), "Whether the entropy tells more than the length of the answers; only warns."),
}
ADVICE = ("nothing_watched", "score_trusted")  # these never block


def build_gate(stage: Stage) -> dg.AssetChecksDefinition:
    verdicts = stage.names.key("entropy_threshold")
    specs = [
        dg.AssetCheckSpec(
            name,
            asset=verdicts,
            blocking=name not in ADVICE,
            description=text,
            partitions_def=stage.partitions_def,
        )
        for name, (_, text) in CHECKS.items()
    ]

    @dg.multi_asset_check(
        name=stage.names.of("gate"),
        specs=specs,
        pool=stage.names.pool("duckdb"),
        retry_policy=AGAIN,
        required_resource_keys=stage.needs("store"),
    )
    def gate(context: dg.AssetCheckExecutionContext) -> Iterator[Said]:
        """Great Expectations on the verdicts of every batch in this run."""
        from gradsentry_assets import second_judge

        yield from second_judge.judge_again(context, stage)

    return gate
