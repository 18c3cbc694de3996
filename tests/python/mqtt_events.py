"""Prints the ids of contract events as they come, until the last one of COUNT different ones.

    mqtt_events.py HOST PORT 3|5 COUNT
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

host, port, version, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
five = version == "5"
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=f"reader-{version}",
    protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
    **({} if five else {"clean_session": False}),
)
client.reconnect_delay_set(1, 1)
seen, done = set(), threading.Event()


def on_connect(client, _userdata, flags, _reason, _properties):
    print(f"connected session={flags.session_present}", flush=True)
    if not flags.session_present:
        client.subscribe("events/#", qos=1)


def on_subscribe(*_):
    print("subscribed", flush=True)


def on_message(_client, _userdata, message):
    event = json.loads(message.payload)
    print(f"event {message.topic} {event['id']}", flush=True)
    seen.add(event["id"])
    if len(seen) == count:
        done.set()


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
if five:
    properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect(host, port, 30, clean_start=False, properties=properties)
else:
    client.connect(host, port, 30)
client.loop_start()
if not done.wait(80):
    sys.exit(f"only {len(seen)} of {count} events have come")
client.disconnect()
client.loop_stop()
