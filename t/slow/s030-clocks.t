#!/usr/bin/env perl
# Exact mode asks no clock: writers in other time zones, updated_at in the past, the future, equal, infinite or NULL, and a database clock that steps by
# an hour and back lose nothing.  Holds end by the clock as it is after the step.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Model;

my @ZONES = ('Asia/Seoul', 'America/Los_Angeles', 'UTC');
my $HAND = q{(ARRAY['1970-01-01', '2100-01-01', '2026-01-01', 'infinity', '-infinity', NULL, localtimestamp::text])[1 + floor(random() * 7)::int]::timestamp};
my $seconds = $ENV{MODEL_SECONDS} // 20;

# The database's clock as the port functions tell it: the real one and a step.
sub wrap_clock {
	my ($m) = @_;
	my $s = $m->scenario;
	$s->sql('CREATE TABLE public.model_clock (step interval NOT NULL); INSERT INTO public.model_clock VALUES (interval \'0\')');
	for my $name (qw(seatcast.read_at seatcast.changes)) {
		$m->edit_function($name, qr/\bclock_timestamp\(\)/ => '(clock_timestamp() + (SELECT k.step FROM public.model_clock k))');
	}
}
sub step_clock { my ($s, $step) = @_; $s->sql("UPDATE public.model_clock SET step = '$step'") }

# The trigger leaves an updated_at alone that a writer gives.
subtest 'zones, updated_at as writers say, the clock steps' => sub {
	my @steps = map { [$seconds * $_->[0], $_->[1]] } [0.2, '1 hour'], [0.45, '0'], [0.6, '-1 hour'], [0.8, '0'];
	my $m = Model->new(seconds => $seconds, zones => \@ZONES, hand => $HAND, prepare => \&wrap_clock,
		tick => sub { my ($m, $t) = @_; step_clock($m->scenario, (shift @steps)->[1]) if @steps && $t >= $steps[0][0] });
	$m->run;
	ok($m->check, 'every viewer saw the truth');
	is(scalar @steps, 0, 'the clock stepped forth and back');
	is($m->{counter}{late_seats}, 0, 'no seat was late');
	my ($odd) = $m->scenario->sql(q{SELECT count(*) FROM allocations WHERE updated_at IS NULL OR updated_at < '2000-01-01' OR updated_at > '2099-01-01'});
	cmp_ok($odd->[0], '>', 0, 'updated_at was really nonsense');
	$m->report;
	$m->scenario->done;
};

subtest 'holds after a step' => sub {
	my $s = Scenario->new(seats => 10, lighttpd => 0, poll_interval => '200ms', reconcile_interval => '3s', start => 0);
	my $m = bless { s => $s }, 'Model';
	wrap_clock($m);
	$s->start_seatcast(%{$s->{seatcast}});
	my $slack = 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
	my $hold = sub {	# until so many seconds after now on the stepped clock; when that is on ours
		my ($seat, $in) = @_;
		$s->sql(qq{INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at)
			SELECT 1, $seat, 7, 'HOLD', (clock_timestamp() + k.step + interval '$in s') AT TIME ZONE 'UTC' FROM public.model_clock k
			ON CONFLICT (match_id, seat_id) DO UPDATE SET status = 'HOLD', user_id = 7, hold_expires_at = excluded.hold_expires_at});
		return Time::HiRes::time() + $in;
	};
	my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
	my $ends_in_time = sub {
		my ($seat, $says) = @_;
		my $end = $hold->($seat, 2);
		$c->expect_seat($seat => 'HOLD', within => 1);
		$c->expect_seat($seat => 'AVAILABLE', within => 4);
		my ($e) = grep { $_->{json}{data}{seatId} == $seat && $_->{json}{data}{status} eq 'AVAILABLE' } reverse $c->events('update');
		cmp_ok(abs($e->{at} - $end), '<', $slack, sprintf '%s (%+.0f ms)', $says, 1000 * ($e->{at} - $end));
	};
	$ends_in_time->(101, 'a hold ends in time');
	$hold->(102, 300);
	$hold->(103, 3600 + 300);
	$c->expect_seat(102 => 'HOLD', 103 => 'HOLD', within => 1);
	step_clock($s, '1 hour');
	$c->expect_seat(102 => 'AVAILABLE', within => 1);
	is($c->{seats}{103}, 'HOLD', 'an hour on: what ends in five minutes has ended, what ends in 65 has not');
	$ends_in_time->(104, 'a hold made after the step ends in time');
	step_clock($s, '0');
	$c->expect_seat(102 => 'HOLD', within => 3 + 1);	# what the row says, by the clock as it is: a reconcile tells
	is($c->{seats}{103}, 'HOLD', 'and back: both are held again');
	$ends_in_time->(105, 'a hold made after the step back ends in time');
	step_clock($s, '-1 hour');
	$s->pass_time(1);
	$ends_in_time->(106, 'an hour back: a hold ends in time');
	$s->done;
};
done_testing;
