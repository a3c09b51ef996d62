"""Command line, library and two code locations of Dagster at once on one store: nobody sees a lock, nothing is lost.

Nine batches by default, one of which three take at once; GRADSENTRY_TEST_BATCHES=200 for the full number.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import save_file

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.store import Decision, GateResult, Output, Run, open_ledger
from gradsentry_lib.store.paths import Store
from tests.assets.writers import OPEN, SIGNED, work
from tests.pipeline.builder import lines, write

BATCHES, ROWS = int(os.environ.get("GRADSENTRY_TEST_BATCHES", "9")), 12
WAYS = ("command", "library", "dagster", "command", "library", "dagster", "command", "library")


def test_eight_writers_on_one_store(tmp_path: Path) -> None:
    store = Store.default()
    sources = [
        write(tmp_path / f"part{n}.jsonl", ["{broken", *lines(range(n * ROWS, n * ROWS + ROWS))])
        for n in range(BATCHES)
    ]
    settings = settings_for(tmp_path, store)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.assets.writers"])
    shared = sources[:1]  # a batch that all three ways take at once
    plan = [(way, shared * (n < 3) + sources[1 + n :: len(WAYS)]) for n, way in enumerate(WAYS)]
    processes = [context.Process(target=work, args=(way, some, settings)) for way, some in plan]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(WAYS)

    assert faults_of(store, {source.stem for source in sources}, ROWS) == []
    with open_ledger(store.ledger, read_only=True) as ledger:
        # One run a scan by hand, one in all for each code location.
        assert len(ledger.find(Run)) == sum(1 if way == "dagster" else len(some) for way, some in plan)
    command = [str(Path(sys.executable).parent / "gradsentry"), "audit", "verify"]
    told = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def settings_for(place: Path, store: Store) -> dict[str, str]:
    """The environment of a writer: this store, a stand-in's model, open gates."""
    model = place / "model"  # enough of one to be told from others by its bytes
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    save_file({}, model / "model.safetensors")
    (model / "tokenizer.json").write_text("{}")
    settings = {"GRADSENTRY_HOME": str(store.home), "GRADSENTRY_MODEL": str(model), "GRADSENTRY_DEVICE": "cpu"}
    limits = {f"GRADSENTRY_{name.upper()}": str(value) for name, value in OPEN.items()}
    settings |= {"GRADSENTRY_POLICY": "paper"} | limits
    settings |= {f"GRADSENTRY_{name.upper()}": value for name, value in SIGNED.items()}
    return settings | {"OMP_NUM_THREADS": "1"}


def faults_of(store: Store, names: set[str], rows: int) -> list[str]:
    """What is lost or does not add up in a store of batches of so many rows and a broken one each."""
    faults = [f"audit verify: {problem}" for problem in verify(store.ledger).problems]
    with open_ledger(store.ledger, read_only=True) as ledger:
        batches = [ledger.batch(key) for key in ledger.batch_keys()]
        if sorted(batch.name for batch in batches) != sorted(names):
            faults.append(f"{len(batches)} batches instead of {len(names)}")
        known_runs = {run.run_id for run in ledger.find(Run)}
        for batch in batches:
            decisions = ledger.find(Decision, batch_key=batch.batch_key)
            if not decisions:
                faults.append(f"{batch.batch_key} has no decision")
                continue
            for decision in decisions:
                if decision.run_id not in known_runs:
                    faults.append(f"{batch.batch_key}: a decision of no run")
                if not decision.clean + decision.flagged + decision.unscored == batch.readable == rows:
                    faults.append(f"{batch.batch_key}: verdicts do not add up")
                if not ledger.find(GateResult, decision=decision.seq):
                    faults.append(f"{batch.batch_key}: a decision without a gate")
            outputs = ledger.find(Output, batch_key=batch.batch_key, decision=decisions[-1].seq)
            made = {output.kind: output.rows or 0 for output in outputs}
            if not {"clean", "quarantine", "report"} <= set(made):
                faults.append(f"{batch.batch_key}: only {sorted(made)} recorded")
            elif not made["clean"] + made["quarantine"] + batch.rejected_rows == batch.rows_read == rows + 1:
                faults.append(f"{batch.batch_key}: rows do not add up")
    return faults
