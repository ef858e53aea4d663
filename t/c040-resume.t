#!/usr/bin/env perl
# SPEC 2, Last-Event-ID: of this loop, in the header or as ?lastEventId=, the viewer gets only what changed since, and with
# nothing changed only retry and a beat; anything else gets init.  Never a gap.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 50);
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $stay = $s->client('stay')->watch(1, 101)->expect_event('init');
my $path = $s->stream_path(1, 101);
my ($first) = $c->{last_id};
like($first, qr/\A[0-9a-f]{8}-[1-9]\d*\z/, 'an id');

# Nothing changed.
for my $how (['header', $path, 'Last-Event-ID' => $first], ['query', "$path?lastEventId=$first"], ['query among others', "$path?a=b&lastEventId=$first&c=d"]) {
	my ($name, @get) = @$how;
	my $r = $s->client($name)->get(@get)->expect_event('beat');
	like($r->{body}, qr/\Aretry: \d+\n\nevent: beat\ndata: [^\n]*\n\n\z/, '… retry and beat, nothing else');
	cmp_ok(length $r->{body}, '<', 200, '… under 200 bytes');
	$r->close;
}
$s->expect_counter(resume_hits => 3);

# Missed while away: two versions, one seat twice.
$c->close;
$s->sql("SELECT seatcast.hold(1, 103, 7, '5m'); SELECT seatcast.hold(1, 101, 7, '5m')");
$stay->expect_seat(101 => 'HOLD', 103 => 'HOLD');
$s->sql("SELECT seatcast.confirm(1, 7, '{101}'); SELECT seatcast.hold(1, 150, 7, '5m')");
$stay->expect_seat(101 => 'OCCUPIED', 150 => 'HOLD');
$c->reconnect->expect_same_seats($stay);
is($c->{given}{'Last-Event-ID'}, $first, 'resumed from the first id');
my $data = '{"status":200,"data":{"seatId":%d,"status":"%s"}}';
like($c->{body}, qr/\Aretry: \d+\n\n\Q@{[ map { sprintf "event: update\ndata: $data\n\n", @$_ } [101, 'OCCUPIED'] ]}\E/, 'the latest of each, ascending');
is(join(' ', map { "$_->{type}$_->{json}{data}{seatId}" } $c->events), 'update101 update103 update150', 'three updates and no init');
is($c->{last_id}, $stay->{last_id}, 'and the id of now');
$s->sql("SELECT seatcast.hold(1, 104, 7, '5m')");
$_->expect_seat(104 => 'HOLD') for $c, $stay;
is($c->{last_id}, $stay->{last_id}, 'it goes on as the others');

# The header counts before the query.
my $both = $s->client('both')->get("$path?lastEventId=$first", 'Last-Event-ID' => $c->{last_id})->expect_event('beat');
is(scalar($both->events), 1, 'the header counts before the query');
$s->expect_counter(resume_hits => 5);

# Misses.
my ($epoch, $v) = split /-/, $c->{last_id};
my %miss = ('garbage' => 'garbage', 'another epoch' => sprintf('%08x-%d', hex($epoch) ^ 1, $v), 'a future version' => "$epoch-" . ($v + 1),
	'far in the future' => "$epoch-18446744073709551615", 'past the highest number' => "$epoch-18446744073709551616", 'version 0' => "$epoch-0",
	'no version' => "$epoch-", 'a sign' => "$epoch-+$v", 'a tail' => "$epoch-${v}x", 'epoch 0' => "00000000-$v", 'upper case, other epoch' => uc "ABCDEF01-$v",
	'a list' => "$c->{last_id}, $c->{last_id}", 'only digits' => '1', 'dashes' => '-' x 20);
for my $name (sort keys %miss) {
	my $m = $s->client($name)->watch(1, 101, 'Last-Event-ID' => $miss{$name});
	$s->wait_for(sub { $m->events }, 3);
	is(join(' ', map { $_->{type} } $m->events), 'init', "$name: init");
	$m->close;
}
$s->expect_counter(resume_misses => scalar keys %miss);
my $get_raw = sub {
	my (@headers) = @_;
	my $f = $s->fcgi->request(path => $path, headers => { Accept => 'text/event-stream', @headers });
	$f->read_until(sub { $f->{stdout} =~ /^event: .*\ndata: .*\n(?:id: .*\n)?\n/m }, 5);
	return $f->{stdout} =~ /^event: (\w+)/m ? $1 : $f->{closed} // 'nothing';
};
is($get_raw->('Last-Event-ID' => ''), 'init', 'empty: init');
is($get_raw->('Last-Event-ID' => 'x' x 100_000), 'init', '100 KB: init');
is($get_raw->('Last-Event-ID' => "$epoch-" . '0' x 100_000), 'init', '100 KB of digits: init');
is($get_raw->('Last-Event-ID' => "\xff\xfe$c->{last_id}"), 'init', 'bytes that are no UTF-8: init');
is($get_raw->('Last-Event-ID' => $c->{last_id}), 'beat', '… while a good one is still known');

# Another loop: init, and the ids go on from there.
my $old = $c->{last_id};
$_->close for $c, $stay, $both;
$s->restart_seatcast;
$s->sql("SELECT seatcast.hold(1, 105, 7, '5m')");
$s->expect('lighttpd reaches the new seatcast', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 });
$c->reconnect->expect_event('init')->expect_seat(105 => 'HOLD', 104 => 'HOLD', 101 => 'OCCUPIED');
isnt((split /-/, $c->{last_id})[0], $epoch, 'after a restart: another epoch, init, nothing missed');
$s->done;
