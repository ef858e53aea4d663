#!/usr/bin/env perl
# /metrics is valid Prometheus text (exposition format 0.0.4) and tells what happened; /status and /readyz are for people
# and supervisors; 500 snapshots at once of a block that nobody watched cost one query.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 10, poll_interval => '200ms', lighttpd_conf => "server.max-keep-alive-requests = 1000\n");

# ---- the format, as promtool would check it ----

# Lines that break a rule of the format, with the rule.
sub faults {
	my ($text) = @_;
	my (%type, %help, %seen, @faults, %buckets);
	push @faults, 'the last line does not end' if $text !~ /\n\z/;
	for (split /\n/, $text) {
		if (/^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S/) { push @faults, "second HELP: $_" if $help{$1}++; next }
		if (/^# TYPE (\S+) (counter|gauge|histogram)$/) { push @faults, "TYPE twice or before HELP: $_" if $type{$1} || !$help{$1}; $type{$1} = $2; next }
		if (!/^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?\d+(?:\.\d+)?|\+Inf|NaN)$/) { push @faults, "no sample: $_"; next }
		my ($name, $labels, $value) = ($1, $2 // '', $3);
		push @faults, "sample twice: $_" if $seen{"$name$labels"}++;
		(my $base = $name) =~ s/_(?:bucket|sum|count)$//;
		my $type = $type{$name} // ($type{$base} // '') eq 'histogram' ? $type{$name} // 'histogram' : undef;
		push @faults, "no TYPE: $_" if !defined $type;
		push @faults, "a counter without _total: $_" if ($type // '') eq 'counter' && $name !~ /_total$/;
		push @faults, "below zero: $_" if ($type // '') eq 'counter' && $value < 0;
		if ($name =~ /_bucket$/) {
			push @faults, "a bucket below the one before: $_" if $value < ($buckets{$base} // 0);
			$buckets{$base} = $value;
		}
	}
	return @faults;
}
is(join("\n", faults("# HELP a b\n# TYPE a counter\na 1\n# HELP c d\n# TYPE c gauge\nc{x=y} 1\n")) ne '', 1, 'the check itself finds faults');
my $m = $s->http(GET => '/metrics');
like($m->{headers}{'content-type'}, qr{^text/plain; version=0\.0\.4}, 'its content type');
is(join("\n", faults($m->{body})), '', 'valid with nothing watched');

# What Prometheus' own tool says of names, units and types: it has an eye for what the format allows and nobody wants.
sub promtool {
	my ($text) = @_;
	my $file = $s->{stage}{dir} . '/metrics.txt';
	open my $fh, '>', $file or die "$file: $!";
	print $fh $text;
	close $fh;
	return `promtool check metrics <'$file' 2>&1`;
}
SKIP: {
	skip 'promtool is not installed', 2 if !grep { -x "$_/promtool" } split /:/, $ENV{PATH};
	isnt(promtool("# HELP lag_ms x\n# TYPE lag_ms gauge\nlag_ms 1\n"), '', 'promtool complains of milliseconds');
	is(promtool($m->{body}), '', 'and of nothing here');
}
like($m->{body}, qr/^seatcast_build_info\{version="[^"]+",commit="[^"]+"\} 1$/m, 'which version runs');
my ($born) = $m->{body} =~ /^process_start_time_seconds (\d+\.\d+)$/m;
cmp_ok(abs(time - $born), '<', 60 * ($ENV{SEATCAST_PATIENCE} // 1), 'and since when');

# ---- 500 snapshots of a cold block ----

my $before = $s->queries;
my @many = map { $s->client("s$_")->get($s->snapshot_path(1, 101)) } 1 .. 500;
$s->expect('500 snapshots are answered', sub { !grep { !$_->{closed_at} && length($_->{body} // '') < 100 } @many }, 20);
is(scalar(grep { ($_->{status} // 0) == 200 } @many), 500, 'all with 200');
my %bodies = map { $_->{body} => 1 } @many;
is(scalar(keys %bodies), 1, 'all the same');
my $queries = $s->queries - $before;
cmp_ok($queries, '<=', 1 + 5 * ($ENV{SEATCAST_PATIENCE} // 1), "for $queries queries, as many as polls fit into the time");
is($s->counter('snapshots'), 500, 'and they are counted');
$_->close for @many;

my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->expect_counter(polls => '>=', $s->counter('polls') + 2);	# the first may come early: a block has its place in the second
$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 101, 'HOLD')");
$c->expect_seat(101 => 'HOLD');
$m = $s->http(GET => '/metrics');
is(join("\n", faults($m->{body})), '', 'valid with a group');
my ($polled) = $m->{body} =~ /^seatcast_last_poll_timestamp_seconds\{match="1",block="101"\} (\d+\.\d{3})$/m;
cmp_ok(abs(time - $polled), '<', 60 * ($ENV{SEATCAST_PATIENCE} // 1), 'times are seconds');
like($m->{body}, qr/^seatcast_viewers\{match="1",block="101"\} 1$/m, 'a group has its labels');
my ($count) = $m->{body} =~ /^seatcast_poll_seconds_count (\d+)$/m;
cmp_ok($count, '>', 0, 'the histogram counts the polls');
my %delay;
$s->expect('a change has a delay', sub {
	%delay = $s->http(GET => '/metrics')->{body} =~ /^seatcast_delay_seconds_(count|sum) ([\d.]+)$/mg;
	return $delay{count} == 1;
}, 2);
cmp_ok($delay{sum}, '<', 0.8 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… of a poll interval at most: %.0f ms', 1000 * $delay{sum});
cmp_ok($delay{sum}, '>', 0.1, '… and not only of its sending');

# ---- seats that are sold through it ----

sub sell { my ($what, $body) = @_; return $s->http(POST => "/api/matches/1/allocation/seats/$what", {}, $body)->{status} }
is(sell('105/hold', '{"userId":7}'), 200, 'a seat is held');
is(sell('hold', '{"userId":7,"seatIds":[106,107]}'), 200, 'two at once');
is(sell('105/hold', '{"userId":8}'), 409, 'another buyer is too late');
is(sell('confirm', '{"userId":7,"seatIds":[105,106]}'), 200, 'two are bought');
is(sell('107/release', '{"userId":7}'), 204, 'one is given back');
is(join(' ', map { $s->counter($_) } qw(seats_held seats_sold seats_released conflicts)), '3 2 1 1', 'all of it is counted');

# ---- people and supervisors ----

my $page = $s->http(GET => '/status');
like($page->{headers}{'content-type'}, qr{^text/html}, '/status is a page');
like($page->{body}, qr{match 1, block 101</td><td>1</td>}, 'with a row for the group and its viewer');
like($page->{body}, qr{<dt>viewers</dt><dd>1 <small>of 10,000</small>}, 'and how much room is left');
like($page->{body}, qr{up for \d+ s}, 'since when it runs');
like($page->{body}, qr{class="good">serving<}, 'and that all is well');
unlike($page->{body}, qr/<script|http-equiv="refresh"/, 'no script, and it does not load itself anew');
like($s->http(GET => '/status?refresh')->{body}, qr/http-equiv="refresh"/, '… unless it is asked to');
is($s->http(GET => '/readyz')->{status}, 200, '/readyz: the functions of the port answer');
sub unready {
	my ($says, $broken, $mended, $like) = @_;
	$s->sql($broken);
	my $r = $s->http(GET => '/readyz');
	$s->sql($mended);
	is($r->{status}, 503, "/readyz: $says");
	like($r->{body}, $like, '… and it says so');
	is($s->http(GET => '/readyz')->{status}, 200, '… for as long as it is so');
}
unready('no schema', 'ALTER SCHEMA seatcast RENAME TO gone', 'ALTER SCHEMA gone RENAME TO seatcast', qr/no schema seatcast: run/);
unready('a function is missing', 'ALTER FUNCTION seatcast.changes(bigint, bigint, text) RENAME TO gone', 'ALTER FUNCTION seatcast.gone(bigint, bigint, text) RENAME TO changes',
	qr/a function of the port is missing/);
unready('no right to the schema', 'REVOKE USAGE ON SCHEMA seatcast FROM seatcast_reader, seatcast_writer', 'GRANT USAGE ON SCHEMA seatcast TO seatcast_reader, seatcast_writer', qr/may not use the port/);
unready('no right to a function', 'REVOKE EXECUTE ON FUNCTION seatcast.snapshot(bigint, bigint) FROM seatcast_reader, seatcast_writer',
	'GRANT EXECUTE ON FUNCTION seatcast.snapshot(bigint, bigint) TO seatcast_reader, seatcast_writer', qr/may not use the port/);
unready('no table', 'ALTER TABLE allocations RENAME TO gone', 'ALTER TABLE gone RENAME TO allocations', qr/do not find a table/);
$s->pg_stop('fast');
is($s->http(GET => '/readyz')->{status}, 503, '/readyz: it does not');
is($s->http(GET => '/healthz')->{status}, 200, '/healthz does not care');
my $late;
$s->expect('/status: the database is away, and the group is stale', sub {
	$late = $s->http(GET => '/status')->{body};
	return $late =~ /the database is away/ && $late =~ /class="bad">match 1, block 101/;
}, 10);
like($late, qr{Last warning</h2><p><time datetime="\d{4}-[^"]+Z">[^<]+</time> \(\d+ s ago\): [^<]*database: lost}, 'with the last warning and its time');
cmp_ok($s->counter('database_losses'), '<=', 2 * $s->pids('worker') + $s->pids('loop'), 'an outage is one loss for each connection, however often it tries');
cmp_ok($s->counter('database_away'), '>', 0, 'and a metric');
$s->done;
