"""What tuning tries on a processor through ONNX Runtime. Imports nothing of ONNX Runtime's."""

from __future__ import annotations

from regiolect.contracts import Configuration
from regiolect.host.processors import processor_counts, processors

THREADS = "intra_op_num_threads"
# Attributes of SessionOptions, with what an attribute's value is made of; what else may be tuned are entries of a
# session's configuration.
ATTRIBUTES = frozenset({THREADS, "inter_op_num_threads", "execution_mode"})
TUNABLE = ATTRIBUTES | {"session.dynamic_block_base", "session.intra_op.allow_spinning"}
# More would each get a smaller share of the time to measure them in.
_MOST_THREADS = 6


def configurations() -> tuple[Configuration, ...]:
    """Numbers of threads, idle threads that sleep at once, work cut finer, and branches of the graph side by side."""
    return (
        {},
        *({THREADS: str(count)} for count in processor_counts()[-_MOST_THREADS:]),
        {"session.intra_op.allow_spinning": "0"},
        {"session.dynamic_block_base": "4"},
        {"execution_mode": "ORT_PARALLEL", "inter_op_num_threads": str(min(2, processors()))},
    )


def side_by_side(configuration: Configuration) -> int:
    """Runs of such a session that find processors of their own: one that takes few leaves room for others."""
    threads = configuration.get(THREADS, "")
    return max(1, processors() // int(threads)) if threads.isdigit() and int(threads) > 0 else 1


CUDA_GRAPH = "enable_cuda_graph"
