vcl 4.1;

# Varnish as a cache in front of streamforge: a complete configuration, for Varnish 6 or newer.
# tests/proxies.rs plays through it, with 256 MB of memory: varnishd -a :80 -f varnish.vcl -s default,256m
#
# Varnish collapses requests for the same object into one, including those that wait, and forwards
# bytes as they arrive, also of open DASH segments. It needs only time-outs, the cache key, and no
# grace for expired objects.

backend default {
    .host = "127.0.0.1";
    .port = "8080";
    # The origin holds a request for at most three target durations, and for 15 s if the channel has
    # just begun.
    .first_byte_timeout = 30s;
    # An open segment pauses while its publisher is silent.
    .between_bytes_timeout = 30s;
    .connect_timeout = 3s;
}

sub vcl_recv {
    # DASH manifests list the clock with the Host of the request, and with https if
    # X-Forwarded-Proto is https: a TLS proxy in front of Varnish must set both. Varnish stores a
    # manifest for each combination (Vary).
    if (req.url !~ "^/(live|media)/") {
        # The watch page, the API and the clock.
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # The key contains only the low-latency HLS directives of a query, in a fixed order.
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
    # An expired live playlist is of no use to a player.
    set beresp.grace = 0s;
    # It may be revalidated, because a 304 costs less than a playlist.
    set beresp.keep = 30s;
    if (beresp.status >= 500) {
        # The next request may succeed.
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
