#!/usr/bin/env perl
# SPEC 2, promise 3: a transaction that commits long after it wrote is delivered within one poll of its commit, whatever others
# committed meanwhile, whatever its time stamps say.  What is rolled back is never shown.  No reconcile helps here.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 90, poll_interval => '100ms', reconcile_interval => '60m');
my $within = 0.1 + 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $seat = 101;
my $put = "INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, %d, 7, 'OCCUPIED') ON CONFLICT (match_id, seat_id) DO UPDATE SET status = 'OCCUPIED'";

# The others: several transactions that begin and commit while one is open, over several polls.
sub others_commit {
	for (1 .. 2) {
		my $other = $seat++;
		$s->sql(sprintf $put, $other);
		$c->expect_seat($other => 'OCCUPIED');
	}
	return;
}
sub expect_soon {
	my ($says, $commit, @seats) = @_;
	my $before = time;
	$commit->();
	$c->expect_seat((map { $_ => 'OCCUPIED' } @seats), within => 2);
	my ($last) = sort { $b <=> $a } map { my $n = $_; map { $_->{at} } grep { $_->{json}{data}{seatId} == $n } $c->events('update') } @seats;
	$s->in_time($last - $before, $within, sprintf '%s: %.0f ms after its commit', $says, 1000 * ($last - $before));
	return;
}

my %late = (
	'a plain one'			=> sub { sprintf $put, $_[0] },
	'inside a savepoint, released'	=> sub { "SAVEPOINT a; SAVEPOINT b; @{[ sprintf $put, $_[0] ]}; RELEASE b; RELEASE a" },
	'inside a savepoint, kept'	=> sub { "SAVEPOINT a; @{[ sprintf $put, $_[0] ]}" },
	'rolled back to a savepoint, and written again' => sub { "SAVEPOINT a; @{[ sprintf $put, $_[0] ]}; ROLLBACK TO a; @{[ sprintf $put, $_[0] ]}" },
	'in a PL/pgSQL block with an exception handler' => sub { "DO \$\$ BEGIN @{[ sprintf $put, $_[0] ]}; EXCEPTION WHEN others THEN RAISE; END \$\$" },
	'stamped an hour ago'		=> sub { "@{[ sprintf $put, $_[0] ]}; UPDATE allocations SET updated_at = updated_at - interval '1h' WHERE seat_id = $_[0]" },
);
for my $name (sort keys %late) {
	my $mine = $seat++;
	my $t = $s->session;
	$t->query('BEGIN');
	others_commit();
	$t->query($late{$name}->($mine));
	others_commit();
	is($c->{seats}{$mine}, 'AVAILABLE', "$name: not shown before its commit");
	expect_soon($name, sub { $t->query('COMMIT') }, $mine);
	$t->kill;
}

# The end of one transaction while an older one and a younger one are still open.
my @t = map { $s->session } 1 .. 3;
my @mine = map { $seat++ } @t;
for my $i (0 .. 2) { $t[$i]->query('BEGIN; ' . sprintf $put, $mine[$i]); others_commit() }
for my $i (1, 2, 0) { expect_soon('one of three that overlap', sub { $t[$i]->query('COMMIT') }, $mine[$i]) }

# Two-phase.
my $mine = $seat++;
$t[0]->query("BEGIN; @{[ sprintf $put, $mine ]}; PREPARE TRANSACTION 'late'");
others_commit();
is($c->{seats}{$mine}, 'AVAILABLE', 'prepared: not shown');
expect_soon('prepared, committed by another session', sub { $t[1]->query("COMMIT PREPARED 'late'") }, $mine);

# Rolled back.
my @never = map { $seat++ } 1 .. 3;
$t[0]->query("BEGIN; " . sprintf $put, $never[0]);
$t[1]->query("BEGIN; SAVEPOINT a; " . sprintf($put, $never[1]) . "; ROLLBACK TO a");
$t[2]->query("BEGIN; @{[ sprintf $put, $never[2] ]}; PREPARE TRANSACTION 'never'");
others_commit();
$t[0]->query('ROLLBACK'); $t[1]->query('COMMIT'); $t[2]->query("ROLLBACK PREPARED 'never'");
others_commit();
$s->pass_time(0.5);
is(scalar(grep { my $e = $_; grep { $e->{json}{data}{seatId} == $_ } @never } $c->events('update')), 0, 'what was rolled back is never shown');

$s->expect_counter(late_seats => 0)->expect_counter(reconciles => 1);
my $fresh = $s->client('later')->watch(1, 101)->expect_event('init')->expect_same_seats($c);
my %db = map { @$_ } $s->sql('SELECT s.id, coalesce(a.status, \'AVAILABLE\') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101');
$c->expect_same_seats(\%db);
$s->done;
