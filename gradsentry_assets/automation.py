"""Publishing without being asked: a batch whose gate opens later, because a person accepted it, is published then.

Dagster's own condition on blocking checks looks at the latest result of a check, whichever batch it was for. This one
asks the ledger about exactly the verdicts that the batch has now.
"""

import dagster as dg

from gradsentry_assets.dagster_private import AssetKeyPartitionKey
from gradsentry_assets.stage import Stage
from gradsentry_lib.errors import GradSentryError


class GateOpen(dg.AutomationCondition):
    """True for the partitions whose gate passed, or was accepted, for their latest verdicts."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @property
    def name(self) -> str:
        return "gate_open"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        view = context.asset_graph_view
        if self.stage.partitions_def is None:
            if context.candidate_subset.is_empty or not is_open(view.instance, self.stage, None):
                return dg.AutomationResult(context, true_subset=context.get_empty_subset())
            return dg.AutomationResult(context, true_subset=context.candidate_subset)
        keys = context.candidate_subset.expensively_compute_partition_keys()
        open_ones = {key for key in keys if is_open(view.instance, self.stage, key)}
        subset = view.get_asset_subset_from_asset_partitions(
            context.key, {AssetKeyPartitionKey(context.key, key) for key in open_ones}
        )
        return dg.AutomationResult(context, true_subset=subset)


def is_open(instance: dg.DagsterInstance, stage: Stage, partition: str | None) -> bool:
    """Whether the batch's latest verdicts may be published; False where there are none or the ledger can't tell."""
    from gradsentry_lib.pipeline.decided import load_decided
    from gradsentry_lib.pipeline.publish import gate_of

    try:
        place, batch = stage.store, stage.batch(instance, partition)
        decided = load_decided(
            place, batch, stage.handed_over(instance, "entropy_threshold", partition, "decision_key")
        )
        return decided is not None and gate_of(decided, place).open
    except GradSentryError:
        return False


def when_gate_opens(stage: Stage) -> dg.AutomationCondition:
    """Once for every batch that is unpublished, or judged anew, while nothing is running on it and its gate is open."""
    condition = dg.AutomationCondition
    due = condition.missing().newly_true().since_last_handled() | condition.any_deps_updated().since_last_handled()
    quiet = ~condition.any_deps_missing() & ~condition.any_deps_in_progress() & ~condition.in_progress()
    return (due & quiet & GateOpen(stage)).with_label("its gate is open and it is not published yet")
