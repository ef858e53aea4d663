# SPDX-License-Identifier: ISC
# Varnish (6.0 or newer) between browsers and the web server in front of seatcast: those who poll
# .../seats/changes?since=ID all ask for the same addresses, so that seatcast sees a handful of requests a second for a
# block, however many browsers there are.  Streams go through untouched.
# This very file is used by the tests, with the backend replaced.  Check it:  varnishd -C -f /etc/varnish/seatcast.vcl

vcl 4.1;

# The web server (lighttpd, Apache, nginx, HAProxy) that has seatcast behind it.
backend default {
	.host = "127.0.0.1";
	.port = "8080";
	# Silence on a stream for so long ends it: well above seatcast's --heartbeat (15 s).
	.between_bytes_timeout = 120s;
	.first_byte_timeout = 20s;
}

sub vcl_recv {
	# A stream is a pipe: nothing of it is kept, events go out as they come.  Everything that follows on that connection
	# goes through the same pipe, so the web server is told to close it.
	if (req.url ~ "/status-stream(\?|$)") {
		return (pipe);
	}
	# What changes something is never answered from here.
	if (req.method != "GET" && req.method != "HEAD") {
		return (pass);
	}
	# The same for everybody: no cookie, no word of who asks makes a difference.  (Origin does, where --allow-origin is
	# used: seatcast then says Vary: Origin, and Varnish keeps one answer for each.)
	if (req.url ~ "^(/[A-Za-z0-9_-]+)*/api/(site/|matches$|matches/[0-9]+/blocks)") {
		unset req.http.Cookie;
		unset req.http.Authorization;
		return (hash);
	}
	return (pass);
}

sub vcl_pipe {
	set bereq.http.Connection = "close";
}

sub vcl_backend_response {
	if (bereq.url ~ "/api/") {
		# seatcast says max-age=1, stale-while-revalidate=5.  For a second an answer is fresh; for five more it is given
		# at once while one request fetches the next (grace), so that nobody waits and seatcast is asked once.
		# An answer to since=ID that is a little old is still good: it leads to a later ID, never to an earlier one.
		if (beresp.status == 200 && beresp.ttl > 0s) {
			set beresp.grace = 5s;
			# Answers to IDs of long ago need no room.
			set beresp.keep = 0s;
		} elsif (beresp.status != 200) {
			# A refusal (503 with Retry-After) or an error is that request's alone; but a storm of them is
			# collapsed to one a second.
			set beresp.ttl = 1s;
			set beresp.grace = 0s;
		}
		unset beresp.http.Set-Cookie;
	}
}
