"""Where the data sets are, and what was published on them. None of the data is part of this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.quality.leave_one_out import LONG, Data
from benchmarks.quality.table import OUT
from models.sequences import read_atomic, read_from_wheel, read_sequences, read_words
from stream.errors import UsageError

NAMES: Final = ("beauty", "lastfm", "ml100k", "sequences")
RECBOLE: Final = "recbole==1.2.1"
LIFETIMES: Final = "Lifetimes==0.11.3"


def attention(layers: int, entrance: str, *others: str, recurrent: int = 0) -> tuple[str, ...]:
    """Return the settings of attention beside the GRU, or over one of its own."""
    size = f"width=64, layers={layers}, heads=2, window=50, dropout=0.3, recurrent={recurrent}"
    return (
        'encoder="transformer"',
        f"encoder_config={{{size}}}",
        f'entrance="{entrance}"',
        "untied=true",
        *others,
    )


#: How many GRUs, and what is beside them. On Beauty more of them found more of the second last items. LastFM
#: has so few users that one seed's luck would decide its table: three of each.
MEMBERS: Final = {"beauty": 2, "lastfm": 3}
BESIDE: Final = {
    "beauty": (
        attention(2, "straight"),
        attention(2, "straight", recurrent=64),
        attention(1, "straight", "seed=1", recurrent=64),
        ('encoder="cnn"', "encoder_config={}", 'entrance="straight"'),
    ),
    "lastfm": tuple(attention(1, "norm", f"seed={seed}") for seed in range(3)),
}


def figures(hit: float, gain: float) -> dict[str, float]:
    return {"HR@10": hit, "NDCG@10": gain}


#: From S3-Rec (Zhou et al., 2020) and works that use its data; the last row is of a trial without a paper.
BEAUTY: Final = {
    "Caser": figures(0.0347, 0.0176),
    "GRU4Rec": figures(0.0283, 0.0137),
    "SASRec": figures(0.0605, 0.0318),
    "S3-Rec": figures(0.0647, 0.0327),
    "GRU, throw-away": figures(0.1037, 0.0620),
}
LASTFM: Final = {
    "SASRec": figures(0.0688, 0.0390),
    "S3-Rec": figures(0.0743, 0.0427),
    "GRU, throw-away": figures(0.0853, 0.0507),
}
#: Files of S3-Rec that `sequences --input` knows by name (github.com/aHuiWang/CIKM2020-S3Rec: data/ and
#: all_rank.PNG).
FILES: Final = {
    "Sports_and_Outdoors": {
        "Caser": figures(0.0194, 0.0097),
        "GRU4Rec": figures(0.0204, 0.0110),
        "SASRec": figures(0.0350, 0.0192),
        "S3-Rec": figures(0.0385, 0.0204),
    },
    "Toys_and_Games": {
        "Caser": figures(0.0270, 0.0141),
        "GRU4Rec": figures(0.0176, 0.0084),
        "SASRec": figures(0.0675, 0.0374),
        "S3-Rec": figures(0.0700, 0.0376),
    },
    "Yelp": {
        "Caser": figures(0.0253, 0.0129),
        "GRU4Rec": figures(0.0263, 0.0134),
        "SASRec": figures(0.0274, 0.0136),
        "S3-Rec": figures(0.0341, 0.0168),
    },
}
ML100K: Final = {"GRU4Rec": figures(0.1103, 0.0513)}


def load(name: str, folder: Path, file: Path | None = None, attributes: Path | None = None) -> Data:
    """Return a data set by name, or the file. Raises UsageError for a name that there is not."""
    if file is not None:
        words = read_words(attributes) if attributes else {}
        stem = file.name.split(".")[0]
        return Data(stem.lower(), stem.replace("_", " "), read_sequences(file), words, FILES.get(stem, {}))
    if name in ("beauty", "lastfm"):
        stem = {"beauty": "Beauty", "lastfm": "LastFM"}[name]
        sequences = read_sequences(folder / "sequences" / f"{stem}.txt.gz")
        words = read_words(folder / "sequences" / f"{stem}_item2attributes.json.gz")
        # Few events: more is drawn back to what the attributes say. Many items: what follows one is not it.
        settings = ("weight_decay=8.0",) if name == "lastfm" else ("untied=true",)
        published = {"beauty": BEAUTY, "lastfm": LASTFM}[name]
        members, beside = MEMBERS[name], BESIDE[name]
        return Data(
            name, stem, sequences, words, published, settings=settings, members=members, beside=beside
        )
    if name == "ml100k":
        sequences = read_atomic(read_from_wheel(wheel(RECBOLE), ML100K_TABLE))
        return Data(name, "MovieLens 100k", sequences, {}, ML100K, LONG)
    raise UsageError(f"no data set {name}", place="NAME", remedy="give --input with `sequences`")


ML100K_TABLE: Final = "recbole/dataset_example/ml-100k/ml-100k.inter"


def wheel(requirement: str) -> Path:
    """Return the wheel of a package, fetched by pip if it is not there yet."""
    OUT.mkdir(exist_ok=True)
    pattern = f"{requirement.split('==')[0]}-*.whl"
    if not list(OUT.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(OUT)]
        subprocess.run([*pip, requirement], check=True)
    return next(OUT.glob(pattern))
