#!/usr/bin/env perl
# Mounted under /tickets behind each web server, by the lines that its sample documents: page, client, service and stream
# are below the prefix, and nothing of them is beside it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

my $s = Scenario->new(start => 0, seats => 20, pg => { unix_socket_permissions => '0777' });
my $stage = $s->{stage};
my $dir = $s->dir;
my $web = "$stage->{src}/web";
chmod 0755, "$dir/pg";
$s->stop_lighttpd;

my $apache = sub { s{^(Define seatcast_at\s+)/$}{$1/tickets/}m or die };
my %mount = (
	lighttpd => sub { s{^var\.base\s.*}{var.base = "/tickets"}m or die },
	nginx => sub {
		s{\^/\(\?:api/}{^/tickets/(?:api/} or die; s{\^/\(\?:readyz}{^/tickets/(?:readyz} or die;
		s{location / \{}{location /tickets/ \{ alias $web/;} or die;
	},
	'proxy-fcgi' => $apache,
	'mod-fcgid' => sub { $apache->(); s{^(\s*FcgidWrapper ".*?)(" virtual)}{$1 --base-path /tickets$2}m or die },
);
my %needs = ('proxy-fcgi' => 'mod_proxy_fcgi', 'mod-fcgid' => 'mod_fcgid');

for my $server (qw(lighttpd nginx proxy-fcgi mod-fcgid)) {
	SKIP: {
		skip "$server: not installed", 1 if !have($needs{$server} // $server);
		subtest $server => sub { mounted($server) };
	}
	die "$server failed\n" if !Test::More->builder->is_passing;
}

sub mounted {
	my ($server) = @_;
	$s->sql('DELETE FROM allocations');
	$s->start_seatcast(listen_mode => '0666', base_path => '/tickets', wait => 0, $server eq 'mod-fcgid' ? (control => "$dir/control.sock",
		Deploy::web_user() ? (control_user => Deploy::web_user()) : ()) : ());
	$s->expect('seatcast serves', sub { my $c = FastCGI->connect($stage->{listen}, try => 1) or return 0;
		($c->request(path => '/tickets/healthz')->answer(2)->{status} // 0) == 200 });
	start_server($stage, $server, edit => $mount{$server});
	$s->expect("$server passes it on", sub { ($s->http(GET => '/tickets/healthz')->{status} // 0) == 200 }, 10);
	like($s->http(GET => '/tickets/')->{body}, qr/<html/, 'the page');
	like($s->http(GET => '/tickets/seatcast.js')->{body}, qr/class SeatStream/, 'the client');
	is(scalar @{$s->http(GET => '/tickets' . $s->snapshot_path(1, 101))->{json}{data}{seats}}, 20, 'a snapshot');
	my $fan = $s->client("fan of $server")->get('/tickets' . $s->stream_path(1, 101))->expect_event('init');
	is($s->http(POST => '/tickets/api/matches/1/allocation/seats/101/hold', {}, { userId => 7 })->{status}, 200, 'a hold');
	$fan->expect_seat(101 => 'HOLD', within => 3);
	is($s->http(GET => "/tickets$_")->{status}, 200, "$_ from a trusted address") for qw(/readyz /metrics /status);
	cmp_ok($s->http(GET => $_)->{status}, '>=', 400, "$_ is not beside the prefix") for $s->snapshot_path(1, 101), '/metrics', '/status', '/healthz';
	stop_server($stage);
	$s->stop_seatcast;
	return;
}
$s->done;
