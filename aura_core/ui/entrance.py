"""How the page can be reached, and by whom: address, certificate, password, places, helpers of WebRTC.

Everything is looked at before a model is loaded, and importing this costs nothing: a wrong flag is one line at once.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from aura_core.sources.ice import ENVIRONMENT, Ice, parse_ice

#: The environment variable that stands in for `--auth`.
AUTH = "AURA_AUTH"


@dataclass(frozen=True)
class Credentials:
    """A name and a password."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str, where: str) -> Credentials:
        """From `USER:PASSWORD`. Raises ValueError, without the password, if it is no such thing."""
        user, colon, password = text.strip().partition(":")
        if not (user and colon and password):
            raise ValueError(f"{where} must be USER:PASSWORD")
        return cls(user, password)


@dataclass(frozen=True)
class Entrance:
    """See the module. Raises ValueError, in one line, for what cannot work."""

    host: str = "127.0.0.1"
    port: int = 7860
    max_sessions: int = 4
    ice: Ice = field(default_factory=Ice)
    certificate: Path | None = None
    key: Path | None = None
    credentials: Credentials | None = None
    max_upload: int = 500 << 20
    """Largest video that a visitor may bring, in bytes; 0: none may."""

    def __post_init__(self) -> None:
        if self.certificate is None:
            if self.key is not None:
                raise ValueError("--ssl-keyfile needs --ssl-certfile")
            return
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}")
        try:
            # an empty password: never ask for one on the terminal
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, "")
        except (ssl.SSLError, OSError) as error:
            both = f"{self.certificate} and {self.key}" if self.key else f"{self.certificate} (without --ssl-keyfile)"
            raise ValueError(f"{both} are no certificate and its key: {error.__class__.__name__}") from error

    @property
    def is_private(self) -> bool:
        """Only this machine can come in."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def warnings(self) -> list[str]:
        """What its owner should know, a line each."""
        if self.is_private:
            return []
        lines = []
        if self.credentials is None:
            lines.append(
                f"Anyone who reaches {self.host}:{self.port} can use this page, its camera sessions and its model; "
                "--auth USER:PASSWORD asks for a password."
            )
        elif self.certificate is None:
            lines.append("The password travels unencrypted; use --ssl-certfile, or a proxy with HTTPS in front.")
        if self.certificate is None:
            lines.append("Browsers give camera and microphone only to https pages and to localhost.")
        return lines


def on_space() -> bool:
    """Whether this runs as a Hugging Face Space: behind a proxy that lets HTTP and WebSockets through, and no UDP."""
    return "SPACE_ID" in os.environ


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `from_flags` reads."""
    page = parser.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    page.add_argument("--port", type=_port, default=7860, help="port to listen on (default: 7860)")
    page.add_argument(
        "--max-sessions",
        type=_count,
        default=4,
        metavar="N",
        help="visitors at a time; more wait in line (default: 4)",
    )
    page.add_argument("--auth", metavar="USER:PASSWORD", help=f"ask for a password (or in {AUTH}, or in --auth-file)")
    page.add_argument("--auth-file", type=Path, metavar="FILE", help="a file that holds USER:PASSWORD")
    page.add_argument("--ssl-certfile", type=Path, metavar="FILE", help="serve https with this certificate")
    page.add_argument("--ssl-keyfile", type=Path, metavar="FILE", help="its key, if that is in a file of its own")
    page.add_argument(
        "--ice-servers",
        metavar="WHERE",
        help="STUN and TURN servers: a JSON file, an https address that gives one, stun:HOST:PORT, "
        f"cloudflare or huggingface (or in {ENVIRONMENT})",
    )
    page.add_argument(
        "--max-upload",
        type=_megabytes,
        default=500,
        metavar="MB",
        help="largest video a visitor may bring; 0: none (default: 500)",
    )


def from_flags(options: argparse.Namespace) -> Entrance:
    """The entrance that the flags and the environment describe. Raises ValueError."""
    return Entrance(
        host=options.host,
        port=options.port,
        max_sessions=options.max_sessions,
        ice=parse_ice(options.ice_servers or os.environ.get(ENVIRONMENT)),
        certificate=options.ssl_certfile,
        key=options.ssl_keyfile,
        credentials=_credentials(options),
        max_upload=options.max_upload << 20,
    )


def _credentials(options: argparse.Namespace) -> Credentials | None:
    if options.auth is not None and options.auth_file is not None:
        raise ValueError("--auth and --auth-file exclude each other")
    if options.auth is not None:
        return Credentials.parse(options.auth, "--auth")
    if options.auth_file is not None:
        try:
            return Credentials.parse(options.auth_file.read_text(encoding="utf-8"), str(options.auth_file))
        except OSError as error:
            raise ValueError(f"{options.auth_file} cannot be read: {error.strerror}") from error
    return Credentials.parse(text, AUTH) if (text := os.environ.get(AUTH)) else None


def _port(text: str) -> int:
    return _number(text, 1, 65535)


def _count(text: str) -> int:
    return _number(text, 1, 1000)


def _megabytes(text: str) -> int:
    return _number(text, 0, 100_000)


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}, not {text!r}")
    return int(text)
