"""`gradsentry attest`: keys and signatures for attestations."""

from pathlib import Path
from typing import Annotated

import typer

from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.store import open_ledger


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Sign attestations, and make keys for that.")
    group.command("keygen")(keygen)
    group.command("sign")(sign)
    app.add_typer(group, name="attest")


def keygen(
    private: Annotated[Path, typer.Argument(help="Where the private key goes; the public one gets .pub behind it.")],
) -> None:
    """Make an ed25519 key pair (PEM). GRADSENTRY_KEY_PASSWORD encrypts the private key."""
    from gradsentry_lib.store.signing import make_keys

    public = private.with_name(private.name + ".pub")
    try:
        make_keys(private, public)
    except OSError as error:
        raise UnusableFile(f"a key can't be written to {private}: {error.strerror or error}") from error
    typer.echo(f"private key {private} (keep it secret), public key {public} (hand it out)")


def sign(
    attestation: Annotated[Path, typer.Argument(help="An attestation.json, of this ledger.")],
    key: Annotated[Path, typer.Option(help="Private ed25519 key in PEM.")],
) -> None:
    """Sign an attestation: a DSSE envelope beside it, and beside the store's own copy."""
    from gradsentry_lib.store.attestation import sign_attestation

    try:
        found = attestation.is_file()
    except (OSError, ValueError):  # too long a name, a NUL in it
        found = False
    if not found:
        raise UnusableFile(f"there is no file {str(attestation)[:200]}")
    with open_ledger() as ledger:
        signatures = sign_attestation(ledger, attestation, key)
    for path in signatures:
        typer.echo(f"signed: {path}")
