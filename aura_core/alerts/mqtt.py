"""Alerts over MQTT, in the way that Home Assistant finds by itself (MQTT discovery).

Three entities appear under one device: an image (the snapshot, at once), an event and a sensor (the words, a moment
later). Nothing that was filmed is retained on the broker. The package paho-mqtt is needed only where this is used; it
keeps the connection, in a thread of its own, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from aura_core.alerts.alert import Alert

log = logging.getLogger(__name__)

#: The environment variable with `user:password` of the broker.
LOGIN = "AURA_MQTT_LOGIN"
#: Messages that may wait for the broker; of more, the newest are dropped.
MAX_WAITING = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Mqtt:
    """A `aura_core.alerts.alert.Sink`. `url`: `mqtt://HOST[:PORT][/NAME]`, or `mqtts://` for TLS.

    NAME tells several assistants at one broker apart. Raises ValueError for an address that cannot be used, or when
    paho-mqtt is not installed; neither line shows a login.
    """

    def __init__(self, url: str, login: str | None = None, discovery: str = "homeassistant") -> None:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the MQTT address is malformed") from None
        self.name = parts.path.strip("/") or "aura"
        if parts.scheme not in ("mqtt", "mqtts") or not host or not _NAME.fullmatch(self.name):
            raise ValueError("the MQTT address must be like mqtt://HOST:1883/NAME")
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise ValueError("--mqtt needs the package paho-mqtt: pip install -r requirements-extra.txt") from error
        tls = parts.scheme == "mqtts"
        self.place = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
        self._host, self._port = host, port or (8883 if tls else 1883)
        self._base, self._discovery = f"aura/{self.name}", discovery
        self._trouble = ""
        self.dropped = 0
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"aura-{self.name}")
        user, password = parts.username, parts.password
        if user is None and login:
            user, _, password = login.partition(":")
        elif user is not None:
            user, password = unquote(user), unquote(password or "")
        if user is not None:
            client.username_pw_set(user, password)
        if tls:
            client.tls_set_context(ssl.create_default_context())
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 60)
        client.max_queued_messages_set(MAX_WAITING)
        client.connect_timeout = 10.0
        client.on_connect = self._connected
        client.on_connect_fail = lambda client, data: self._lost("it cannot be reached")
        client.on_disconnect = lambda client, data, flags, reason, properties: self._lost(str(reason))

    async def open(self) -> None:
        """See `Sink`; the broker need not be there yet."""
        self._client.connect_async(self._host, self._port, keepalive=30)
        self._client.loop_start()

    def send(self, alert: Alert) -> None:
        """See `Sink`."""
        if alert.text is None:
            self._publish("snapshot", alert.snapshot)
        else:
            self._publish("alert", json.dumps({"event_type": "alert", **alert.as_json()}))

    async def close(self) -> None:
        """See `Sink`."""
        if self._client.is_connected():
            last = self._client.publish(f"{self._base}/status", "offline", qos=1, retain=True)
            await asyncio.to_thread(last.wait_for_publish, 2.0)
        self._client.disconnect()
        async with asyncio.timeout(5.0):
            await asyncio.to_thread(self._client.loop_stop)

    def _publish(self, topic: str, payload: str | bytes) -> None:
        if self._client.publish(f"{self._base}/{topic}", payload, qos=1).rc == 15:  # MQTT_ERR_QUEUE_SIZE
            self.dropped += 1
            log.warning("the MQTT broker at %s is away: %d messages dropped", self.place, self.dropped)

    def _connected(self, client: Any, data: object, flags: object, reason: Any, properties: object) -> None:
        """In paho's thread: tell Home Assistant what there is, after every connection, for it may be a new broker."""
        if reason.is_failure:
            self._lost(str(reason))
            return
        self._trouble = ""
        for kind, key, settings in self._entities():
            topic = f"{self._discovery}/{kind}/aura_{self.name}/{key}/config"
            client.publish(topic, json.dumps(settings), qos=1, retain=True)
        client.publish(f"{self._base}/status", "online", qos=1, retain=True)

    def _lost(self, reason: str) -> None:
        """In paho's thread. It tries again by itself; the same trouble is told once."""
        if reason not in (self._trouble, "Normal disconnection", "Success"):
            self._trouble = reason
            log.warning("the MQTT broker at %s: %s; trying again", self.place, reason)

    def _entities(self) -> list[tuple[str, str, dict[str, Any]]]:
        def entity(key: str, name: str, **settings: Any) -> dict[str, Any]:
            return {
                "name": name,
                "unique_id": f"aura_{self.name}_{key}",
                "availability_topic": f"{self._base}/status",
                "device": {"identifiers": [f"aura_{self.name}"], "name": f"AURA {self.name}"},
                **settings,
            }

        alert = f"{self._base}/alert"
        words = "{{ value_json.text[:255] }}"  # a state has 255 characters at most
        return [
            ("image", "snapshot", entity("snapshot", "Snapshot", image_topic=f"{self._base}/snapshot",
                                         content_type="image/jpeg")),
            ("event", "alert", entity("alert", "Alert", state_topic=alert, event_types=["alert"])),
            ("sensor", "words", entity("words", "Last alert", state_topic=alert, value_template=words)),
        ]  # fmt: skip
