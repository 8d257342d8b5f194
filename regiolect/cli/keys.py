"""`regiolect keys`: the key that releases sign with, and whose signatures count here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regiolect.cli.options import JsonFile, Telling, tell
from regiolect.errors.output import printable

if TYPE_CHECKING:
    from regiolect.signing.keyring import Keyring
    from regiolect.signing.trust import Trust, TrustedKey

keys_app = typer.Typer(
    help="The key that releases sign with, and whose signatures count here.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Comment = Annotated[str, typer.Option("--comment", help="Whose key it is; default: user and machine.")]
KeyId = Annotated[str, typer.Argument(help="The first digits of the key's id, four or more.")]


@keys_app.command("create")
def keys_create(comment: Comment = "") -> None:
    """Make a key to sign with, and trust it here. A key that is there and not trusted yet is only added.

    Files: REGIOLECT_SIGNING_KEY and REGIOLECT_TRUST, or the user's configuration directory.
    """
    keyring = _keyring()
    _say("key", keyring.create(comment))
    typer.echo(f"private   {keyring.key}\ntrust     {keyring.trust}")


@keys_app.command("list", cls=Telling)
def keys_list(json_file: JsonFile = None) -> None:
    """Every key that is or was trusted here, and which one signs. As JSON it is the trust file's content."""
    keyring = _keyring()
    trust = keyring.load_trust()
    tell(trust, json_file, lambda: _list(keyring, trust))


def _list(keyring: Keyring, trust: Trust) -> None:
    from regiolect.signing.keys import load_key

    own = load_key(keyring.key).public_key.keyid if keyring.key.exists() else None
    for key in trust.keys:
        _say("signs" if key.keyid == own else "", key)
    typer.echo(f"private   {keyring.key}{'' if own else ' (none)'}\ntrust     {keyring.trust}")
    if own is not None and trust.key(own) is None:
        typer.echo("the private key is not in the trust file: regiolect keys create adds it")


@keys_app.command("rotate")
def keys_rotate(comment: Comment = "") -> None:
    """Make a new key in place of the old one, which is retired: what it signed until now still counts.

    The next release signs every region's engines anew. Hand the trust file to consumers before it runs.
    """
    keyring = _keyring()
    made, old = keyring.rotate(comment)
    _say("new", made)
    if old is not None:
        _say("old", old)


@keys_app.command("retire")
def keys_retire(keyid: KeyId) -> None:
    """Let a key's signatures count up to now, and none that is made later."""
    keyring = _keyring()
    _say("key", keyring.retire(keyid))


@keys_app.command("revoke")
def keys_revoke(
    keyid: KeyId,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the key and shown with every refusal.")],
) -> None:
    """Let nothing count that a key ever signed. Engines that it signed are refused wherever this trust file is used."""
    keyring = _keyring()
    _say("key", keyring.revoke(keyid, reason))


def _keyring() -> Keyring:
    from regiolect.settings import load_settings

    return load_settings().keyring()


def _say(role: str, key: TrustedKey) -> None:
    """`key       0123456789ab  active   made 2026-01-01  comment`, and the whole id on a line of its own."""
    ended = f", {key.state} {key.ended:%Y-%m-%d %H:%M} UTC" if key.ended else ""
    reason = f" ({key.reason})" if key.reason else ""
    # The file may come from others.
    rest = printable(f"{ended}{reason}  {key.comment}")
    typer.echo(f"{role:<9} {key.short}  {key.state:<7}  made {key.made:%Y-%m-%d}{rest}")
    typer.echo(f"          {key.keyid}")
