"""A process that has imported all that a scan needs, and forks for every job: a command line in a machine in trouble.

    python -m tests.soak.warm     reads jobs from its input, one JSON object a line, and answers each with one

A job: {"command": [...], "environment": {...}, "trouble": {function of machine.c: number}, "kill": [step, event],
"files": prefix of the files for its output}. The answer: {"code": exit code, negative for a signal, "writes": number}.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

STEPS = ("ingest", "score_batch", "decide", "publish")  # as gradsentry_assets.steps calls them
WARM = (
    "scipy.signal",
    "scipy.stats",
    "transformers.models.llama.modeling_llama",
    "gradsentry_assets.definitions",
    "gradsentry_assets.second_judge",
    "gradsentry_assets.steps",
    "gradsentry_lib.cli.scan",
    "gradsentry_lib.scoring.scorer",
)
EVENTS = ("open", "os.rename", "os.chmod", "os.remove", "os.mkdir")


def main() -> None:
    for name in WARM:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(job: dict[str, Any]) -> dict[str, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 70
        try:
            code = _run(job)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            if "trouble" in job:
                os.write(writing, str(ctypes.CDLL(None).writes_so_far()).encode())
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as said:  # noqa: PTH123 - of a descriptor
        writes = int(said.read() or 0)
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "writes": writes}


def _run(job: dict[str, Any]) -> int:
    os.environ.update(job["environment"])
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(f"{job['files']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    if kill := job.get("kill"):
        _kill_in(*kill)
    for function, number in job.get("trouble", {}).items():
        getattr(ctypes.CDLL(None), function)(ctypes.c_long(number))
    if job["command"][0] == "dagster":
        return _dagster(job["command"][1])
    from gradsentry_lib import cli

    sys.argv = ["gradsentry", *job["command"]]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _dagster(source: str) -> int:
    """Takes one file in as the landing sensor does and runs the job, with a history that outlives the process."""
    import dagster as dg
    from upath import UPath

    from gradsentry_assets.arrivals import list_landing
    from gradsentry_assets.definitions import defs
    from gradsentry_assets.receiving import receive
    from gradsentry_lib.store.paths import Store

    instance, folder = dg.DagsterInstance.get(), UPath(Path(source).parent)
    landed = next(file for file in list_landing(folder).values() if file.name == Path(source).name)
    batch = receive(landed, folder, Store.default().home, {landed.url}, []).batch
    instance.add_dynamic_partitions("batches", [batch])
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    config["resources"] = {"model": {"config": {"dtype": "float32"}}}
    job = defs.resolve_job_def("scan_batch")
    return not job.execute_in_process(partition_key=batch, instance=instance, run_config=config).success


def _kill_in(step: str, event: int) -> None:
    """SIGKILL at the `event`-th touch of a file within a step; 0: at its end, before Dagster has heard of it."""
    from gradsentry_assets import steps

    work = getattr(steps, step)

    def watched(*arguments: Any, **options: Any) -> Any:
        count = 0

        def watch(name: str, _: object) -> None:
            nonlocal count
            if name in EVENTS:
                count += 1
                if count == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        if event:
            sys.addaudithook(watch)
        work(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(steps, step, watched)


if __name__ == "__main__":
    main()
