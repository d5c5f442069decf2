"""Reads a live channel over HTTP/3 with aioquic, and says what it saw, as one JSON object on stdout.

    h3.py get  --url https://HOST:PORT --certificate PEM PATH...
    h3.py play --url https://HOST:PORT/live/CHANNEL/master.m3u8 --certificate PEM --seconds N --out DIR

`get` asks for each path on one connection and prints the answers: status, headers, the body in base 64; --header 'name: value' is sent
along, --method is another than GET. `play` follows the channel as a low-latency player does, every track at once on one connection: its playlists, the header, and each
part as it is hinted at; what came is left in DIR as TRACK.mp4. Then it comes back with the session ticket, and asks for the first playlist
in its first flight (0-RTT).

The certificate is verified: PEM is all that is trusted. Exit status 2 when nothing could be tried.
"""

import argparse
import asyncio
import base64
import json
import re
import sys
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StreamReset

# Above the longest hold of a blocking request: three target durations.
ANSWER_S = 30


class Answer:
    def __init__(self):
        self.status = None
        self.headers = []
        self.body = bytearray()
        self.done = asyncio.get_running_loop().create_future()


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.alpn = None

    async def get(self, authority, path, headers=(), method="GET"):
        stream = self._quic.get_next_available_stream_id()
        answer = self.answers[stream] = Answer()
        if method == "HEAD":
            # It would miss the content that the length speaks of (RFC 9110 8.6).
            self.http._check_content_length = lambda stream: None
        pseudo = {":method": method, ":scheme": "https", ":authority": authority, ":path": path}
        fields = [*pseudo.items(), ("user-agent", "h3.py"), *headers]
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields], end_stream=True)
        self.transmit()
        async with asyncio.timeout(ANSWER_S):
            return await answer.done

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.alpn = event.alpn_protocol
        elif isinstance(event, ConnectionTerminated):
            for answer in self.answers.values():
                if not answer.done.done():
                    answer.done.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            answer = self.answers.pop(event.stream_id)
            answer.done.set_exception(ConnectionError(f"stream reset: {event.error_code:#x}"))
        for event in self.http.handle_event(event):
            if isinstance(event, (HeadersReceived, DataReceived)) and event.stream_id in self.answers:
                self.take(event)

    def take(self, event):
        answer = self.answers[event.stream_id]
        if isinstance(event, DataReceived):
            answer.body += event.data
        elif answer.status is None:
            fields = [(name.decode(), value.decode()) for name, value in event.headers]
            answer.status = int(dict(fields)[":status"])
            answer.headers = [field for field in fields if not field[0].startswith(":")]
        if event.stream_ended:
            del self.answers[event.stream_id]
            answer.done.set_result(answer)


def configuration(certificate, ticket=None):
    config = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=certificate, idle_timeout=ANSWER_S)
    config.max_data = config.max_stream_data = 16 << 20
    config.session_ticket = ticket
    return config


def to(url, certificate, **kwargs):
    config = configuration(certificate, kwargs.pop("ticket", None))
    return connect(url.hostname, url.port, configuration=config, create_protocol=Client, **kwargs)


async def get(options):
    url = urlsplit(options.url)
    headers = [tuple(part.strip() for part in header.split(":", 1)) for header in options.header]
    async with to(url, options.certificate) as client:
        answers = []
        for path in options.paths:
            answer = await client.get(url.netloc, path, headers, options.method)
            body = base64.b64encode(answer.body).decode()
            answers.append({"path": path, "status": answer.status, "headers": answer.headers, "body": body})
        return {"alpn": client.alpn, "answers": answers}


class Track:
    """A media playlist, followed from the newest part that can be decoded by itself."""

    def __init__(self, client, url, out):
        self.client, self.url, self.out = client, url, out
        self.parts = []
        self.refused = []

    async def fetch(self, address):
        url = urlsplit(address)
        answer = await self.client.get(url.netloc, url.path + (f"?{url.query}" if url.query else ""))
        if answer.status != 200:
            self.refused.append(f"{answer.status} {address}")
        return answer

    async def follow(self, until):
        seen = set()
        query = ""
        with open(self.out, "wb") as file:
            while asyncio.get_running_loop().time() < until:
                text = (await self.fetch(self.url + query)).body.decode()
                listed = re.findall(r'#EXT-X-PART:(.*)', text)
                new = [line for line in listed if attribute(line, "URI") not in seen]
                if not seen:
                    starts = [index for index, line in enumerate(listed) if "INDEPENDENT=YES" in line]
                    seen.update(attribute(line, "URI") for line in listed[: starts[-1]])
                    new = listed[starts[-1] :]
                    header = re.findall(r'#EXT-X-MAP:URI="([^"]*)"', text)[-1]
                    file.write((await self.fetch(urljoin(self.url, header))).body)
                for line in new:
                    uri = attribute(line, "URI")
                    seen.add(uri)
                    self.parts.append(uri)
                    file.write((await self.fetch(urljoin(self.url, uri))).body)
                query = self.next(text)

    @staticmethod
    def next(text):
        first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
        complete = text.count("#EXTINF:")
        part = text.rsplit("#EXTINF:", 1)[-1].count("#EXT-X-PART:")
        return f"?_HLS_msn={first + complete}&_HLS_part={part}"


def attribute(line, name):
    return re.search(rf'{name}="([^"]*)"', line)[1]


async def play(options):
    url = urlsplit(options.url)
    tickets = []
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    async with to(url, options.certificate, session_ticket_handler=tickets.append) as client:
        master = (await client.get(url.netloc, url.path)).body.decode()
        lists = [line for line in master.splitlines() if line and not line.startswith("#")]
        lists += re.findall(r'#EXT-X-MEDIA:.*URI="([^"]*)"', master)
        names = dict.fromkeys(lists)
        tracks = [Track(client, urljoin(options.url, name), out / f"{Path(name).stem}.mp4") for name in names]
        until = asyncio.get_running_loop().time() + options.seconds
        await asyncio.gather(*(track.follow(until) for track in tracks))
        alpn = client.alpn
    early = None
    if tickets:
        async with to(url, options.certificate, ticket=tickets[-1], wait_connected=False) as client:
            answer = await client.get(url.netloc, url.path)
            early = {"accepted": client._quic.tls.early_data_accepted, "status": answer.status, "bytes": len(answer.body)}
    return {
        "alpn": alpn,
        "tracks": {track.out.stem: {"parts": track.parts, "refused": track.refused, "file": str(track.out)} for track in tracks},
        "early": early,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["get", "play"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--out", default=".")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("paths", nargs="*")
    options = parser.parse_intermixed_args()
    print(json.dumps(asyncio.run({"get": get, "play": play}[options.mode](options))))


if __name__ == "__main__":
    try:
        main()
    except (OSError, TimeoutError, KeyError, TypeError, IndexError) as error:
        print(f"h3.py: {error!r}", file=sys.stderr)
        sys.exit(2)
