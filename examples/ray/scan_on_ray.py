"""Many files scanned on a Ray cluster: the one that RAY_ADDRESS names, or else one that is started on this machine.

    python scan_on_ray.py *.jsonl --store /shared/gradsentry --out s3://bucket/clean

All nodes need the same Python and packages, and the store and the files under the same paths. Scores are kept in the
store: a run that was killed goes on where it stopped, and a row that occurs again is not scored again.
"""

import argparse
import sys

import gradsentry_lib as gs


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", help="paths or URLs")
    parser.add_argument("--store", default=".gradsentry")
    parser.add_argument("--out", required=True, help="a folder or a URL, for a folder of results a file")
    parser.add_argument("--workers", type=int, help="models loaded at once; one a GPU if left out")
    told = parser.parse_args()

    refused = 0
    for file in told.files:
        result = gs.scan(file, store=told.store, engine="ray", workers=told.workers)
        print(result)
        result.save(f"{told.out}/{result.batch}")
        refused += not result.gate
    return 3 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
