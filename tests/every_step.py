"""A project with every step of the transform, rows to fit it on, and generated rows to try it on."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from fairlead.features.transform import Transform
from fairlead.spec.features import Features

FEATURES = Features.model_validate(
    {
        "numeric": {
            "plain": {},
            "robust": {"scale": "robust", "impute": "mean"},
            "minmax": {"scale": "minmax", "impute": 7.0},
            "log": {"log": True},
            "log_robust": {"log": True, "clip": [0.01, 0.99], "scale": "robust"},
            "log_minmax": {"log": True, "scale": "minmax"},
            "log_raw": {"log": True, "scale": "none", "impute": "zero"},
            "ranged": {"encode": "buckets", "buckets": 7},
            "both": {"encode": "both", "scale": "minmax", "clip": [0.1, 0.9]},
        },
        "categorical": {"carrier": {"oov_buckets": 3}, "hashed": {"encode": "hash", "buckets": 16}, "code": {}},
        "datetime": {
            "at": {"parts": ["hour", "weekday"], "encode": "both"},
            "turned": {"parts": ["minute", "day", "month", "dayofyear", "week"], "encode": "cyclic"},
        },
        "text": {"title": {"max_tokens": 4, "oov_buckets": 2}, "note": {"max_tokens": 2, "lowercase": False}},
        "crosses": {
            "few": {"of": ["carrier", "ranged"], "buckets": 1000},
            "many": {"of": ["code", "at.hour", "both", "hashed"], "buckets": 64},
        },
    }
)
NUMBERS = ("plain", "robust", "minmax", "log", "log_robust", "log_minmax", "log_raw", "ranged", "both")
SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in NUMBERS),
        ("carrier", pa.string()),
        ("hashed", pa.string()),
        ("code", pa.int64()),
        ("at", pa.timestamp("us")),
        ("turned", pa.timestamp("us")),
        ("title", pa.string()),
        ("note", pa.string()),
    ]
)
WORDS = ("late", "Late", "flight", "to", "JFK", "übermorgen", "cancelled")


def training_table(rows: int = 400, seed: int = 11) -> pa.Table:
    rng = np.random.default_rng(seed)
    start = datetime(2013, 1, 1)

    def moments() -> list[datetime]:
        return [start + timedelta(minutes=int(m)) for m in rng.integers(0, 525_600, rows)]

    return pa.Table.from_pydict(
        {
            **{name: pa.array(rng.lognormal(2, 2, rows), mask=rng.random(rows) < 0.1) for name in NUMBERS},
            "carrier": pa.array(rng.choice(["AA", "B6", "UA"], rows), mask=rng.random(rows) < 0.05),
            "hashed": [f"id{value}" for value in rng.integers(0, 400, rows)],
            "code": rng.integers(0, 9, rows),
            "at": moments(),
            "turned": moments(),
            "title": [" ".join(rng.choice(WORDS, 5)) for _ in range(rows)],
            "note": pa.array([", ".join(rng.choice(WORDS, 3)) for _ in range(rows)], mask=rng.random(rows) < 0.3),
        },
        schema=SCHEMA,
    )


FITTED = Transform.fit(training_table().to_batches(max_chunksize=64), FEATURES)


_EDGES = [edge for column in FITTED.ranges for edge in column.edges]
_BOUNDS = [bound for c in FITTED.numeric for bound in (c.low, c.high, c.mean, c.impute) if bound is not None]
_extreme = (0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1.7e308, -1.7e308, 1e-17, 2.0**53, 1.0, -1.0)
numbers = st.one_of(
    st.none(), st.floats(allow_infinity=False), st.floats(-1e3, 1e3), st.sampled_from([*_EDGES, *_BOUNDS, *_extreme])
)
words = st.one_of(st.none(), st.sampled_from(["AA", "B6", "UA", "id3", ""]), st.text("abAB\x00é ,", max_size=6))
moments = st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
texts = st.one_of(st.none(), st.lists(st.sampled_from([*WORDS, "new", "!", "\n", "ß", ""]), max_size=8).map(" ".join))
row = st.fixed_dictionaries(
    {
        **dict.fromkeys(NUMBERS, numbers),
        "carrier": words,
        "hashed": words,
        "code": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)),
        "at": moments,
        "turned": moments,
        "title": texts,
        "note": texts,
    }
)
