"""GradSentry in Dagster: the only place that knows Dagster and Great Expectations.

What Dagster loads, and what is public:

    factory.py        gradsentry_assets(name=..., source=...): the stage for anybody's project
    component.py      GradSentryComponent, the same in YAML; scaffolder.py: what `dg scaffold` writes
    checks.py         gradsentry_checks(asset=...): the gate on an asset of theirs, without any of ours
    sources.py        where its rows come from: a folder, a file, an asset of theirs
    stage.py          one stage: its names, its resources, its partitions
    assets.py         raw_samples -> gradient_entropy -> entropy_threshold -> clean_dataset
    gates.py          the blocking checks between the last two
    runs.py           the job, the sensors, the nightly re-scan; automation.py: publishing when a gate opens later
    resources.py      store, model, judging, landing folder
    definitions.py    this project: the factory called once; history.py: old runs

What they do, imported when they do it:

    steps.py          the four steps; upstream.py: what a source hands over; clean_value.py: what the last one hands on
    second_judge.py   the gate; expectations.py: as Great Expectations states it
    check_theirs.py   scanning and judging what their asset made
    arrivals.py       what lies in the landing folder; receiving.py: taking delivery; landing.py: one look
    rescan.py         what is out of date; alerts.py: the webhook
    presentation.py   what people see of a batch

No module here imports torch, transformers, datasets, great_expectations or ray when it is loaded, and what Dagster
loads imports neither pyarrow nor pandas: a project with this stage in it has to load about as fast as one without.
"""

import warnings

try:
    import dagster as dg
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("gradsentry_assets needs the extra: pip install 'gradsentry[dagster]'") from error

# Beta features that are used on purpose: one run over many batches loads the model once; conditions may ask the ledger.
for name in ("backfill_policy", "use_user_code_server"):
    warnings.filterwarnings("ignore", message=f"Parameter `{name}`", category=dg.BetaWarning)
# Where an asset's code is, and its YAML.
for name in ("with_source_code_references", "LocalFileCodeReference", "CodeReferencesMetadataValue"):
    warnings.filterwarnings("ignore", message=f"(Function|Class) `{name}`", category=dg.BetaWarning)
# And one in preview: what a check says of one partition is told of that partition alone.
warnings.filterwarnings(
    "ignore", message="Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning
)

from gradsentry_assets.checks import gradsentry_checks  # noqa: E402  after the warnings are settled
from gradsentry_assets.component import GradSentryComponent  # noqa: E402
from gradsentry_assets.factory import gradsentry_assets  # noqa: E402
from gradsentry_assets.sources import File, Folder, Reading, Upstream  # noqa: E402

__all__ = ["File", "Folder", "GradSentryComponent", "Reading", "Upstream", "gradsentry_assets", "gradsentry_checks"]
