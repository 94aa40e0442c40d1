"""Run the benchmarks: `python -m benchmarks [NAME …]`, all without a name. `make bench`.

year      events a second of `ebbtide replay` over the demo's year, with and without the model
users     cost of an event and bytes of memory with 2,000 and with 1,000,000 users
codec     cost of reading a record and of writing an output, beside the libraries alone
scoring   cost of the exact top ten of a catalogue, beside the obvious ways to find it
encoders  bytes of state and cost of a step of each kind of encoder
influence cost of leaving out each of a user's last events, all at once and one by one
recovery  speed of a restore, cost of snapshots and frequent commits, failover, a storm (KAFKA_HOME)
migration quality of states rebuilt from what rows keep, beside the full history's

Close other programs first: the figures are of one core, and a busy neighbour takes its share of it.
"""

from __future__ import annotations

import argparse
import os

# Before numpy and onnxruntime load: one thread each, as in a worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import codec, encoders, influence, migration, recovery, scoring, users, year

BENCHMARKS = {
    "year": year.run,
    "users": users.run,
    "codec": codec.run,
    "scoring": scoring.run,
    "encoders": encoders.run,
    "influence": influence.run,
    "migration": migration.run,
    "recovery": recovery.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name}: choose from {', '.join(BENCHMARKS)}")
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
