#!/usr/bin/env perl
# Who may do what behind each web server, with its sample: outsiders read; trusted addresses hold seats, say that somebody
# wrote and see numbers; with the lines for a log-in buyers hold their own seats and nobody else's.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

my $s = Scenario->new(start => 0, seats => 20, pg => { unix_socket_permissions => '0777' });
my $stage = $s->{stage};
my $dir = $s->dir;
chmod 0755, "$dir/pg";
$s->stop_lighttpd;
my ($OUTSIDE, $TRUSTED) = ('127.0.0.1', '127.0.0.2');		# the samples trust all of 127.0.0.0/8: here just one of it

# The users of the log-in: 7 and 8, password "seats".
my $hash = `openssl passwd -apr1 -salt seatcast seats` =~ s/\n//r;
Deploy::put($stage, 'users', "7:$hash\n8:$hash\n");
chmod 0644, "$dir/users";
sub basic { my ($user) = @_; require MIME::Base64; return { Authorization => 'Basic ' . MIME::Base64::encode_base64("$user:seats", '') } }

my %needs = ('proxy-fcgi' => 'mod_proxy_fcgi', 'mod-fcgid' => 'mod_fcgid', 'haproxy-fcgi' => 'haproxy');
my %user_param = ('haproxy-fcgi' => 'HTTP_X_USER_ID');

# What the comments of each sample say, done to $_.
my %trust_one = (
	lighttpd => sub { s/^var\.trusted.*/var.trusted = "^127\\.0\\.0\\.2\$"/m or die },
	map { $_ => sub { s{127\.0\.0\.0/8}{127.0.0.2}g or die } } qw(nginx proxy-fcgi mod-fcgid haproxy-fcgi),
);
my %log_in = (
	lighttpd => sub {
		s{(^# --- Who may do what.*?^# --- The page)}{$1 =~ s/^#(?=[^ \n])//mgr}mse or die;
		s{/etc/lighttpd/seatcast.htpasswd}{$dir/users} or die; s/GET\|HEAD\|OPTIONS/GET|HEAD|OPTIONS|POST/ or die;
	},
	nginx => sub {
		s{(limit_except GET OPTIONS \{).*?\}}{$1 auth_basic seats; auth_basic_user_file $dir/users; \}}s or die;
	},
	(map { my $what = $_; $what => sub {
		s{(<LimitExcept GET HEAD OPTIONS>\n)\s*Require ip.*}{$1 AuthType Basic\n AuthName seats\n AuthUserFile $dir/users\n Require valid-user} or die;
		s{^(\s*FcgidWrapper ".*?)(" virtual)}{$1 --user-param REMOTE_USER$2}m or die if $what eq 'mod-fcgid';
	} } qw(proxy-fcgi mod-fcgid)),
	'haproxy-fcgi' => sub {
		s/is_read  method GET HEAD OPTIONS/is_read  method GET HEAD OPTIONS POST/ or die;
		s/^(\thttp-request del-header X-User-Id\n)/$1\thttp-request auth realm seats if METH_POST !{ http_auth(buyers) }\n\thttp-request set-header X-User-Id %[http_auth_user] if METH_POST\n/m or die;
		s/^(fcgi-app )/userlist buyers\n\tuser 7 insecure-password seats\n\tuser 8 insecure-password seats\n\n$1/m or die;
	},
);

sub start_both {
	my ($server, @edits) = @_;
	$s->sql('DELETE FROM allocations');
	my $login = @edits > 1;
	$s->start_seatcast(listen_mode => '0666', $login && $server ne 'mod-fcgid' ? (user_param => $user_param{$server} // 'REMOTE_USER') : (),
		control => $server eq 'mod-fcgid' ? "$dir/control.sock" : undef,
		control_user => $server eq 'mod-fcgid' && Deploy::web_user() ? Deploy::web_user() : undef);
	my $edit = sub { for my $edit (@edits) { $edit->() } };
	$server eq 'haproxy-fcgi' ? start_haproxy_fcgi($stage, edit => $edit) : start_server($stage, $server, edit => $edit);
	$s->{from} = $TRUSTED;
	$s->expect("$server serves", sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10);
	return;
}

sub stop_both { stop_server($stage); $s->stop_seatcast; return }

my $allocation = '/api/matches/1/allocation/seats';
my %request = (
	read => [GET => '/api/matches/1/blocks/101/seats'], areas => [GET => '/api/site/areas'],
	hold => [POST => "$allocation/101/hold", { userId => 7 }], hold_many => [POST => "$allocation/hold", { userId => 7, seatIds => [101, 102] }],
	confirm => [POST => "$allocation/confirm", { userId => 7, seatIds => [101] }], release => [POST => "$allocation/102/release", { userId => 7 }],
	changed => [POST => '/api/matches/1/blocks/101/seats/changed', ''], metrics => [GET => '/metrics'], status => [GET => '/status'],
);
sub ask {
	my ($what, $from, $headers, $body) = @_;
	$s->{from} = $from;
	my ($method, $path, $usual) = @{$request{$what}};
	return $s->http($method, $path, $headers // {}, $body // $usual)->{status};
}

for my $server (qw(lighttpd nginx proxy-fcgi mod-fcgid haproxy-fcgi)) {
	SKIP: {
		skip "$server: not installed", 1 if !have($needs{$server} // $server);
		subtest $server => sub { matrix($server) };
	}
	die "$server failed\n" if !Test::More->builder->is_passing;
}

sub matrix {
	my ($server) = @_;
	start_both($server, $trust_one{$server});
	is(ask($_, $OUTSIDE), 200, "an outsider: $_: 200") for qw(read areas);
	for (qw(hold hold_many confirm release changed metrics status)) {
		my $status = ask($_, $OUTSIDE);
		ok($status == 403 || $status == 404, "an outsider: $_: $status");
	}
	is(join(' ', map { $_->[0] } $s->sql('SELECT seat_id FROM allocations')), '', '… and nothing was written');
	my %good = (hold => 200, hold_many => 200, release => 204, confirm => 200, changed => 204, metrics => 200, status => 200);
	is(ask($_, $TRUSTED), $good{$_}, "a trusted address: $_: $good{$_}") for qw(hold hold_many release confirm changed metrics status);
	stop_both();

	start_both($server, $trust_one{$server}, $log_in{$server});
	is(ask(read => $OUTSIDE), 200, 'with a log-in: an outsider reads');
	is(ask(hold => $OUTSIDE), 401, '… holds nothing without a name');
	is(ask(hold => $OUTSIDE, { 'X-User-Id' => 7, 'Remote-User' => 7 }), 401, '… nor with a header of his own');
	is(ask(hold => $OUTSIDE, basic(7), {}), 200, '7 holds a seat, and need not say who he is');
	is(ask(hold => $OUTSIDE, basic(7)), 200, '… or says it');
	is(ask(hold => $OUTSIDE, basic(8)), 403, '8 says that he is 7: 403');
	is(ask(hold => $OUTSIDE, basic(8), {}), 409, '8 wants the seat of 7: 409');
	is(ask(confirm => $OUTSIDE, basic(8), { seatIds => [101] }), 409, '8 buys the seat of 7: 409');
	is(ask(confirm => $OUTSIDE, basic(7), { seatIds => [101] }), 200, '7 buys it: 200');
	my $status = ask(changed => $OUTSIDE, basic(7));
	ok($status == 403 || $status == 404, "changed is not for buyers: $status");
	stop_both();
}
$s->{from} = undef;
$s->done;
