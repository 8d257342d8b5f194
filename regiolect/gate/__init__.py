"""The gate: is the engine's loss of accuracy against the reference surely within its region's limit?

The decision rests on three counts and can be recomputed by anyone from the published per-sample results (a CSV of
sample_id, reference, engine):

1. n is the number of rows, b of rows with reference 1 and engine 0, c of rows with reference 0 and engine 1.
2. Take rates p10 = p01 + d and p01, with d the limit (points / 100), on a fine grid of all p01 for which p10 is at most
   the upper Clopper-Pearson limit of b / n and p01 at least the lower one of c / n, each at error alpha / 10,000, where
   alpha = 1 - confidence. At each, sum the trinomial probabilities of all tables (b', c') with T(b', c') <= T(b, c),
   T as in `regiolect.gate.bounds`.
3. If the largest sum is at most 0.9998 alpha, the loss is proven to be at most d: approved. If that holds with b and c
   swapped and -d for d, it is proven to be above d: failed. Otherwise the gate is inconclusive and blocks.

Where the policy states a lowest score (`accuracy.least`), the one-sided Clopper-Pearson limit of the engine's own rate
of right answers must reach it; of other scores, 1 less the bound of the loss against full scores. Two releases are
compared by the same bounds (`champion.py`).

Each slice that the policy names (a further column of the CSV) is decided in the same way on its own rows. Scores other
than 0 and 1 take the bound of `regiolect.gate.score_bounds` instead, which can be recomputed from them as well.

Other rules can only make the verdict worse: the number of samples, the precision of graph and execution, and latency,
throughput and speed-up by bounds of percentiles (`regiolect.evaluate.timing.percentile_upper`).

The gate's bounds are the d at which the sum just reaches 0.9998 alpha. They rest on a certified supremum instead of a
grid, so they may lie a little to the careful side. A relative limit takes the same bounds through
`regiolect.gate.bounds.relative_loss_bounds`.
"""

from regiolect.gate.decision import decide_gate

__all__ = ["decide_gate"]
