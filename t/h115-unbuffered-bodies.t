#!/usr/bin/env perl
# nginx with fastcgi_request_buffering off passes a body on as it comes, and has no CONTENT_LENGTH for a chunked one: the body is
# what comes.  One that comes too late is a 408 of ours, as JSON.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use IO::Socket::INET; use Time::HiRes qw(time);

plan(skip_all => 'nginx is not installed') if !have('nginx');
my $s = Scenario->new(seats => 10, lighttpd => 0);
my $stage = $s->{stage};
my $dir = $stage->dir;
my $port = $stage->free_port;
mkdir "$dir/nginx";
open my $fh, '>', "$dir/nginx.conf" or die $!;
print $fh <<"END";
daemon off; master_process off; pid $dir/nginx.pid; error_log $dir/log/error.log;
events { worker_connections 100; }
http {
	@{[map { "${_}_temp_path $dir/nginx/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi)]}
	access_log off;
	server {
		listen 127.0.0.1:$port;
		location / { include /etc/nginx/fastcgi_params; fastcgi_request_buffering off; fastcgi_pass unix:$stage->{listen}; }
	}
}
END
close $fh;
$stage->spawn('nginx', ['nginx', '-c', "$dir/nginx.conf", '-p', $dir]);
my $path = '/api/matches/1/allocation/seats';
sub connection { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }
$s->expect('nginx listens', sub { connection() });

# Send the pieces with a pause between them; the whole answer.
sub post {
	my ($pieces, $header, $seat) = @_;
	my $c = connection();
	print $c "POST $path/$seat/hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n$header\r\n\r\n";
	$c->flush;
	for (@$pieces) { $s->pass_time(0.2); print $c $_; $c->flush }
	my ($answer, $end) = ('', time + 12);
	$c->blocking(0);
	while (time < $end) { my $n = sysread $c, my $bytes, 65536; $answer .= $bytes if $n; last if defined $n && !$n; $s->pass_time(0.02) }
	return $answer;
}
my $chunk = sub { return sprintf "%x\r\n%s\r\n", length $_[0], $_[0] };
like(post([map { $chunk->($_) } '{"user', 'Id":7', '}', ''], 'Transfer-Encoding: chunked', 101), qr{\AHTTP/1.1 200 }, 'a chunked body in pieces');
like(post(['{"userId"', ':7}'], 'Content-Length: 12', 102), qr{\AHTTP/1.1 200 }, 'one with a length, in pieces');
like(post([$chunk->('x' x 20000), $chunk->('')], 'Transfer-Encoding: chunked', 103), qr{\AHTTP/1.1 413 .*\{"status":413,}s, 'a chunked one that is too long');
my $late = post(['{"userId"'], 'Content-Length: 12', 104);
like($late, qr{\AHTTP/1.1 408 .*\r\n\r\n\{"status":408,"message":"[^"]+"\}\z}s, 'one that does not come: 408') or diag($late);
$s->expect_counter(worker_restarts => 0);
$stage->stop('nginx');
$s->done;
