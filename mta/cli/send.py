"""`sluice send`: hand in a message from a file or standard input, over SMTP like any other feeder."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from mta.cli.ask import fail


def send(
    recipients: Annotated[list[str], typer.Argument(metavar="RECIPIENT...", help="to whom")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="the message (default: standard input)")
    ] = None,
    sender: Annotated[str, typer.Option("--from", help="the envelope sender; empty for none")] = "",
    server: Annotated[str, typer.Option(help="the listener, as host:port")] = "127.0.0.1:2525",
    user: Annotated[str | None, typer.Option(help="log in (needs TLS)")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="SLUICE_PASSWORD", help="better in the environment")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="do not verify the certificate")] = False,
) -> None:
    """Hand in one message: its header and body as they are, its lines ended as mail wants them."""
    try:
        data = file.read_bytes() if file else sys.stdin.buffer.read()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", code=2)
    if not data.strip():
        fail("the message is empty", "give a file with --file, or pipe the message in", 2)
    # A file of this machine ends its lines with LF; mail ends them with CRLF (RFC 5321 §2.3.8).
    message = b"\r\n".join(data.splitlines()) + b"\r\n"
    host, _, port = server.rpartition(":")
    if not port.isdigit():
        fail(f"{server!r} is no host:port", code=2)
    asyncio.run(
        _send(message, sender, recipients, host.strip("[]"), int(port), user, password, insecure)
    )


async def _send(
    message: bytes,
    sender: str,
    recipients: list[str],
    host: str,
    port: int,
    user: str | None,
    password: str | None,
    insecure: bool,
) -> None:
    import aiosmtplib

    # Not aiosmtplib.send(): that wants a sender, and a bounce has none.
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        username=user,
        password=password,
        validate_certs=not insecure,
        timeout=60,
    )
    try:
        async with client:
            refused, answer = await client.sendmail(sender, recipients, message)
    except aiosmtplib.SMTPConnectError as error:
        fail(f"no server answers on {host}:{port}: {error}", "is it running? sluice status", 69)
    except aiosmtplib.SMTPRecipientsRefused as error:
        for one in error.recipients:
            typer.secho(f"{one.recipient}: {one.code} {one.message}", err=True, fg="red")
        raise typer.Exit(1) from None
    except aiosmtplib.SMTPException as error:
        fail(f"not taken: {error}")
    except OSError as error:  # the certificate is not believed, or the connection broke
        fail(f"not taken: {error}", "--insecure goes on whatever the certificate")
    finally:
        client.close()  # a handshake that failed leaves it open
    for recipient, reply in refused.items():
        typer.secho(f"{recipient}: {reply.code} {reply.message}", err=True, fg="red")
    typer.echo(answer)
    raise typer.Exit(1 if refused else 0)
