#!/usr/bin/env perl
# The moment of a match's reconcile is what its loop needs most memory for: 40,000 seats of 100 blocks, at most 8 MiB private.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

plan skip_all => 'a build with sanitizers has other memory' if Stage->new->{build} =~ /sanitizers/;

my $s = Scenario->new(seats => 4, lighttpd => 0, reconcile_interval => '500ms', start => 0);
$s->sql("INSERT INTO blocks (id, section_id, name) SELECT i, 1, i FROM generate_series(1001, 1100) AS i;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 100000 + i, 1001 + i / 400, 1, i FROM generate_series(0, 39999) AS i;
	INSERT INTO allocations (match_id, seat_id, status, hold_expires_at) SELECT 1, id, (ARRAY['AVAILABLE', 'HOLD', 'OCCUPIED'])[1 + id % 3],
		CASE WHEN id % 3 = 1 THEN now() + interval '1 hour' END FROM seats");
$s->start_seatcast;
my $c = $s->client('a fan')->get('/api/matches/1/status-stream')->expect_event('init');
my ($loop) = $s->pids('loop');

sub reconciled { my ($n) = @_; my $from = $s->counter('reconciles'); return $s->expect("$n reconciles", sub { $s->counter('reconciles') >= $from + $n }) }
sub peak { my ($kib) = Stage::slurp("/proc/$loop/status") =~ /^VmHWM:\s+(\d+)/m; return $kib }

reconciled(2);
open my $fh, '>', "/proc/$loop/clear_refs" or die "clear_refs: $!";
print $fh "5\n";			# the highest it has been is what it is now (proc(5))
close $fh or die "clear_refs: $!";
reconciled(3);
my $now = memory($loop);
my $peak = $now->{private} + peak() - $now->{rss};
cmp_ok($peak, '<=', 8 * 1024, "$peak KiB private at most");
cmp_ok($now->{private}, '<=', 8 * 1024, "$now->{private} otherwise");
is($s->counter('late_seats'), 0, 'nothing was late');
$s->done;
