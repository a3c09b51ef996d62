"""GradSentry in Dagster: the only place that knows Dagster and Great Expectations.

    assets.py         raw_samples -> gradient_entropy -> entropy_threshold -> clean_dataset
    gates.py          the blocking checks between the last two; expectations.py: as Great Expectations states them
    arrivals.py       what lies in the landing folder; receiving.py: taking delivery; landing.py: the sensor
    rescan.py         what is out of date, and the schedule; automation.py: publishing when a gate opens later
    alerts.py         the webhook; history.py: old runs
    presentation.py   what people see of a batch
    resources.py      store, model, judging, landing
    definitions.py    all of it together

No module here imports torch, transformers, datasets, great_expectations or ray when it is loaded: a code location has
to load in about a second. They are imported inside the step that needs them.
"""

import warnings

try:
    import dagster as dg
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("gradsentry_assets needs the extra: pip install 'gradsentry[dagster]'") from error

# Beta features that are used on purpose: one run over many batches loads the model once; conditions may ask the ledger.
for name in ("backfill_policy", "use_user_code_server"):
    warnings.filterwarnings("ignore", message=f"Parameter `{name}`", category=dg.BetaWarning)
