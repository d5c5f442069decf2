#!/bin/sh
# HTTP/3 beside HTTP/2 over a link that loses packets: hls.js in headless Chromium plays the daemon's
# source over each in turn, on a link that delays and loses the server's packets (lossy_link.py).
# Reports the latency from encoder to screen, stalls, and the protocol according to the browser.
#
#   benches/loss.sh [SECONDS] [DELAY_MS:LOSS_PERCENT] [PROTOCOLS] [UP_DELAY_MS:UP_LOSS_PERCENT]     120 40:1 "h2 h3" 0:0
#
# CONGESTION: the TCP congestion control of the server (sysctl
# net.ipv4.tcp_allowed_congestion_control lists those that a namespace may set).
# OUT: a directory for the reports, the daemon's log and its access log.
# Needs root, target/release/streamforge (or DAEMON), ffmpeg, chromium, openssl, iproute2, and `npm ci`
# in tests/players. All processes that it starts end with it.
set -eu

seconds=${1:-120} down=${2:-40:1} protocols=${3:-"h2 h3"} up=${4:-0:0} seed=${SEED:-1}
root=$(cd "$(dirname "$0")/.." && pwd)
daemon=${DAEMON:-$root/target/release/streamforge}
name=sf$$
server="ip netns exec $name-server"
client="ip netns exec $name-client"
scratch=$(mktemp -d /dev/shm/streamforge-loss-XXXXXX)
link='' streamforge='' publisher=''

# Ends each process and waits for it; the link last, because the others use it.
finish() {
    status=$?
    trap - EXIT INT TERM
    for process in $publisher $streamforge; do
        kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true
    done
    exec 9>&- || true
    if [ -n "$link" ]; then wait "$link" || true; cat "$scratch/link" | sed -n '2p'; fi
    if [ -n "${OUT:-}" ]; then mkdir -p "$OUT" && cp "$scratch"/*.json "$scratch"/*.err "$scratch/log" "$scratch/access" "$OUT" 2>/dev/null || true; fi
    rm -rf "$scratch"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# Waits until the file contains the text, at most 20 s.
await() {
    for _ in $(seq 200); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
    cat "$1" >&2
    echo "$3" >&2
    exit 1
}

mkfifo "$scratch/hold"
python3 "$root/benches/lossy_link.py" --name "$name" --down "$down" --up "$up" --seed "$seed" <"$scratch/hold" >"$scratch/link" &
link=$!
exec 9>"$scratch/hold"
await "$scratch/link" ready "the link does not come up"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 13 -subj /CN=streamforge -addext subjectAltName=IP:10.77.0.1 \
    -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>/dev/null

if [ -n "${CONGESTION:-}" ]; then $server sysctl -q "net.ipv4.tcp_congestion_control=$CONGESTION"; fi
if [ -n "${OUT:-}" ]; then export STREAMFORGE_HTTP_ACCESS_LOG="$scratch/access" STREAMFORGE_HTTP_ACCESS_LOG_FORMAT=json; fi
STREAMFORGE_PUBLISH_POLICY=open STREAMFORGE_DATA_DIR=$scratch STREAMFORGE_RTMP_LISTEN=127.0.0.1:1935 STREAMFORGE_HTTP_LISTEN= \
    STREAMFORGE_RTMPS_LISTEN= STREAMFORGE_HTTPS_LISTEN=10.77.0.1:8443 STREAMFORGE_TLS_CERT=$scratch/cert.pem \
    STREAMFORGE_TLS_KEY=$scratch/key.pem STREAMFORGE_LADDER_ENABLED=false \
    $server "$daemon" serve --config "${CONFIG:-$root/conf/streamforge.toml}" 9>&- 2>"$scratch/log" &
streamforge=$!
await "$scratch/log" listening "the daemon does not listen"

# Long enough for both protocols, including the start of the browsers.
length=$((2 * seconds + 120))
$server node "$root/tests/players/clock.mjs" --url rtmp://127.0.0.1:1935/live/loss --seconds "$length" --kbps 1500 9>&- >"$scratch/publisher" 2>&1 &
publisher=$!
sleep 8

for protocol in $protocols; do
    case $protocol in h2) flag='' ;; h3) flag=--http3 ;; *) echo "$protocol: h2 or h3" >&2; exit 2 ;; esac
    # The exit status is for tests; here only the report counts.
    $client node "$root/tests/players/play.mjs" --player hls --url https://10.77.0.1:8443/live/loss/master.m3u8 --seconds "$seconds" \
        --latency --certificate "$scratch/cert.pem" $flag 9>&- >"$scratch/$protocol.json" 2>"$scratch/$protocol.err" || true
    node "$root/benches/loss_report.mjs" "$protocol" "$down" "$scratch/$protocol.json" || { cat "$scratch/$protocol.err"; tail -5 "$scratch/log"; }
done
