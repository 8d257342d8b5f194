"""`regiolect promote`: a person's decision to serve what was held back."""

from __future__ import annotations

from typing import Annotated

import typer


def promote(
    model: Annotated[str, typer.Argument(help="The model: its name, or package.module:NAME of its ModelSpec.")],
    region: Annotated[str, typer.Argument(help="The region.")],
    because: Annotated[str, typer.Option("--because", help="Why it is right to serve it; kept and signed.")],
) -> None:
    """Make a region's challenger its champion: a version that the gate approved and that a release held back.

    Says first why it was held back, with the figures. Signed with the key of this machine, with the reason and the name
    of the account; the audit shows both.
    Example: regiolect promote fashion eu --because "the new camera is live in all shops; the old model never saw it"
    """
    from regiolect.errors import UsageError
    from regiolect.errors.output import printable
    from regiolect.orchestrator import registration_lock
    from regiolect.planning import load_model_spec
    from regiolect.progress import watching
    from regiolect.registry import CHALLENGER, Registry
    from regiolect.release.publish import keep_champion
    from regiolect.settings import load_settings
    from regiolect.signing.keyring import account

    reason = " ".join(because.split())
    if len(reason) < _SHORTEST or not reason.isprintable():
        raise UsageError(
            expected=f"a reason of at least {_SHORTEST} characters, for whoever audits this",
            found=repr(because),
            remedy='--because "what changed, and why the new version is right all the same"',
        )
    settings = load_settings()
    name = load_model_spec(model).name if ":" in model else model
    with watching(verbose=False):
        registry = Registry.of(settings, exclusively=registration_lock(settings))
        store = settings.store(region)
        challenger = registry.by_alias(f"{name}-{region}", CHALLENGER)
        if challenger is not None:
            held = registry.held(challenger) or "no reason was kept"
            typer.echo(printable(f"{challenger.uri} was held back: {held}"))
        champion = registry.promote(name, region, reason, account())
        keep_champion(registry, store, name, region)
    made = f"promoted by {champion.promoted_by}: {champion.because}"
    typer.echo(printable(f"{champion.uri} is champion of {champion.name}, {made}"))


_SHORTEST = 10
