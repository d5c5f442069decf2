vcl 4.1;

# Varnish as a cache before streamforge: a whole configuration, for Varnish 6 or newer.
# tests/proxies.rs plays through it, with 256 MB of memory: varnishd -a :80 -f varnish.vcl -s default,256m
#
# Varnish makes one request of many that want the same object, those that wait included, and passes on what it gets as it comes:
# open segments of DASH too. What has to be set is little: time-outs, the key, and that nothing is served beyond its time.

backend default {
    .host = "127.0.0.1";
    .port = "8080";
    # The origin holds a request for at most three target durations, and 15 s for a channel that has just begun.
    .first_byte_timeout = 30s;
    # An open segment is silent while its publisher is.
    .between_bytes_timeout = 30s;
    .connect_timeout = 3s;
}

sub vcl_recv {
    # DASH manifests name the clock by the Host of the request, and by https if X-Forwarded-Proto says so: a TLS proxy
    # before Varnish must set both. Varnish keeps a manifest for each (Vary).
    if (req.url !~ "^/(live|media)/") {
        # The watch page, the API and the clock.
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # Of a query, the directives of low-latency HLS belong to the key, in one order, and nothing else.
    set req.http.X-Directives = "";
    if (req.url ~ "[?&]_HLS_msn=") {
        set req.http.X-Directives = regsub(req.url, "^.*[?&](_HLS_msn=[^&]*).*$", "&\1");
    }
    if (req.url ~ "[?&]_HLS_part=") {
        set req.http.X-Directives = req.http.X-Directives + regsub(req.url, "^.*[?&](_HLS_part=[^&]*).*$", "&\1");
    }
    if (req.url ~ "[?&]_HLS_skip=") {
        set req.http.X-Directives = req.http.X-Directives + regsub(req.url, "^.*[?&](_HLS_skip=[^&]*).*$", "&\1");
    }
    set req.url = regsub(req.url, "\?.*$", "") + regsub(req.http.X-Directives, "^&", "?");
    unset req.http.X-Directives;
    unset req.http.Cookie;
    unset req.http.Authorization;
    return (hash);
}

sub vcl_backend_response {
    # A live playlist beyond its time is of no use to a player.
    set beresp.grace = 0s;
    # But it may be asked about: a 304 costs less than a playlist.
    set beresp.keep = 30s;
    if (beresp.status >= 500) {
        # Who asks again may be luckier.
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
