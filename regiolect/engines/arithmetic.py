"""Whether an engine was judged in a host's class of arithmetic."""

from __future__ import annotations

from regiolect.contracts import Arithmetic, EngineArtifact, Misfit, Precision
from regiolect.host.arithmetic import arithmetic_of
from regiolect.host.cpu import UNKNOWN
from regiolect.precision import traits, wider_or_equal, width

ARITHMETIC = "arithmetic"
"""The misfit of an engine that was judged in another class of arithmetic than the host's."""


def judged_in(artifact: EngineArtifact) -> Arithmetic | None:
    """The class in which an INT8 engine for processors was judged, to which it is bound; None if it does not tell.

    Engines that are older than classes tell theirs by the instruction sets in their fingerprint.
    """
    return artifact.request.arithmetic or arithmetic_of(artifact.fingerprint)


def other_arithmetic(artifact: EngineArtifact, here: Arithmetic | None) -> tuple[Misfit, ...]:
    """That an engine for processors was judged in another class than a host's, if so.

    An INT8 engine does not run in any class but its own. A wider one runs in all; that it was built in the place of an
    INT8 engine of another class is told.

    Args:
        here: the host's class; None: it does not tell.
    """
    request = artifact.request
    bound = traits(request.precision).by_arithmetic
    judged = judged_in(artifact) if bound else request.arithmetic
    if (judged is here and here is not None) or (judged is None and not bound):
        return ()
    engine, host = (UNKNOWN if each is None else each.value for each in (judged, here))
    remedy = _remedy(artifact, judged, here) if bound else ""
    return (Misfit(what=ARITHMETIC, engine=engine, host=host, blocks=bound, remedy=remedy),)


def _remedy(artifact: EngineArtifact, judged: Arithmetic | None, here: Arithmetic | None) -> str:
    request = artifact.request
    again = f"regiolect run MODEL --regions {request.region} --targets {request.target.name}"
    if here is None:
        wider_ones = (each for each in Precision if wider_or_equal(each, request.precision))
        wider = max((each for each in wider_ones if not traits(each).by_arithmetic), key=width)
        return f"load it where a processor tells its class, as on Linux; or let {request.region} state {wider}"
    if judged is None:
        return f"release it again, for its class of arithmetic was not kept: {again}"
    return f"release it on a machine like this one, which adds an engine of class {here}: {again}"
