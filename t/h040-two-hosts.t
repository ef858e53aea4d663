#!/usr/bin/env perl
# Two hosts, each with its lighttpd and seatcast, one database, HAProxy in front.  One host is killed: its viewers come back by
# themselves to the other one and converge; the others notice nothing.  It returns, and takes part again.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

plan skip_all => 'haproxy is not installed' if !have('haproxy');
my $s = Scenario->new(seats => 40);
my $a = $s->{stage};
my $b = Stage->new;		# the other host: a seatcast and a lighttpd of its own
$b->{pg_port} = $a->{pg_port};
$b->{tick} = $a->{tick};
my $database = $s->pg_conninfo(user => 'seatcast_writer');
my @options = (database => $database, workers => 2, poll_interval => '200ms', drain_timeout => '1s');
$b->start_seatcast(@options);
$b->start_lighttpd;
my %port = (a => $a->{port}, b => $b->{port});
$a->{port} = start_haproxy($a, @port{qw(a b)});		# clients go there

# How many viewers a host has, by its own count.
sub viewers_at {
	my ($stage) = @_;
	my $c = FastCGI->connect($stage->{listen}, try => 1) or return 0;
	my $sum = 0;
	$sum += $_ for ($c->request(path => '/metrics')->answer->{body} // '') =~ /^seatcast_viewers(?:\{[^}]*\})? (\d+)$/mg;
	return $sum;
}

$s->expect('both are up', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10);
my @fan = map { $s->client("fan $_")->watch(1, 101) } 1 .. 40;
ok($s->wait_for(sub { !grep { !$_->events('init') } @fan }, 15), '40 viewers through HAProxy');
my ($at_a, $at_b) = map { viewers_at($_) } $a, $b;
is($at_a + $at_b, 40, "$at_a at one host, $at_b at the other");
cmp_ok($at_a, '>=', 10, '… both have their part');
cmp_ok($at_b, '>=', 10, '… both have their part');
for my $path ('//metrics', '/%6detrics', '/api/../status', '/api/%2e%2e/metrics', '/status', '/readyz') {
	cmp_ok($s->http(GET => $path)->{status}, '>=', 400, "GET $path: not let through to lighttpd, which trusts us");
}
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
my $t = time;
ok($s->wait_for(sub { !grep { ($_->{seats}{101} // '') ne 'HOLD' } @fan }, 3), 'a change reaches the viewers of both');
$s->in_time(time - $t, 0.2 + 0.3 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… after %.0f ms', 1000 * (time - $t));
my $gone = $s->client('who leaves')->watch(1, 101)->expect_event('init');
$gone->close;
ok($s->wait_for(sub { viewers_at($a) + viewers_at($b) == 40 }, 3), 'who leaves is noticed through HAProxy');
for my $path (qw(/metrics /status /readyz)) { is($s->http(GET => $path)->{status}, 403, "$path is not for everybody") }

# Dies: all of its processes at once, as when the power fails.  What is written meanwhile is not missed.
# An EventSource does the same, 2 to 3 s later; but any answer other than 200 would be its end for good.
my $refused = 0;
sub back {
	my @lost = grep { $_->{closed} } @fan;
	$refused += grep { ($_->{status} // 0) != 200 } @lost;
	$_->reconnect for @lost;
	return scalar @lost;
}
my $died = time;
kill 'KILL', map { ($_, $b->members('seatcast'), $b->members('lighttpd')) } grep { defined } map { $b->pid($_) } qw(seatcast lighttpd);
$b->wait_end($_) for qw(seatcast lighttpd);
delete $b->{proc}{$_} for qw(seatcast lighttpd);
$s->sql("SELECT seatcast.hold(1, 102, 7, '5m'); SELECT seatcast.confirm(1, 7, '{101}')");
my $moved = 0;
ok($s->wait_for(sub { $moved += back(); viewers_at($a) == 40 }, 15), "killed: its viewers are at the other host");
note(sprintf 'after %.1f s, with %d reconnects', time - $died, $moved);
ok($s->wait_for(sub { back(); !grep { ($_->{seats}{101} // '') ne 'OCCUPIED' || $_->{seats}{102} ne 'HOLD' } @fan }, 10), '… and have all that happened meanwhile');
$fan[$_]->expect_same_seats($fan[0]) for 1, 20, 39;
is(scalar(grep { 1 != grep { $_->{type} eq 'init' } @{$_->{events}} } @fan), 0, '… each by one init of its present connection');

# It comes back
$b->start_seatcast(@options);
$b->start_lighttpd(port => $port{b});
my @late;
ok($s->wait_for(sub { push @late, $s->client('late ' . @late)->watch(1, 101) if !@late || $late[-1]->events('init'); viewers_at($b) > 0 }, 60), 'back: new viewers come to it, too');
note(scalar(@late) . ' came until then');
$s->sql("SELECT seatcast.hold(1, 103, 7, '5m')");
ok($s->wait_for(sub { !grep { ($_->{seats}{103} // '') ne 'HOLD' } grep { $_->events('init') } @fan, @late }, 5), 'a change reaches all');

# A planned restart of one host: its viewers end politely
my $before = viewers_at($a);
is($s->stop_seatcast, 0, 'the first one drains');
my $cut = grep { ($_->{closed} // '') eq 'cut' } @fan;
ok($s->wait_for(sub { back(); viewers_at($b) >= 40 }, 20), 'planned stop: its viewers move');
is($cut, 0, '… none was cut off');
$s->sql("SELECT seatcast.hold(1, 104, 7, '5m')");
ok($s->wait_for(sub { back(); !grep { ($_->{seats}{104} // '') ne 'HOLD' } @fan }, 10), '… and converge');
is($refused, 0, 'through all of this, no viewer was refused');
$_->close for @fan, @late;
$a->stop('haproxy', 'INT');
is($b->stop_seatcast, 0, 'the other ends as it should');
is(join("\n", $b->strike), '', 'all of it');
$s->done;
