"""Split labelled frames into train.extxyz and valid.extxyz by trajectory, never by neighbouring frame."""

import sys
from collections import defaultdict

import ase.io
import numpy as np

frames = [a for f in sys.argv[1:] for a in ase.io.read(f, ":")]
runs = defaultdict(list)
for a in frames:
    f = a.arrays["REF_forces"]
    if np.abs(f).max() < 25:
        runs[a.info["run"]].append(a)
keys = sorted(runs)
rng = np.random.default_rng(0)
rng.shuffle(keys)
nval = max(6, len(keys) // 12)
val = [a for k in keys[:nval] for a in runs[k]]
tr = [a for k in keys[nval:] for a in runs[k]]
ase.io.write("train.extxyz", tr)
ase.io.write("valid.extxyz", val)
F = np.concatenate([a.arrays["REF_forces"] for a in tr])
print(len(tr), len(val), "F rms", F.std(), "mean atoms", np.mean([len(a) for a in tr]))
