#!/usr/bin/env perl
# Streams for those who are logged in, with what web servers have: Basic in lighttpd and nginx (a browser's EventSource sends
# it by itself), a question to the site (auth_request), signed addresses (secure_link).  As doc/clients.md shows them.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;
use Digest::MD5 qw(md5_base64);
use MIME::Base64 qw(encode_base64);

plan skip_all => 'nginx is not installed' if !have('nginx');
my $s = Scenario->new(start => 0, seats => 5);
my $stage = $s->{stage};
my $dir = $s->dir;
$s->stop_lighttpd;
$s->start_seatcast(listen_mode => '0666');
my $hash = `openssl passwd -apr1 -salt seatcast seats` =~ s/\n//r;
Deploy::put($stage, 'users', "7:$hash\n");
chmod 0644, "$dir/users";
my %basic = (Authorization => 'Basic ' . encode_base64('7:seats', ''));
my $doc = Stage::slurp("$stage->{src}/doc/clients.md");
my $n = 0;

# The lines of the document between ``` and ``` that have this word, with what differs between machines replaced.
sub lines_with {
	my ($word) = @_;
	my ($found) = grep { /\Q$word\E/ } $doc =~ /^```\w*\n(.*?)^```/msg or die "doc/clients.md: no lines with $word\n";
	$found =~ s{/etc/\w+/seatcast\.htpasswd}{$dir/users}g;
	return $found;
}

sub refused { my ($why, $path, @headers) = @_; my $c = $s->client('refused ' . $n++)->get($path, @headers); $s->expect("$why: no stream", sub { ($c->{status} // 0) =~ /^(?:401|403)$/ }); $c->close; return }
sub served { my ($why, $path, @headers) = @_; $s->client('served ' . $n++)->get($path, @headers)->expect_event('init')->close; pass("$why: a stream"); return }
my $stream = $s->stream_path(1, 101);

start_server($stage, 'lighttpd', append => lines_with('auth.backend'));
$s->expect('lighttpd serves', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 });
refused('lighttpd, Basic: without a name', $stream);
refused('lighttpd, Basic: a wrong password', $stream, Authorization => 'Basic ' . encode_base64('7:x', ''));
served('lighttpd, Basic: with both', $stream, %basic);
$stage->stop_lighttpd;

# nginx: a location before the sample's own for each way.
sub nginx { my ($word) = @_; my $lines = lines_with($word); start_server($stage, 'nginx', edit => sub { s{^(\s*location ~ \^/\(\?:api)}{$lines$1}m or die }); $s->expect("nginx, $word: it serves", sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }); return }
nginx('auth_basic_user_file');
refused('nginx, Basic: without a name', $stream);
served('nginx, Basic: with a name', $stream, %basic);
stop_server($stage);

nginx('auth_request /who');		# the site, played by nginx itself: who has the cookie is 7
refused('nginx, auth_request: without the cookie', $stream);
served('nginx, auth_request: with it', $stream, Cookie => 'session=of-seven');
stop_server($stage);

nginx('secure_link_md5');
my $until = time + 60;
my $sign = sub { my ($expires, $path) = @_; return md5_base64("$expires$path a secret of yours") =~ tr{+/}{-_}r };
refused('nginx, secure_link: unsigned', $stream);
served('nginx, secure_link: signed', "$stream?md5=" . $sign->($until, $stream) . "&expires=$until");
refused('nginx, secure_link: signed for another block', "$stream?md5=" . $sign->($until, $s->stream_path(1, 102)) . "&expires=$until");
refused('nginx, secure_link: too late', "$stream?md5=" . $sign->(time - 5, $stream) . '&expires=' . (time - 5));
stop_server($stage);
$s->done;
