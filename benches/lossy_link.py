#!/usr/bin/env python3
"""A link that loses and delays packets, for kernels without netem: two network namespaces that only
this program connects.

    lossy_link.py --down 40:1 --up 0:0 --seed 1 [--name NAME]   until its standard input ends, or SIGTERM
    lossy_link.py --down 40:1 --up 0:0 --check                  measures itself and ends

`--down` applies to packets of the server, `--up` to those of the client: milliseconds of delay and
per cent lost. So `--down 40:1 --up 0:0` equals `tc qdisc add dev eth0 root netem delay 40ms loss 1%`
on the server: a round trip takes 40 ms, and acknowledgements are not lost. Packets keep their order,
and each is lost independently with the same probability, from a seed; only the program itself limits
the rate (about 30 000 packets a second). The server is 10.77.0.1 in the namespace NAME-server, the client 10.77.0.2 in NAME-client.

`ready` on standard output means that the link is up; at the end a JSON object has its statistics.
Needs root and iproute2.
"""

import argparse
import collections
import ctypes
import fcntl
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE, RCVBUF = 33, 32 << 20
# linux/sockios.h, linux/ethtool.h: checksum, segmentation and receive offloads. All are disabled,
# because a packet that is read here is sent unchanged.
SIOCETHTOOL = 0x8946
OFFLOADS = {"rx checksum": 0x15, "tx checksum": 0x17, "sg": 0x19, "tso": 0x1F, "ufo": 0x22, "gso": 0x24, "gro": 0x2C}
OPTIONAL = {"ufo", "rx checksum"}
FRAME_BYTES = 1514
# Maximum number of packets in flight in one direction. Further ones are dropped and counted
# separately.
MAX_QUEUE = 100_000
BATCH = 64


