#!/usr/bin/env perl
# SPEC 2, promise 4, when thousands of holds end in one second, and when they end while the database is away: each at its moment, once.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI; use IO::Select; use List::Util qw(max); use Time::HiRes qw(time);

my $N = 3000;
my $s = Scenario->new(seats => $N, lighttpd => 0, poll_interval => '1s', reconcile_interval => '60m', heartbeat => '60m', pg => { log_statement => 'none' });
my $slack = 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1, 2;
# A viewer that notes when bytes come and looks into them later: reading thousands of events takes longer than sending them.
my $raw = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
$raw->{fh}->blocking(0);
my (@chunks, $reader, $left) = ();
sub note_bytes {
	my ($until) = @_;
	while ((my $wait = $until - time) > 0) {
		IO::Select->new($raw->{fh})->can_read($wait) or return;
		my $n = sysread $raw->{fh}, my $bytes, 1 << 20;
		die "the raw viewer was closed\n" if defined $n && !$n;
		push @chunks, [time, $bytes] if $n;
	}
}
sub raw_events {		# as a Client's
	my @e;
	$reader //= FastCGI::Reader->new;
	$left //= '';
	for my $chunk (splice @chunks) {
		$left .= join '', map { $_->{type} == FCGI_STDOUT ? $_->{content} : () } $reader->feed($chunk->[1]);
		while ($left =~ s/\A(.*?\n)\n//s) {
			push @e, { type => 'update', at => $chunk->[0], json => { data => { seatId => $1, status => $2 } } } if $1 =~ /^data: \{"status":200,"data":\{"seatId":(\d+),"status":"(\w+)"/m;
		}
	}
	return @e;
}

# Hold seats until begin + spread * (their place); begin in so many seconds.  Unix time of each end.
sub hold {
	my ($in, $spread, $first, $last) = @_;
	my %end = map { @$_ } $s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at)
		SELECT 1, id, 7, 'HOLD', (now() + interval '$in s' + (id - $first) * interval '1 s' * $spread / ($last - $first + 1)) AT TIME ZONE 'UTC'
		  FROM seats WHERE id BETWEEN $first AND $last
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = 'HOLD', user_id = 7, hold_expires_at = EXCLUDED.hold_expires_at
		RETURNING seat_id, extract(epoch FROM hold_expires_at AT TIME ZONE 'UTC')");
	return \%end;
}
sub expect_all_held { my ($c, $end) = @_; $s->expect("$c->{name}: " . keys(%$end) . ' seats are held', sub { !grep { ($c->{seats}{$_} // '') ne 'HOLD' } keys %$end }, 4) }
# Each of them ended once, at its moment, since that event.
sub check_ends {
	my ($who, $end, $says, @events) = @_;
	my (%count, @off, %first);
	for my $e (grep { $_->{type} eq 'update' && $_->{json}{data}{status} eq 'AVAILABLE' } @events) {
		my $id = $e->{json}{data}{seatId};
		next if !$end->{$id};
		$count{$id}++;
		$first{$id} //= $e->{at} - $end->{$id};
	}
	my @missing = grep { !$count{$_} } sort { $a <=> $b } keys %$end;
	my @twice = grep { $_ > 1 } values %count;
	is(scalar(@missing), 0, "$who: $says: all ended") or diag("missing: @missing[0 .. (@missing < 10 ? $#missing : 9)]");
	is(scalar(@twice), 0, '… once each');
	@off = sort { $a <=> $b } values %first;
	cmp_ok(-$off[0], '<', $slack, sprintf '… none before its moment (earliest %+.0f ms)', 1000 * $off[0]);
	$s->in_time($off[-1], $slack, sprintf '… each at its moment: p50 %+.0f ms, p99 %+.0f ms, latest %+.0f ms', map { 1000 * $_ } $off[@off / 2], $off[@off * 0.99], $off[-1]);
	return;
}

# ---- all over one second, then all at one moment ----

for (['over one second', 1, 4], ['at one moment', 0, 4]) {
	my ($says, $spread, $in) = @$_;
	my $end = hold($in, $spread, 101, 100 + $N);
	expect_all_held($_, $end) for @c;
	my ($loop) = $s->pids('loop 1/101');
	note_bytes(time + 0.05);
	raw_events();
	note_bytes(max(values %$end) + 0.8);
	check_ends('raw', $end, "$N $says", raw_events());
	for my $c (@c) {
		$s->expect("$c->{name}: all AVAILABLE", sub { !grep { $c->{seats}{$_} ne 'AVAILABLE' } keys %$end }, 5);
	}
	is(($s->pids('loop 1/101'))[0], $loop, '… the loop is the same');
}
$s->expect_counter(expiries => 2 * $N)->expect_counter(late_seats => 0);

# ---- while the database is away ----

my $end = hold(5, 0.5, 101, 200);
my $long = hold(60, 0, 201, 210);
my $mended = hold(5, 0, 211, 215);
expect_all_held($_, { %$end, %$long, %$mended }) for @c;
$s->sql("UPDATE allocations SET status = 'OCCUPIED', hold_expires_at = NULL WHERE seat_id = 215");	# in time, and seen
$_->expect_seat(215 => 'OCCUPIED', within => 2) for @c;
delete $mended->{215};
my %from = map { $_ => scalar @{$_->{events}} } @c;
$s->sql("ALTER ROLE seatcast_writer NOLOGIN");
$s->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seatcast'");
$s->sql("UPDATE allocations SET hold_expires_at = hold_expires_at + interval '60 s' WHERE seat_id = 211");	# seatcast cannot know
$s->sql("UPDATE allocations SET status = 'OCCUPIED', hold_expires_at = NULL WHERE seat_id = 212");
$s->pg_stop('fast');
$s->pass_time(max(values %$end) + 0.5 - time);
check_ends($_->{name}, { %$end, %$mended }, 'the database away', @{$_->{events}}[$from{$_} .. $#{$_->{events}}]) for @c;
is(join(' ', grep { $_ ne 'update' } map { $_->{type} } @{$c[0]{events}}[$from{$c[0]} .. $#{$c[0]{events}}]), 'stale', '… meanwhile viewers were told stale');
my $new = $s->client('new')->watch(1, 101)->expect_event('init');
is(join(' ', map { $new->{seats}{$_} } 101, 200, 201, 211, 215), 'AVAILABLE AVAILABLE HOLD AVAILABLE OCCUPIED', '… and a new viewer gets them as ended');
$s->pg_start;
$s->sql('ALTER ROLE seatcast_writer LOGIN');
for my $c (@c, $new) {
	$c->expect_event('fresh', within => 8)->expect_seat(211 => 'HOLD', 212 => 'OCCUPIED', 213 => 'AVAILABLE', 215 => 'OCCUPIED', 101 => 'AVAILABLE', 201 => 'HOLD');
	my %count;
	$count{$_->{json}{data}{seatId}}++ for grep { $_->{type} eq 'update' } @{$c->{events}}[$from{$c} // 0 .. $#{$c->{events}}];
	my @again = grep { $_ <= 200 && $count{$_} > ($c == $new ? 0 : 1) } sort { $a <=> $b } keys %count;
	is("@again", '', '… and what has ended stays so when its row comes again');
}
is(scalar(grep { $_->{closed} } @c), 0, 'on the connections they had');
$s->done;
