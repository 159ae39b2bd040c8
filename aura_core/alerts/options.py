"""The command line of alerts: off unless a place to send them to is given. Secrets come from the environment only."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from aura_core.alerts.policy import QuietHours

if TYPE_CHECKING:
    from aura_core.alerts.watcher import Alerts


def add_alert_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `build_alerts` reads."""
    group = parser.add_argument_group(
        "alerts", "what standing requests find, sent elsewhere: first a picture, then words"
    )
    group.add_argument("--webhook", metavar="URL", help="POST them there, signed with AURA_WEBHOOK_SECRET")
    group.add_argument(
        "--webhook-internal", action="store_true", help="let it be an address of this machine or its network"
    )
    group.add_argument(
        "--mqtt", metavar="URL", help="mqtt:// or mqtts:// broker, for Home Assistant; login in AURA_MQTT_LOGIN"
    )
    group.add_argument("--quiet-hours", type=_hours, metavar="FROM-TO", help="send nothing then, such as 22:00-07:00")
    group.add_argument(
        "--alert-cooldown", type=_seconds, metavar="S", help="at most one alert in S seconds for each request (60)"
    )


def build_alerts(options: argparse.Namespace) -> Alerts | None:
    """The alerts that the flags ask for, or None. Raises ValueError in one line that shows no secret."""
    if options.webhook is None and options.mqtt is None:
        for flag in ("webhook_internal", "quiet_hours", "alert_cooldown"):
            if getattr(options, flag):
                raise ValueError(f"--{flag.replace('_', '-')} needs --webhook or --mqtt")
        return None
    from aura_core.alerts.mqtt import LOGIN, Mqtt
    from aura_core.alerts.watcher import Alerts
    from aura_core.alerts.webhook import SECRET, Webhook

    sinks = []
    if options.webhook is not None:
        sinks.append(Webhook(options.webhook, os.environ.get(SECRET, ""), options.webhook_internal))
    if options.mqtt is not None:
        sinks.append(Mqtt(options.mqtt, os.environ.get(LOGIN)))
    return Alerts(sinks, 60.0 if options.alert_cooldown is None else options.alert_cooldown, options.quiet_hours)


def _hours(text: str) -> QuietHours:
    try:
        return QuietHours.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 7 * 86400:
        raise argparse.ArgumentTypeError(f"expected seconds, at most a week, not {text!r}")
    return value