def main():
    parser = argparse.ArgumentParser(description="a link that loses and delays packets")
    parser.add_argument("--down", type=impairment, default="40:1", help="server to client, MILLISECONDS:PER CENT")
    parser.add_argument("--up", type=impairment, default="0:0", help="client to server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default=f"sf{os.getpid()}", help="of the namespaces, at most 8 characters")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--offloads-off", metavar="DEVICE", help=argparse.SUPPRESS)
    parser.add_argument("--forward", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.offloads_off:
        offloads_off(options.offloads_off)
    elif options.forward:
        forward(options)
    elif options.echo:
        echo()
    elif options.probe:
        probe()
    else:
        run(options)


def impairment(text):
    delay, loss = text.split(":")
    value = (float(delay) / 1000, float(loss) / 100)
    if not (0 <= value[0] <= 10 and 0 <= value[1] < 1):
        raise argparse.ArgumentTypeError(f"{text}: 0 to 10 000 ms, 0 to 99 %")
    return value


def run(options):
    """Creates the namespaces, forwards in a third one, and removes them at the end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    names = {side: f"{options.name}-{side}" for side in ("server", "client", "link")}
    forwarder = None
    try:
        for name in names.values():
            ip("netns", "add", name)
        # Nobody but the forwarder speaks on the link's own ends.
        inside(names["link"], "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
        for side, address in (("server", SERVER), ("client", CLIENT)):
            ip("-n", names["link"], "link", "add", side, "type", "veth", "peer", "name", "eth0", "netns", names[side])
            for name, device in ((names["link"], side), (names[side], "eth0")):
                ip("-n", name, "link", "set", device, "gso_max_segs", "1", "up")
                inside(name, sys.executable, __file__, "--offloads-off", device)
            ip("-n", names[side], "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", names[side], "link", "set", "lo", "up")
        flags = [f"--down={options.down[0] * 1000}:{options.down[1] * 100}", f"--up={options.up[0] * 1000}:{options.up[1] * 100}"]
        command = ["ip", "netns", "exec", names["link"], sys.executable, __file__, "--forward", f"--seed={options.seed}", *flags]
        forwarder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if forwarder.stdout.readline() != "ready\n":
            raise SystemExit("the link does not come up")
        print("ready", flush=True)
        if options.check:
            check(names)
        else:
            sys.stdin.read()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if forwarder:
            forwarder.stdin.close()
            print(forwarder.stdout.read(), end="", flush=True)
            forwarder.wait(10)
        for name in names.values():
            ip("netns", "delete", name, check=False)


def ip(*arguments, check=True):
    subprocess.run(["ip", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)


def inside(name, *command):
    subprocess.run(["ip", "netns", "exec", name, *command], check=True)


def offloads_off(device):
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for name, command in OFFLOADS.items():
        value = ctypes.create_string_buffer(struct.pack("II", command, 0))
        try:
            fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP", device.encode(), ctypes.addressof(value)))
        except OSError as error:
            if name not in OPTIONAL:
                raise SystemExit(f"{device}: {name} stays on: {error}")


class Direction:
    """One direction of the link: received packets wait for their time."""

    def __init__(self, source, target, delay, loss, noise):
        self.source, self.target, self.delay, self.loss, self.noise = source, target, delay, loss, noise
        self.queue = collections.deque()
        self.told = {"packets": 0, "lost": 0, "overflow": 0, "oversized": 0, "refused": 0, "bytes": 0, "latest_ms": 0.0}

    def take(self):
        told = self.told
        for _ in range(BATCH):
            try:
                frame = self.source.recv(1 << 17)
            except BlockingIOError:
                return
            told["packets"] += 1
            told["bytes"] += len(frame)
            if len(frame) > FRAME_BYTES:
                told["oversized"] += 1
            if self.loss and self.noise.random() < self.loss:
                told["lost"] += 1
            elif len(self.queue) >= MAX_QUEUE:
                told["overflow"] += 1
            else:
                self.queue.append((time.monotonic() + self.delay, frame))

    def give(self, now):
        queue = self.queue
        while queue and queue[0][0] <= now:
            due, frame = queue.popleft()
            late = (now - due) * 1000
            if late > self.told["latest_ms"]:
                self.told["latest_ms"] = late
            try:
                self.target.send(frame)
            except OSError:
                self.told["refused"] += 1

    def due(self):
        return self.queue[0][0] if self.queue else None


def forward(options):
    """Forwards between the devices `server` and `client` of this namespace until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ends = {}
    for device in ("server", "client"):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
        end.bind((device, ETH_P_ALL))
        end.setblocking(False)
        ends[device] = end
    # Each direction has its own random numbers, so that one side's packets do not change the other's
    # losses.
    down = Direction(ends["server"], ends["client"], *options.down, random.Random(options.seed))
    up = Direction(ends["client"], ends["server"], *options.up, random.Random(options.seed + 1))
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = [moment for moment in (down.due(), up.due()) if moment is not None]
        wait = max(0.0, min(due) - now) if due else None
        readable, _, _ = select.select([down.source, up.source, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            break
        for direction in (down, up):
            if direction.source in readable:
                direction.take()
        now = time.monotonic()
        down.give(now)
        up.give(now)
    for direction in (down, up):
        told = direction.told
        told["lost_percent"] = round(100 * told["lost"] / max(1, told["packets"]), 3)
        told["latest_ms"] = round(told["latest_ms"], 2)
    print(json.dumps({"down": down.told, "up": up.told}), flush=True)


def check(names):
    """Measures round trips and loss with datagrams, and one TCP transfer in each direction, from the
    client's namespace."""
    command = ["ip", "netns", "exec", names["server"], sys.executable, __file__, "--echo"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout.readline() != "ready\n":
            raise SystemExit("no echo")
        inside(names["client"], sys.executable, __file__, "--probe")
    finally:
        server.stdin.close()
        server.wait(10)


def echo():
    """Echoes datagrams, and sends the requested bytes over TCP, until standard input ends."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((SERVER, 7))
    listener = socket.create_server((SERVER, 7))
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([datagrams, listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        if datagrams in readable:
            data, peer = datagrams.recvfrom(2048)
            datagrams.sendto(data, peer)
        if listener in readable:
            connection, _ = listener.accept()
            with connection:
                (length,) = struct.unpack("!Q", connection.recv(8))
                connection.sendall(b"x" * length)


def probe():
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((SERVER, 7))
    datagrams.setblocking(False)
    count, sent, trips = 2000, {}, []
    begin = time.monotonic()
    for number in range(count + 100):
        if number < count:
            sent[number] = time.monotonic()
            datagrams.send(struct.pack("!Q", number) + bytes(1000))
        end = begin + (number + 1) / 400
        while (left := end - time.monotonic()) > 0:
            if select.select([datagrams], [], [], left)[0]:
                (answered,) = struct.unpack("!Q", datagrams.recv(2048)[:8])
                trips.append((time.monotonic() - sent.pop(answered)) * 1000)
    trips.sort()
    lost = 100 * len(sent) / count
    print(f"{count} datagrams: round trip p50 {trips[len(trips) // 2]:.2f} ms, p99 {trips[len(trips) * 99 // 100]:.2f} ms; {lost:.2f} % lost")
    for length in (1 << 20, 16 << 20):
        with socket.create_connection((SERVER, 7)) as connection:
            begin, got = time.monotonic(), 0
            connection.sendall(struct.pack("!Q", length))
            while data := connection.recv(1 << 20):
                got += len(data)
            seconds = time.monotonic() - begin
            if got != length:
                raise SystemExit(f"{got} of {length} bytes came")
            print(f"TCP: {length >> 20} MiB in {seconds:.2f} s, {length * 8 / seconds / 1e6:.1f} Mbit/s")


if __name__ == "__main__":
    main()
