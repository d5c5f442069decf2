"""Looks at a NATS server with an implementation that is not the daemon's, and prints JSON.

    bus.py URL read STREAM              all messages of a stream, one a line, in order
    bus.py URL info STREAM              its state and configuration
    bus.py URL trim STREAM COUNT        keeps the last COUNT messages
    bus.py URL delete STREAM            deletes a stream
    bus.py URL publish STREAM SUBJECT ID    one message of another writer
"""

import asyncio
import base64
import json
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy, DiscardPolicy
from nats.js.errors import NotFoundError

PAGE = 1000


async def read(js, stream):
    try:
        last = (await js.stream_info(stream)).state.last_seq
    except NotFoundError:
        return
    if last == 0:
        return
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy="none")
    # The subject selects nothing: the stream is named.
    consumer = await js.pull_subscribe("", stream=stream, config=config)
    while True:
        try:
            messages = await consumer.fetch(PAGE, timeout=2)
        except nats.errors.TimeoutError:
            break
        for message in messages:
            sequence = message.metadata.sequence.stream
            print(json.dumps({
                "sequence": sequence,
                "subject": message.subject,
                "headers": message.headers or {},
                "payload": base64.b64encode(message.data).decode(),
            }))
        if sequence >= last:
            break


async def info(js, stream):
    found = await js.stream_info(stream)
    config = found.config
    print(json.dumps({
        "first": found.state.first_seq,
        "last": found.state.last_seq,
        "messages": found.state.messages,
        "subjects": config.subjects,
        "storage": config.storage,
        "deny_delete": config.deny_delete,
        "deny_purge": config.deny_purge,
        "duplicate_window_s": config.duplicate_window,
    }))


async def trim(js, stream, count):
    config = (await js.stream_info(stream)).config
    config.max_msgs = int(count)
    config.discard = DiscardPolicy.OLD
    await js.update_stream(config)


async def delete(js, stream):
    await js.delete_stream(stream)


async def publish(js, stream, subject, name):
    headers = {"Nats-Msg-Id": name}
    ack = await js.publish(subject, b"{}", stream=stream, headers=headers)
    print(json.dumps({"sequence": ack.seq, "duplicate": bool(ack.duplicate)}))


async def main(url, verb, *arguments):
    client = await nats.connect(url, allow_reconnect=False, connect_timeout=10)
    verbs = {"read": read, "info": info, "trim": trim, "delete": delete, "publish": publish}
    await verbs[verb](client.jetstream(timeout=10), *arguments)
    await client.close()


asyncio.run(main(*sys.argv[1:]))
