"""Quality beside published figures: `python -m benchmarks.quality NAME …`.

beauty, lastfm       leave-one-out with item attributes          (DATA/sequences)
ml100k               leave-one-out                               (the wheel recbole==1.2.1)
ml1m                 512 validation users of gSASRec             (DATA/ml1m)
ratings              MAE and RMSE in five folds                  (the wheel recbole==1.2.1)
cdnow                who buys again, how often                   (the wheel Lifetimes==0.11.3)
completejourney      the next basket, October to December        (the demo's data)
sequences            leave-one-out on a file of your own: --input F [--attributes G]; with S3-Rec's names
                     (Sports_and_Outdoors, Toys_and_Games, Yelp) its published figures stand beside
encoders             leave-one-out with every encoder: --on beauty or lastfm, or --input F
docs                 docs/quality.md from the results that are kept

Wheels are fetched by pip into benchmarks/quality/out. A table's settings can be changed, --set seed=1; what
that gives is printed and not kept.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

from benchmarks.quality import frontier, journey, lifetimes, ml1m, ratings, sources, table
from benchmarks.quality.leave_one_out import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where the data sets are")
    parser.add_argument("--input", type=Path, help="a file, one user a line: the user, then the items")
    parser.add_argument("--attributes", type=Path, help="a JSON object: item → list of words")
    parser.add_argument("--on", default="beauty", help="data set of `encoders`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--members", type=int, help="of leave-one-out: seeds of the first encoder")
    parser.add_argument("--resume", action="store_true", help="of ml1m: go on where a killed call was")
    given = parser.parse_args()
    if given.members is not None and given.members < 1:
        parser.error(f"--members {given.members}: an ensemble has 1 or more")
    words = [word for word in sys.argv[1:] if word != "--resume"]
    tried = bool(given.set) or given.members is not None  # not the table's own settings: printed, not kept
    command = "python -m benchmarks.quality " + " ".join(words)
    for name in given.names:
        if name == "docs":
            table.write_page()
        elif name == "cdnow":
            table.finish(lifetimes.run(command), drawn="RMSE")
        elif name == "ratings":
            table.finish(ratings.run(command), drawn="RMSE")
        elif name == "completejourney":
            table.finish(journey.run(command), drawn="NDCG@10")
        elif name == "ml1m":
            table.finish(
                ml1m.run(given.data / "ml1m", given.set, command, resume=given.resume),
                drawn="NDCG@10",
                keep=not tried,
            )
        elif name == "encoders":
            frontier.run(
                sources.load(given.on, given.data, given.input, given.attributes), given.set, command
            )
        elif name in sources.NAMES:
            data = sources.load(name, given.data, given.input, given.attributes)
            data = data._replace(members=given.members or data.members)
            table.finish(
                compare(data, given.set, command), drawn="NDCG@10", keep=bool(data.published) and not tried
            )
        else:
            parser.error(f"no table {name}")


if __name__ == "__main__":
    main()
