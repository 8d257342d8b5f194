"""The gate: is the engine's loss of accuracy against the reference surely within its region's limit?

The decision rests on three counts and can be recomputed by anyone from the published per-sample results (a CSV of
sample_id, reference, engine):

1. n is the number of rows, b of rows with reference 1 and engine 0, c of rows with reference 0 and engine 1.
2. Sum the trinomial probabilities of all tables (b', c') with T(b', c') <= T(b, c), T as in `regiolect.gate.bounds`, at
   rates p10 = p01 + d and p01, with d the limit (points / 100), on a fine grid of p01 from 0 to (1 - d) / 2.
3. If the largest sum is at most alpha = 1 - confidence, the loss is proven to be below d: approved. With b and c swapped
   and -d for d it is proven to be above d: failed. If neither, the gate is inconclusive and blocks.

The gate's own bounds come by another way (a search for d, a certified supremum, a small part of alpha spent on leaving
out rates that the data exclude) and so differ from this a little, always to the careful side: by less than 1 % of their
distance from the loss.
"""

from regiolect.gate.decision import decide_gate

__all__ = ["decide_gate"]
