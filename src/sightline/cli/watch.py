"""`sightline watch RUN`: the report of a run in a browser, while it goes on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sightline.config.command_line import smart_value
from sightline.errors import SettingTypeError, SettingValueError, UsageError
from sightline.log import LOGGER

OWN = ("host", "port", "every")
EXAMPLE = "Example: sightline watch runs/detect/train port=8800"


def watch(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="RUN [host=127.0.0.1] [port=8770] [every=2]", help="A run folder.")
    ] = None,
) -> int:
    """Show the report of a run in a browser and keep it up to date, until Ctrl-C. It reads only."""
    places, own = _sorted(words or [])
    if len(places) != 1:
        raise UsageError(f"watch needs one run folder, not {len(places)}. {EXAMPLE}")
    from sightline.report.serve import EVERY, HOST, PORT, Server, WatchedRun, is_loopback

    run = WatchedRun(places[0], every=_number("every", own.get("every", EVERY), least=0.2, most=3600))
    port = _number("port", own["port"], least=0, most=65535) if "port" in own else None
    if port != (port if port is None else int(port)):
        raise SettingTypeError(f"port={own['port']} is not allowed. It must be a whole number.")
    with Server(run, str(own.get("host", HOST)), None if port is None else int(port)) as server:
        if port is None and server.server_address[1] != PORT:
            LOGGER.info(f"port {PORT} is in use; it is {server.server_address[1]} instead")
        if not is_loopback(server.asked_host):
            LOGGER.warning(
                f"host={server.asked_host}: everyone who reaches this machine over the network can read this run. "
                f"Without host= it is this machine alone; from elsewhere: ssh -L {PORT}:{HOST}:{PORT} MACHINE."
            )
        print(
            f"{run.folder.name} is shown at {server.address} (Ctrl-C ends it; the training does not notice)", flush=True
        )
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("\nno longer shown", flush=True)
    return 0


def _sorted(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Run folders, and our own words by name."""
    places, own = [], {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if equals and name in OWN:
            own[name] = value if name == "host" else smart_value(value)
        elif word.startswith("--"):
            raise UsageError(
                f"watch does not know {word}. There is: {', '.join(f'{name}=' for name in OWN)}. {EXAMPLE}"
            )
        else:
            places.append(word)
    return places, own


def _number(name: str, value: Any, *, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingTypeError(f"{name}={value} is not allowed. It must be a number.")
    if not least <= value <= most:
        raise SettingValueError(f"{name}={value} is not allowed. It must be from {least:g} to {most:g}.")
    return value
