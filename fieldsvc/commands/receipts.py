"""``fieldsvc receipts verify``: for an auditor who has what a device was told and trusts neither it nor the service."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path
from typing import Any

import click
import orjson

from fieldsvc.base.signing import BadReceipt, verify


def register(main: click.Group) -> None:
    main.add_command(receipts)


@click.group()
def receipts() -> None:
    """What became of operations, signed."""


@receipts.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option("--keys", required=True, help="The public keys: a file, or the address of a service.")
@click.option(
    "--body", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The operation, as it was sent."
)
def verify_one(file: Any, keys: str, body: Path | None) -> None:
    """Check the receipt in FILE ("-": standard input): an outcome as a device has it, or a receipt alone.

    Status 0 when it is good; prints what it says.
    """
    outcome, receipt = _read(file.read())
    try:
        said = verify(receipt, _keys(keys))
    except BadReceipt as error:
        raise click.ClickException(f"not good: {error}") from None
    for name, value in outcome.items():
        if name in said and said[name] != value:
            raise click.ClickException(f"not good: {name} is {value!r} in the outcome, {said[name]!r} in the receipt")
    if body is not None and hashlib.sha256(body.read_bytes()).hexdigest() != said["body_sha256"]:
        raise click.ClickException(f"not good: {body} is not what this receipt was given for")
    click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())


def _read(data: bytes) -> tuple[dict[str, Any], str]:
    """(the outcome, its receipt); the outcome is empty where there is only a receipt."""
    try:
        outcome = orjson.loads(data)
        return outcome, str(outcome["receipt"])
    except orjson.JSONDecodeError:
        return {}, data.decode("ascii", "replace").strip()
    except (KeyError, TypeError):
        raise click.ClickException("not good: there is no receipt in it") from None


def _keys(where: str) -> list[dict[str, Any]]:
    try:
        if where.startswith(("https://", "http://")):
            address = where.rstrip("/").removesuffix("/sync/v1/keys") + "/sync/v1/keys"
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - see above
                data = answer.read()
        else:
            data = Path(where).read_bytes()
        keys = orjson.loads(data)["keys"]
        return [key for key in keys if isinstance(key, dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"no keys at {where}: {error}") from None
