#!/usr/bin/env perl
# SPEC 2, byte for byte: the header and the first bytes of a stream, an update, and the updates of one poll: together, by
# ascending seat id, the id on the last of them.  A beat after --heartbeat of silence.  retry: 2000 to 3000, not all alike.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, heartbeat => '1s');
my $header = { 'content-type' => 'text/event-stream; charset=utf-8', 'cache-control' => 'no-store, no-transform',
	'x-accel-buffering' => 'no', incremental => '?1' };
my $time = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;

# One hold before, so that init has more than one word to say.
$s->sql("SELECT seatcast.hold(1, 102, 7, '5m')");
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
is($c->{status}, 200, 'status 200');
is($c->{headers}{$_}, $header->{$_}, "header $_") for sort keys %$header;
my $init = join ',', map { qq({"id":$_,"status":") . ($_ == 102 ? 'HOLD' : 'AVAILABLE') . '"}' } 101 .. 105;
my ($epoch, $v);
like($c->{body}, qr/\Aretry: \d+\n\nevent: init\ndata: \Q{"status":200,"data":{"seats":[$init]}}\E\nid: [0-9a-f]{8}-\d+\n\n\z/,
	'retry and init to the byte') and ($epoch, $v) = $c->{body} =~ /^id: ([0-9a-f]+)-(\d+)$/m;

# One seat.
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$c->expect_event('update');
is($c->{body} =~ s/\A.*?"seats".*?\n\n//sr, sprintf(
	qq(event: update\ndata: {"status":200,"data":{"seatId":101,"status":"HOLD"}}\nid: %s-%d\n\n), $epoch, ++$v), 'an update to the byte');

# Several in one transaction, written in another order than they are told; looked at as FastCGI records too.
my $raw = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
ok($raw->read_until(sub { $raw->{stdout} =~ /event: init\ndata: .*\nid: .*\n\n\z/ }), 'a second viewer over bare FastCGI');
my $records = @{$raw->{records}};
$s->sql("BEGIN; SELECT seatcast.hold(1, 105, 7, '5m'); SELECT seatcast.release(1, 102, 7); SELECT seatcast.confirm(1, 7, '{101}'); COMMIT");
$c->expect_event('update', seatId => 105);
my $batch = join '', map { sprintf(qq(event: update\ndata: {"status":200,"data":{"seatId":%d,"status":"%s"}}\n%s\n),
	@$_, $_->[0] == 105 ? "id: $epoch-" . ($v + 1) . "\n" : '') } [101, 'OCCUPIED'], [102, 'AVAILABLE'], [105, 'HOLD'];
is($c->{body} =~ s/\A.*?seatId.*?\n\n//sr, $batch, 'a batch: ascending, the id on the last');
ok($raw->read_until(sub { @{$raw->{records}} > $records }), 'it came over FastCGI as well') or die;
is($raw->{records}[$records]{content}, $batch, '… all of it in one record');
is($raw->{records}[$records]{id}, 1, '… of request 1');
$raw->close;

# Silence.
my $last = $c->{events}[-1]{at};
$c->expect_event('beat', sub { $_[0]{at} > $last }, within => 5);
my $beat = $c->{event_seen};
like($beat->{raw}, qr/\Aevent: beat\ndata: \{"status":200,"data":\{"asOf":"$time"\}\}\n\z/, 'a beat to the byte, without an id');
cmp_ok($beat->{at} - $last, '>=', 0.9, 'not before the heartbeat is over');
$s->in_time($beat->{at} - $last, 1.6, 'nor long after');
my ($at) = $s->sql("SELECT extract(epoch FROM clock_timestamp() - '$beat->{json}{data}{asOf}'::timestamptz)");
cmp_ok($at->[0], '<', 1, 'asOf is the time of the last poll');
cmp_ok($at->[0], '>', -0.1, '… on the database\'s clock');
my ($next) = $c->expect_event('beat', within => 5)->{event_seen}{at} - $beat->{at};
cmp_ok($next, '>', 0.7, 'and again after as much silence');

# retry
my @retry = map { $s->client("r$_")->watch(1, 101)->expect_event('init')->{retry} } 1 .. 8;
is(join(' ', grep { $_ < 2000 || $_ > 3000 } @retry), '', "retry from 2000 to 3000: @retry");
my %different = map { $_ => 1 } @retry;
cmp_ok(keys %different, '>', 3, '… and drawn for each viewer');

# HEAD
my $head = $s->http(HEAD => $s->stream_path(1, 101));
is($head->{status}, 200, 'HEAD of a stream ends');
is($head->{headers}{$_}, $header->{$_}, "… with $_") for sort keys %$header;
for my $path ($s->stream_path(1, 101), $s->snapshot_path(1, 101), '/api/site/areas', '/healthz', '/readyz', '/metrics', '/status') {
	my $h = $s->fcgi->request(method => 'HEAD', path => $path)->answer;
	my $g = $path =~ /stream/ ? undef : $s->fcgi->request(path => $path)->answer;
	is($h->{status}, 200, "HEAD $path");
	is($h->{body}, '', '… has no body');
	is($h->{protocol_status}, 0, '… and ends the request');
	is($h->{headers}{'content-type'}, $g->{headers}{'content-type'}, '… of the type that GET has') if $g;
	is($h->{headers}{'content-length'}, $g->{headers}{'content-length'}, '… and its length') if $g && $path !~ /metrics|status/;
}
$s->expect_counter(viewers => '>=', 1);
$s->done;
