"""Writes deterministic text: lines of 17 words, about 80 bytes, Zipf-distributed (exponent 1.05).

usage: gen_text.py MEGABYTES OUT [VOCABULARY]
"""
import sys

import numpy as np

megabytes, out = int(sys.argv[1]), sys.argv[2]
vocabulary = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000

rng = np.random.default_rng(7)
words = np.array([f"w{i}" for i in range(vocabulary)])
weights = 1.0 / np.arange(1, vocabulary + 1) ** 1.05
cumulated = np.cumsum(weights / weights.sum())

wanted, written = megabytes * 1_000_000, 0
with open(out, "w") as file:
    while written < wanted:
        ids = np.searchsorted(cumulated, rng.random(200_000 * 17))
        lines = words[np.minimum(ids, vocabulary - 1)].reshape(-1, 17)
        text = "\n".join(" ".join(line) for line in lines) + "\n"
        file.write(text)
        written += len(text)
