"""Publishes readings with paho-mqtt until each is acknowledged, through whatever happens to the broker.

    mqtt_publish.py HOST PORT 3|5 STREAM COUNT
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

host, port, version, stream, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
five = version == "5"
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=f"publisher-{stream}",
    protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
    **({} if five else {"clean_session": False}),
)
client.max_inflight_messages_set(10)
client.max_queued_messages_set(0)
client.reconnect_delay_set(1, 1)
acknowledged, refused, done = set(), [], threading.Event()


def on_publish(_client, _userdata, mid, reason, _properties):
    # "Packet identifier not found" ends a QoS 2 exchange whose message was taken before the broker was killed (MQTT 5 §4.4
    # and 3.7.2.1: no error while a session recovers).
    if reason.is_failure and reason.value != 0x92:
        refused.append(str(reason))
    acknowledged.add(mid)
    print(f"acknowledged {len(acknowledged)}", flush=True)
    if len(acknowledged) == count:
        done.set()


client.on_publish = on_publish
if five:
    properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect(host, port, 30, clean_start=False, properties=properties)
else:
    client.connect(host, port, 30)
client.loop_start()
for sequence in range(count):
    reading = {
        "sequence": sequence,
        "time": f"2026-01-12T{sequence // 60:02}:{sequence % 60:02}:00Z",
        "values": {"temperature": "4.5"},
    }
    client.publish(f"readings/edge-1/{stream}", json.dumps(reading), qos=1 if sequence % 3 else 2)
if not done.wait(80):
    sys.exit(f"only {len(acknowledged)} of {count} messages are acknowledged")
client.disconnect()
client.loop_stop()
if refused:
    sys.exit(f"refused: {refused}")
