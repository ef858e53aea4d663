# SPDX-License-Identifier: ISC
package Model;

# Random writers and random viewers against one seatcast, and a checker that knows what each viewer may have seen.
#
#	my $m = Model->new(seconds => 60);
#	$m->run;				# writers write, viewers come, go, stall and resume
#	ok($m->check, 'no viewer was told anything wrong');
#	$m->report;
#	$m->scenario->done;
#
# What makes the checker exact.  Every write goes through model_write(), which after taking the lock of the seat's row
# draws a tag from a sequence and puts (seat, tag, status, transaction) into model_log: in the same transaction, so what
# is in the log in the end is what was committed, and of one seat rising tags are the order of its row's locks, that is of
# its commits.  Each transaction counts once (its last tag for the seat); equal statuses in a row are one state.  A state is
# visible from some moment within [lo, hi]: lo is the server's commit timestamp, but not before COMMIT was sent, hi is when
# COMMIT's answer was here; both are of this machine's clock.
#
# There are only three statuses, but a write mostly moves its seat one step on in AVAILABLE > HOLD > OCCUPIED > AVAILABLE,
# so going back one state looks like going on two, and these must have been committed by then.  The rules:
#
#	order	what a viewer sees of a seat is a walk through its states that never goes back, a second update without a
#		second state is none (strictly forward), and no state is seen before its lo.  Only one who comes back or
#		has stalled may be told the same twice.  The walk found is the earliest possible one, so if there is
#		none, nothing explains what was seen.
#	fresh	each step is to a state that had not been replaced for longer than poll + slack.
#	stable	a viewer who is connected and reads shows each state that lasts at least poll + 2 slack, from hi + poll + slack
#		at the latest until the next one's lo, and nothing else in between: so it was seen, and in time.
#	end	after the last write each viewer shows what the database has.
#
# slack is 150 ms times SEATCAST_PATIENCE.  Time that this process lost itself (a loaded machine; it does not come round
# its loop) is measured and not counted.  With mode => 'updated_at' a state whose transaction committed more than 1.5 s after its write
# (the overlap is 2 s) may wait for the reconcile.

use v5.32;
use warnings;
use Test::More ();
use Time::HiRes qw(time);
use Scenario ();
use Client;

use constant { GAP => 0.03, OVERLAP => 1.5 };		# seconds
my %STORM = (block => 104, seats => 800);		# large enough to fill the sockets of those who stall
my @BREAKS = qw(gt own xmax torn rewrite);

# Options: seed, seconds, mode (exact, updated_at), break (see break_cursor), poll, reconcile (seconds), lighttpd => 1,
# migrates => 0 (no table is rewritten meanwhile), hand => SQL (writers set updated_at to it), zones => [time zones of writers], tick => sub (called with us and the seconds
# since the start), prepare => sub (called with us before seatcast starts), settle => 0 (do not wait for another reconcile).
sub new {
	my ($class, %o) = @_;
	my $patience = $ENV{SEATCAST_PATIENCE} // 1;
	my $self = bless {
		seed => $ENV{SEED} // int(time * 1000) % 1_000_000_000, seconds => $ENV{MODEL_SECONDS} // 60, mode => 'exact',
		break => $ENV{MODEL_BREAK} // '', poll => $ENV{MODEL_POLL} // 1, reconcile => 10,
		lighttpd => $ENV{MODEL_LIGHTTPD} // 0, zones => [undef], hand => undef, migrates => 1, settle => 1, %o,
		slack => 0.15 * $patience, wrong => [], lives => [], writers => [], prepared => [], measured => {}, gaps => [], count => {},
	}, $class;
	Test::More::diag("seed $self->{seed}, $self->{seconds} s, $self->{mode}", $self->{break} ? ", broken: $self->{break}" : '');
	my $s = $self->{s} = Scenario->new(seats => 20, lighttpd => $self->{lighttpd}, start => 0, poll_interval => ms($self->{poll}),
		reconcile_interval => ms($self->{reconcile}), linger => '2s',
		pg => { track_commit_timestamp => 'on', deadlock_timeout => '200ms', log_statement => 'none',
			log_min_duration_statement => '300ms' });		# a poll that took so long explains much
	$self->install;
	$s->start_seatcast(%{$s->{seatcast}});
	return $self;
}

sub scenario { return $_[0]{s} }
sub ms { return int(1000 * $_[0] + 0.5) . 'ms' }

# ---- the database ----

sub install {
	my ($self) = @_;
	my $s = $self->{s};
	my $hand = defined $self->{hand} ? "($self->{hand})" : 'CURRENT_TIMESTAMP';
	$s->sql(<<~SQL);
		INSERT INTO blocks (id, section_id, name) VALUES (103, 1, '103'), ($STORM{block}, 1, '104');
		INSERT INTO seats (id, block_id, row_number, seat_number)
			SELECT 2000001 + i, 103, 1 + i / 20, 1 + i % 20 FROM generate_series(0, 19) AS i UNION ALL
			SELECT 3000001 + i, $STORM{block}, 1 + i / 20, 1 + i % 20 FROM generate_series(0, $STORM{seats} - 1) AS i;
		INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'AVAILABLE' FROM seats WHERE id % 2 = 0;
		CREATE TABLE model_log (tag bigserial PRIMARY KEY, seat bigint NOT NULL, status text NOT NULL, xid xid8 NOT NULL,
			written timestamptz NOT NULL, writer int NOT NULL);
		CREATE FUNCTION model_next(status text, steps int) RETURNS text LANGUAGE sql IMMUTABLE AS \$f\$
			SELECT ('{AVAILABLE,HOLD,OCCUPIED}'::text[])[1 + (array_position('{AVAILABLE,HOLD,OCCUPIED}'::text[], status) - 1 + steps) % 3]
		\$f\$;
		CREATE FUNCTION model_write(this bigint, steps int, who int) RETURNS xid8 LANGUAGE plpgsql AS \$f\$
		DECLARE
			became text;
			ends timestamp := CASE WHEN steps + this % 2 = 1 THEN (now() AT TIME ZONE 'UTC') + interval '1 day' END;
		BEGIN
			INSERT INTO allocations AS a (match_id, seat_id, user_id, status, hold_expires_at, updated_at)
			VALUES (1, this, who, model_next('AVAILABLE', steps), ends, $hand)
			ON CONFLICT (match_id, seat_id) DO UPDATE SET user_id = who, status = model_next(a.status, steps),
				hold_expires_at = ends, updated_at = excluded.updated_at
			RETURNING a.status INTO became;
			-- The row is ours until we end; only now the tag is drawn.
			INSERT INTO model_log (seat, status, xid, written, writer)
			VALUES (this, became, pg_current_xact_id(), clock_timestamp(), who);
			RETURN pg_current_xact_id();
		END \$f\$;
		SQL
	$s->sql_file('changes_updated_at.sql') if $self->{mode} eq 'updated_at';
	$self->break_cursor($self->{break}) if $self->{break};
	$self->{prepare}->($self) if $self->{prepare};
	for ($s->sql('SELECT id, block_id FROM seats ORDER BY id')) {
		push @{$self->{seats}{$_->[1]}}, $_->[0];
		$self->{block}{$_->[0]} = $_->[1];
	}
	return;
}

# Replace pieces of a function's text: edit_function('seatcast.changes', qr/…/ => '…', …).  Each must be there.
sub edit_function {
	my ($self, $name, @edits) = @_;
	my ($row) = $self->{s}->sql("SELECT pg_get_functiondef('$name'::regproc)");
	my $text = $row->[0];
	while (my ($from, $to) = splice @edits, 0, 2) {
		$text =~ s/$from/$to/g or die "$name has no $from: the test has to follow the function\n$text";
	}
	$self->{s}->sql($text);
	return;
}

# Cursors that lose commits.
sub break_cursor {
	my ($self, $how) = @_;
	if ($how eq 'gt') {		# those that were running are forgotten, and the first later one
		$self->edit_function('seatcast.block_written', qr/changed_xid >= /, 'changed_xid > ');
	} elsif ($how eq 'own') {	# this poll's snapshot as the bound, instead of the one before it
		$self->edit_function('seatcast.position', qr/since := split_part\(then_at, ':', 1\)/, q{since := split_part(here, ':', 2)},
			qr/running := [^;]*/, q{running := '{}'});
	} elsif ($how eq 'xmax') {	# all that run while it is polled are forgotten
		$self->edit_function('seatcast.position', qr/running := [^;]*/, q{running := '{}'});
	} elsif ($how eq 'torn') {	# rows of one snapshot, the cursor of one 50 ms later
		$self->{s}->sql(<<~SQL);
			ALTER FUNCTION seatcast.changes(bigint, bigint, text) RENAME TO good_changes;
			CREATE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
			RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
			LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS \$f\$
			BEGIN
				RETURN QUERY SELECT * FROM seatcast.good_changes(\$1, \$2, \$3) AS g WHERE g.seat_id IS NOT NULL;
				PERFORM pg_sleep(0.05);
				RETURN QUERY SELECT NULL::bigint, NULL, NULL::timestamptz, pg_snapshot_xmin(pg_current_snapshot())::text, clock_timestamp();
			END \$f\$;
			GRANT EXECUTE ON FUNCTION seatcast.changes(bigint, bigint, text) TO seatcast_reader, seatcast_writer;
			SQL
	} elsif ($how eq 'rewrite') {	# a table that was rewritten under a poll is empty to it, and the poll believes that
		$self->edit_function('seatcast.read_at', qr/\bIF \(/, 'IF false AND (');
	} else {
		die "MODEL_BREAK=$how: one of @BREAKS\n";
	}
	return;
}

# ---- the run ----

sub dice { my ($self, $n) = @_; return Model::Dice->new($self->{seed} * 64 + $n) }

sub run {
	my ($self) = @_;
	my $s = $self->{s};
	my $n = 0;
	$self->{start} = $self->{now} = $self->{last} = time;
	$self->{stop} = $self->{start} + $self->{seconds};
	$self->{calm} = $self->{start} + 0.7 * $self->{seconds};	# from then on no long transaction holds xmin back
	# Writers: how many, shortest and longest transaction, longest pause between two.
	for my $kind ([4, 0.001, 0.3, 0.2], [3, 0.05, 4, 0.5], [2, 5, 25, 2], [1, 0, 0, 2.5, 'storm']) {
		push @{$self->{writers}}, Model::Writer->new($self, $n++, @$kind[1 .. 4]) for 1 .. $kind->[0];
	}
	push @{$self->{writers}}, Model::Migration->new($self, $n++) if $self->{migrates};
	# Viewers: block, how many stay all the time, how many come and go, how many stall.
	for ([101, 2, 3, 1], [102, 1, 2, 1], [103, 0, 3, 0], [$STORM{block}, 1, 0, 2]) {
		my ($block, %of) = ($_->[0], stays => $_->[1], moves => $_->[2], stalls => $_->[3]);
		for my $habit (sort keys %of) {
			push @{$self->{viewers}}, Model::Viewer->new($self, $n++, $block, $habit) for 1 .. $of{$habit};
		}
	}
	{
		no warnings 'redefine';
		local *Client::decode_json = \&quick_json;
		$self->turn until $self->{now} > $self->{stop};
		$self->{ending} = 1;
		my $most = $self->{now} + 30 + $self->{slack};
		$self->turn while $self->{now} < $most && (@{$self->{prepared}} || grep { !$_->idle } @{$self->{writers}});
		die "writers do not come to an end\n" if $self->{now} >= $most;
		$self->{quiet} = $self->{now};
		$_->stay for @{$self->{viewers}};
		my $wait = $self->{poll} + $self->{slack} + ($self->{mode} eq 'exact' ? 0 : $self->{reconcile});
		my $until = $self->{now} + $wait + 0.5;
		$self->turn while $self->{now} < $until;
		$self->{settled} = $self->{now};
		$until = $self->{now} + ($self->{settle} && $self->{mode} eq 'exact' ? $self->{reconcile} : 0);
		$self->turn while $self->{now} < $until;
	}
	$self->{counter}{$_} = $s->counter($_) // 0 for qw(late_seats reconciles polls polls_failed polls_again conflations resume_hits resume_misses stalls);
	$_->pause for @{$self->{viewers}};
	return $self;
}

# Once round: whatever viewers and writers have to do now.
sub turn {
	my ($self) = @_;
	$self->{s}->serve(0.005);
	$self->{now} = time;
	push @{$self->{gaps}}, [$self->{last}, $self->{now}] if $self->{now} - $self->{last} > GAP;
	$self->{last} = $self->{now};
	$_->step for @{$self->{viewers}};
	$_->step for @{$self->{writers}};
	$self->{tick}->($self, $self->{now} - $self->{start}) if $self->{tick};
	return;
}

# SPEC 2 says how the payload looks, to the byte; JSON::PP needs a hundred times as long for it.
sub quick_json {
	my ($text) = @_;
	return { status => 200, data => { seatId => $1, status => $2 } } if $text =~ /\A\{"status":200,"data":\{"seatId":(\d+),"status":"([A-Z]+)"\}\}\z/;
	return { status => 200, data => { seats => [map { /"id":(\d+),"status":"([A-Z]+)"/ ? { id => $1, status => $2 } : die "init: $_" }
		split /\},\{/, $1] } } if $text =~ /\A\{"status":200,"data":\{"seats":\[(.+)\]\}\}\z/;
	return JSON::PP::decode_json($text);
}

sub complain { my ($self, $rule, $says, @more) = @_; push @{$self->{wrong}}, { rule => $rule, says => $says, more => \@more }; return }
sub violations { my ($self, $rule) = @_; return grep { !defined $rule || $_->{rule} eq $rule } @{$self->{wrong}} }

# ---- the checker ----

# What was committed, as {seat => [{tag, status, lo, hi, late}, …]}; the first state is from before the beginning.
sub history {
	my ($self) = @_;
	my (%states, %by_xid);
	for ($self->{s}->sql(q{SELECT seat, tag, status, xid, writer, extract(epoch FROM written), extract(epoch FROM pg_xact_commit_timestamp(xid::xid))
			FROM model_log ORDER BY seat, tag}, 60)) {
		my ($seat, $tag, $status, $xid, $writer, $written, $committed) = @$_;
		my $m = $self->{measured}{$xid} or die "transaction $xid is in the log, but nobody committed it\n";
		my $list = $states{$seat} //= [];
		$self->{count}{committed}++;
		my $state = { tag => $tag, status => $status, xid => $xid, writer => $writer, written => $written,
			lo => $committed > $m->[0] ? $committed : $m->[0], hi => $m->[1], late => $m->[1] - $written > OVERLAP };
		pop @$list if @$list && $list->[-1]{xid} == $xid;	# nobody has seen the transaction's own steps
		push @$list, $state;
	}
	for my $seat (keys %{$self->{block}}) {
		my @list = ({ tag => 0, status => 'AVAILABLE', xid => 0, writer => '-', lo => 0, hi => 0, late => 0 });
		for (@{$states{$seat} // []}) {
			$self->{could_be_late}++ if $_->{late};
			if ($_->{status} eq $list[-1]{status}) {
				$list[-1]{same}++;
			} else {
				push @list, $_;
			}
		}
		$self->{history}{$seat} = \@list;
		$self->{count}{$self->{block}{$seat} == $STORM{block} ? 'storm_states' : 'states'} += @list - 1;
	}
	return;
}

# How long this process was away between two moments.
sub lost {
	my ($self, $from, $to) = @_;
	my $sum = 0;
	for (@{$self->{gaps}}) {
		next if $_->[1] < $from;
		last if $_->[0] > $to;
		$sum += ($_->[1] < $to ? $_->[1] : $to) - ($_->[0] > $from ? $_->[0] : $from);
	}
	return $sum;
}

# When a state must be shown at the latest.
sub due {
	my ($self, $state) = @_;
	my $due = $state->{hi} + $self->{poll} + $self->{slack};
	$due += $self->{reconcile} if $self->{mode} ne 'exact' && $state->{late};
	$due += $self->lost($state->{hi}, $due);
	for (@{$self->{gaps}}) {				# nothing can be seen while nobody looks
		$due = $_->[1] + GAP if $_->[0] <= $due && $due < $_->[1] + GAP;
	}
	return $due;
}

# True: no rule was broken.
sub check {
	my ($self) = @_;
	$self->history;
	for my $states (values %{$self->{history}}) {
		$_->{due} = $_->{hi} ? $self->due($_) : 0 for @$states;
	}
	for my $life (@{$self->{lives}}) {
		for my $seat (sort { $a <=> $b } keys %{$life->{seen}}) {
			$self->check_order($life, $seat) && $self->check_stable($life, $seat);
		}
	}
	$self->check_end;
	return !@{$self->{wrong}};
}

sub check_order {
	my ($self, $life, $seat) = @_;
	my $states = $self->{history}{$seat};
	my ($at, $oldest) = (-1, 0);		# where the walk is; the oldest state that is fresh enough
	for my $seen (@{$life->{seen}{$seat}}) {
		my $from = $seen->{how} eq 'update' ? $at + 1 : $at < 0 ? 0 : $at;
		my $next = $oldest;
		$next++ while $next < $#$states && $states->[$next + 1]{due} <= $seen->{at};
		$oldest = $next if $seen->{how} ne 'old';
		$from = $oldest if $from < $oldest && $seen->{how} ne 'old';
		my $to = $from;
		$to++ while $to <= $#$states && ($states->[$to]{status} ne $seen->{status});
		if ($to > $#$states || $states->[$to]{lo} > $seen->{at}) {
			$self->complain(order => sprintf('%s: seat %d is said to be %s at %s: after what it saw before, that can be no state of then (the oldest possible one is tag %s)',
				$life->{name}, $seat, $seen->{status}, $self->at($seen->{at}), $from <= $#$states ? $states->[$from]{tag} : 'to come'),
				$self->picture($life, $seat, $seen->{at}));
			return 0;
		}
		$self->{count}{repeats}++ if $seen->{how} eq 'old' && $to == $at;
		$at = $to;
	}
	return 1;
}

sub check_stable {
	my ($self, $life, $seat) = @_;
	my ($states, $seen) = ($self->{history}{$seat}, $life->{seen}{$seat});
	my $i = 0;
	for my $live (@{$life->{live}}) {
		my ($begin, $end) = @$live;
		for my $n (0 .. $#$states) {
			my ($state, $next) = @$states[$n, $n + 1];
			my $until = $next && $next->{lo} < $end ? $next->{lo} : $end;
			next if $until <= $begin;
			last if $state->{hi} >= $end;
			my $from = $state->{due} > $begin ? $state->{due} : $begin;
			next if $from >= $until || $next && $next->{lo} - $state->{hi} < $self->{poll} + 2 * $self->{slack};
			$i-- while $i > 0 && $seen->[$i]{at} > $from;
			$i++ while $i < $#$seen && $seen->[$i + 1]{at} <= $from;
			$self->{count}{$life->{block} == $STORM{block} ? 'storm_pairs' : 'pairs'}++;
			my $wrong = $seen->[$i]{at} > $from || $seen->[$i]{status} ne $state->{status} ? $from : undef;
			for (my $k = $i + 1; !defined $wrong && $k < @$seen && $seen->[$k]{at} < $until; $k++) {
				$wrong = $seen->[$k]{at} if $seen->[$k]{status} ne $state->{status};
			}
			if (defined $wrong) {
				$self->complain(stable => sprintf('%s: seat %d was %s (tag %s) from %s to %s, and at %s it is not shown so',
					$life->{name}, $seat, $state->{status}, $state->{tag}, $self->at($state->{hi}),
					$next ? $self->at($next->{lo}) : 'the end', $self->at($wrong)),
					$self->picture($life, $seat, $wrong));
				return 0;
			}
			next if $state->{lo} <= $begin || $self->{mode} ne 'exact' && $state->{late};
			push @{$self->{delays}}, $seen->[$i]{at} - $state->{lo} if $seen->[$i]{at} >= $state->{lo};
		}
	}
	return 1;
}

sub check_end {
	my ($self) = @_;
	my %is = map { @$_ } $self->{s}->sql(q{SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id AND a.match_id = 1});
	for my $seat (keys %is) {
		die "the test's own log is wrong about seat $seat\n" if $self->{history}{$seat}[-1]{status} ne $is{$seat};
	}
	for my $life (grep { $_->{to_the_end} } @{$self->{lives}}) {
		my @settled = map { [$_, (grep { $_->{at} <= $self->{settled} } @{$life->{seen}{$_} // []})[-1]] } @{$self->{seats}{$life->{block}}};
		my @differ = grep { !$_->[1] || $_->[1]{status} ne $is{$_->[0]} } @settled;
		$self->complain(end => sprintf('%s: %d seats are not as in the database in the end', $life->{name}, scalar @differ),
			$self->picture($life, $differ[0][0], $self->{settled})) if @differ;
	}
	return;
}

# ---- for people ----

sub at { my ($self, $t) = @_; return $t ? sprintf '%.3f', $t - $self->{start} : 'the beginning' }

# A seat's states and what a viewer saw of it, around a moment.
sub picture {
	my ($self, $life, $seat, $moment) = @_;
	my ($before, $after) = (8, 4);
	my @line;
	my $near = sub {
		my ($key, @all) = @_;
		my ($n) = grep { $all[$_]{$key} > $moment } 0 .. $#all;
		$n //= @all;
		return @all[($n > $before ? $n - $before : 0) .. ($n + $after > $#all ? $#all : $n + $after)];
	};
	push @line, sprintf 'seat %d of block %d, committed:', $seat, $life->{block};
	push @line, map { sprintf '    tag %-6s %-9s by writer %-2s in transaction %s, committed between %s and %s%s', @$_{qw(tag status writer xid)},
		$self->at($_->{lo}), $self->at($_->{hi}), $_->{written} && $_->{lo} - $_->{written} > 0.05 ? sprintf(', written %.3f s before', $_->{lo} - $_->{written}) : '' }
		$near->('lo', @{$self->{history}{$seat}});
	push @line, "$life->{name} saw:";
	push @line, map { sprintf '    %-9s at %s (%s)', $_->{status}, $self->at($_->{at}), $_->{how} } $near->('at', @{$life->{seen}{$seat} // []});
	push @line, join ' ', 'it was connected and reading:', map { $self->at($_->[0]) . ' to ' . $self->at($_->[1]) . ';' } @{$life->{live}};
	return @line;
}

sub report {
	my ($self) = @_;
	my ($c, @delay) = ($self->{count}, sort { $a <=> $b } @{$self->{delays} // []});
	my $all = sub { join ', ', map { ($c->{$_} // 0) . " $_" } @_ };
	my $of = $self->{counter};
	my @line = (
		"seed $self->{seed}: $self->{seconds} s, $self->{mode}" . ($self->{break} ? ", broken: $self->{break}" : ''),
		sprintf("  %d writes, %d of them committed; states: %d in the small blocks, %d in the large one", map { $_ // 0 } @$c{qw(writes committed states storm_states)}),
		'  tables rewritten: ' . ($c->{rewrites} // 0) . ', not in time for a lock: ' . ($c->{'no lock'} // 0),
		'  transactions: ' . $all->('commits', 'rollbacks', 'prepared', 'commits prepared', 'rollbacks prepared', 'rollbacks to savepoint', 'errors'),
		'  viewers ' . @{$self->{lives}} . ': ' . $all->('resumes', 'stalls', 'inits', 'updates', 'repeats'),
		sprintf("  (viewer, state) pairs that lasted and were checked: %d and %d; found wrong: %d", (map { $_ // 0 } @$c{qw(pairs storm_pairs)}), scalar @{$self->{wrong}}),
		@delay ? sprintf('  commit to arrival: p50 %.0f ms, p99 %.0f ms, maximum %.0f ms of %d', (map { 1000 * $_ } @delay[@delay / 2, int(@delay * 0.99)], $delay[-1]), scalar @delay) : (),
		sprintf('  test\'s own pauses: %d, %.0f ms the longest', scalar @{$self->{gaps}}, 1000 * (sort { $b <=> $a } 0, map { $_->[1] - $_->[0] } @{$self->{gaps}})[0]),
		'  counters: ' . join(', ', map { "$_ $of->{$_}" } sort keys %$of),
	);
	Test::More::diag($_) for @line;
	return $self if $self->{quietly};
	my %shown;
	for my $w (@{$self->{wrong}}) {
		next if ++$shown{$w->{rule}} > 3;
		Test::More::diag("$w->{rule}: $w->{says}");
		Test::More::diag("  $_") for @{$w->{more}};
	}
	Test::More::diag(join ', ', map { "$_: $shown{$_}" } sort keys %shown) if %shown;
	return $self;
}

# ---- one who writes ----

package Model::Writer;

use Time::HiRes qw(time);

sub new {
	my ($class, $m, $n, $shortest, $longest, $pause, $storm) = @_;
	my $self = bless { m => $m, n => $n, dice => $m->dice($n), shortest => $shortest, longest => $longest, pause => $pause,
		storm => $storm, plan => [], wake => 0, first => 1, session => $m->{s}->session }, $class;
	my $zone = $m->{zones}[$n % @{$m->{zones}}];
	$self->{session}->query(join ';', 'SET lock_timeout = ' . $self->{dice}->int(200, 2000), "SET application_name = 'writer $n'", 'SET log_min_messages = fatal',
		defined $zone ? "SET TimeZone = '$zone'" : ());
	return $self;
}

sub idle { my ($self) = @_; return !$self->{waiting} && !@{$self->{plan}} }
sub write { my ($self, $seat) = @_; return "SELECT model_write($seat, " . $self->{dice}->of((1) x 17, 2, 0, 0) . ", $self->{n})" }

# Mostly seats everywhere alike, at times the few that all want; the large block seldom.
sub pick {
	my ($self) = @_;
	my ($d, $seats) = ($self->{dice}, $self->{m}{seats});
	my $block = $d->of(101, 101, 102, 102, 103, 103, $self->{longest} < 5 ? $STORM{block} : 103);
	return $seats->{$block}[$d->chance(0.15) ? 0 : $d->int(0, $#{$seats->{$block}})];
}

# What to do next, as [what, statement, seconds to wait before it].
sub invent {
	my ($self) = @_;
	my ($m, $d) = @$self{qw(m dice)};
	my $stop = $self->{longest} > 1 ? $m->{calm} : $m->{stop};
	my $left = $stop - $m->{now};
	return [] if $left <= 0 && !$self->{storm};
	if ($self->{storm}) {
		return [[auto => "SELECT max(x::text) FROM (SELECT model_write(id, 1, $self->{n}) AS x FROM seats WHERE block_id = $STORM{block} ORDER BY id) AS w", $d->num(1, $self->{pause})]];
	}
	my $wait = $self->{first} ? 0 : $d->num(0, $self->{pause});
	my $long = $d->log($self->{shortest}, $self->{longest});
	$long = $self->{longest} < $left * 0.6 ? $self->{longest} : $left * 0.6 if delete $self->{first};
	$long = $left - $wait if $long > $left - $wait;
	$long = 0.001 if $long < 0.001;
	return [[auto => $self->write($self->pick), $wait]] if $long < 5 && $d->chance(0.2);
	my @seats = $d->chance(0.04) ? @{$m->{seats}{$d->of(101, 102, 103)}} : map { $self->pick } 1 .. $d->int(1, 5);
	@seats = sort { $a <=> $b } @seats if $d->chance(0.9);		# the others may meet in a deadlock
	my $level = $d->of(('') x 8, ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE');
	my (@plan, @open, $names);
	push @plan, [begin => "BEGIN$level", $wait];
	for my $seat (@seats) {
		if (@open < 3 && $d->chance(0.3)) {
			push @open, 's' . ++$names;
			push @plan, [save => "SAVEPOINT $open[-1]"];
		}
		push @plan, [write => $self->write($seat)];
		if (@open && $d->chance(0.5)) {
			my $name = pop @open;
			push @plan, [rollto => "ROLLBACK TO SAVEPOINT $name"] if $d->chance(0.4);
			push @plan, [release => "RELEASE SAVEPOINT $name"];
		}
	}
	my $end = $d->num(0, 1);
	push @plan, $end < 0.75 ? [commit => 'COMMIT'] : $end < 0.87 ? [rollback => 'ROLLBACK'] : [prepare => 'PREPARE TRANSACTION '];
	# The time is spent somewhere between BEGIN and COMMIT: part of it before the first write, most of it with locks held.
	my @share = map { $d->num(0, 1) ** 3 } 2 .. @plan;
	my $sum = 1e-9;
	$sum += $_ for @share;
	$plan[$_][2] = $long * $share[$_ - 1] / $sum for 1 .. $#plan;
	return \@plan;
}

sub step {
	my ($self) = @_;
	my $m = $self->{m};
	if ($self->{waiting}) {
		return if !$self->{session}->ready;
		$self->answered;
	}
	if (!@{$self->{plan}}) {
		my ($due) = grep { $m->{prepared}[$_]{at} <= $m->{now} || $m->{ending} } 0 .. $#{$m->{prepared}};
		if (defined $due) {		# whoever is free ends what another one prepared
			$self->{xid} = $m->{prepared}[$due]{xid};
			my $p = splice @{$m->{prepared}}, $due, 1;
			my $verb = $self->{dice}->chance(0.8) ? 'COMMIT' : 'ROLLBACK';
			$self->{plan} = [["\L$verb\Es prepared" => "$verb PREPARED '$p->{name}'", 0]];
		} elsif ($m->{ending}) {
			return;
		} else {
			$self->{plan} = $self->invent;
			return if !@{$self->{plan}};
		}
		$self->{wake} = $m->{now} + ($self->{plan}[0][2] // 0);
	}
	$self->{wake} = $m->{now} if $m->{ending};
	return if $m->{now} < $self->{wake};
	my $next = $self->{doing} = shift @{$self->{plan}};
	$self->{xid} = undef if $next->[0] eq 'begin' || $next->[0] eq 'auto';
	$next->[1] .= "'" . ($self->{name} = "p$self->{n}-" . ++$self->{names}) . "'" if $next->[0] eq 'prepare';
	$self->{sent} = time;
	$self->{session}->send($next->[1]);
	$self->{waiting} = 1;
	return;
}

sub answered {
	my ($self) = @_;
	my ($m, $what) = ($self->{m}, $self->{doing}[0]);
	my @rows = eval { $self->{session}->result };
	my ($error, $after, $count) = ($@, time, $m->{count});
	$self->{waiting} = 0;
	$count->{writes} += $self->{storm} ? $STORM{seats} : 1 if $what eq 'write' || $what eq 'auto';
	if ($error) {
		die "writer $self->{n}: $self->{doing}[1]: $error" if $what !~ /^(?:write|auto|commit|prepare)$/
		    || $error !~ /lock timeout|deadlock detected|could not serialize/;
		$count->{errors}++;
		return $self->{plan} = [] if $what ne 'write';		# the server has rolled back
		$self->{saves} // 0 or return $self->{plan} = [[rollback => 'ROLLBACK', 0]];
		unshift @{$self->{plan}}, [rollto => "ROLLBACK TO SAVEPOINT $self->{open}[-1]", 0];
	} elsif ($what eq 'write' || $what eq 'auto') {
		$self->{xid} = $rows[0][0];
	}
	if ($what eq 'save') {
		push @{$self->{open}}, $self->{doing}[1] =~ s/.* //r;
	} elsif ($what eq 'release') {
		pop @{$self->{open}};
	} elsif ($what eq 'begin') {
		$self->{open} = [];
	} elsif ($what eq 'prepare') {
		push @{$m->{prepared}}, { name => $self->{name}, xid => $self->{xid}, at => $after + $self->{dice}->log(0.01, 6) };
	}
	$self->{saves} = @{$self->{open} // []};
	$m->{measured}{$self->{xid}} = [$self->{sent}, $after] if $what =~ /^(?:auto|commit|commits prepared)$/ && defined $self->{xid};
	$count->{{ auto => 'commits', commit => 'commits', rollback => 'rollbacks', rollto => 'rollbacks to savepoint', prepare => 'prepared' }->{$what} // $what}++;
	$self->{wake} = $m->{now} + ($self->{plan}[0][2] // 0) if @{$self->{plan}};
	return;
}

# ---- one who migrates ----

# Rewrites a table at random moments, as a migration does that changes a column's type.  Waits for the lock no longer than what
# a poll behind it may be late.
package Model::Migration;

sub new {
	my ($class, $m, $n) = @_;
	my $self = bless { m => $m, dice => $m->dice($n), session => $m->{s}->session, wake => 0 }, $class;
	$self->{session}->query("SET application_name = 'migration'; SET log_min_messages = fatal; SET deadlock_timeout = '10s'");
	return $self;
}

sub idle { my ($self) = @_; return !$self->{waiting} }

sub step {
	my ($self) = @_;
	my ($m, $d) = @$self{qw(m dice)};
	if ($self->{waiting}) {
		return if !$self->{session}->ready;
		$self->{waiting} = 0;
		my $done = eval { $self->{session}->result; 1 };
		die "migration: $@" if !$done && $@ !~ /lock timeout|deadlock detected/;
		$self->{session}->query('ROLLBACK') if !$done;
		$m->{count}{$done ? 'rewrites' : 'no lock'}++;
		$self->{wake} = $m->{now} + ($done ? $d->num(0.2, 1) : $d->num(0.02, 0.12));
	}
	return if $m->{ending} || $m->{now} < $self->{wake};
	my $table = $d->chance(0.8) ? 'ALTER TABLE allocations ALTER user_id TYPE bigint USING user_id + 0' : 'ALTER TABLE seats ALTER seat_number TYPE integer USING seat_number + 0';
	# so long that polls come meanwhile, and so short that with their waiting they are still in time
	$self->{session}->send('SET lock_timeout = ' . $d->int(5, 50) . "; BEGIN; $table; SELECT pg_sleep(0.05); COMMIT");
	$self->{waiting} = 1;
	return;
}

# ---- one who looks ----

package Model::Viewer;

# A viewer lives as long as it remembers: one who comes back with Last-Event-ID is the same.  {seen} is what it was told of
# each seat: {at, status, how}; how is init, resume (the first updates after it came back), old (after a stall) or update.
# {live} are the times at which it was connected, had caught up and read.
sub new {
	my ($class, $m, $n, $block, $habit) = @_;
	my $self = bless { m => $m, dice => $m->dice($n), block => $block, habit => $habit, wake => 0 }, $class;
	$self->{wake} = $m->{now} + $self->{dice}->num(0, 2) if $habit eq 'moves';
	$self->{stall} = 1 if $habit eq 'stalls';
	return $self;
}

# A new person.
sub come {
	my ($self) = @_;
	my $m = $self->{m};
	my $n = @{$m->{lives}} + 1;
	$self->{client}->close if $self->{client};
	$self->{client} = $m->{s}->client("viewer $n");
	push @{$m->{lives}}, $self->{life} = { name => "viewer $n", block => $self->{block}, seen => {}, live => [] };
	$self->{client}->watch(1, $self->{block});
	return $self->connected;
}

sub connected { my ($self) = @_; $self->{on} = 1; @$self{qw(caught old_until)} = (0, 0); return $self->plan }

sub plan {
	my ($self) = @_;
	my $d = $self->{dice};
	$self->{next} = $self->{habit} eq 'stays' ? 'stay' : delete $self->{stall} ? 'stall'
	    : $self->{habit} eq 'stalls' ? $d->of(qw(stall stall stall leave)) : $d->of(qw(stall leave leave leave change));
	$self->{wake} = $self->{m}{now} + $d->log(0.3, $self->{habit} eq 'stalls' ? 4 : 12);
	return;
}

sub now_live { my ($self, $at) = @_; push @{$self->{life}{live}}, [$at, undef]; return }

sub pause {
	my ($self) = @_;
	my $live = $self->{life}{live};
	$live->[-1][1] = $self->{m}{now} if @$live && !defined $live->[-1][1];
	$self->{old_until} = 0;
	return;
}

sub step {
	my ($self) = @_;
	my $m = $self->{m};
	$self->harvest if $self->{on};
	$self->now_live($m->{now}), $self->{old_until} = 0 if $self->{old_until} && $m->{now} >= $self->{old_until};
	return if $m->{now} < $self->{wake} || $m->{ending} && $m->{quiet};
	my $d = $self->{dice};
	if (!$self->{client}) {
		$self->come;
	} elsif (!$self->{on}) {
		$m->{count}{resumes}++;
		$self->{client}->reconnect;
		$self->connected;
	} elsif ($self->{client}{stopped}) {
		$self->go_on;
		$self->plan;
	} elsif (!$self->{caught} || $self->{next} eq 'stay') {
		$self->{wake} = $m->{now} + 0.5;
	} elsif ($self->{next} eq 'stall') {
		$m->{count}{stalls}++;
		$self->pause;
		$self->{client}->stop_reading;
		$self->{wake} = $m->{now} + ($self->{habit} eq 'stalls' ? $d->num(6, 16) : $d->log(0.5, 10));
	} elsif ($self->{next} eq 'leave') {
		$self->pause;
		$self->{client}->close;
		$self->{on} = 0;
		$self->{wake} = $m->{now} + $d->log(0.02, 8);
	} else {
		$self->pause;
		$self->come;
	}
	return;
}

sub go_on {
	my ($self) = @_;
	$self->{client}->resume_reading;
	$self->{old_until} = $self->{m}{now} + $self->{m}{poll} + $self->{m}{slack};
	return;
}

# The end is near: everybody is there and reads.
sub stay {
	my ($self) = @_;
	$self->{habit} = $self->{next} = 'stay';
	if (!$self->{client}) { $self->come }
	elsif (!$self->{on}) { $self->{client}->reconnect; $self->connected }
	elsif ($self->{client}{stopped}) { $self->go_on }
	$self->{next} = 'stay';
	$self->{life}{to_the_end} = 1;
	return;
}

# What has come since.
sub harvest {
	my ($self) = @_;
	my ($m, $c, $life) = @$self{qw(m client life)};
	$c->{body} = '';
	if ($c->{closed} || ($c->{status} // 200) != 200) {
		$m->complain(stream => "$life->{name}: the stream ended by itself at " . $m->at($m->{now}) . ', status ' . ($c->{status} // 'none')) if !$life->{lost}++;
		$self->pause;
		$self->{on} = 0;
		$self->{wake} = $m->{now} + 1;
	}
	while (my $e = shift @{$c->{events}}) {
		my $data = ref $e->{json} ? $e->{json}{data} : {};
		if ($e->{type} eq 'init') {
			$m->{count}{inits}++;
			push @{$life->{seen}{$_->{id}}}, { at => $e->{at}, status => $_->{status}, how => 'init' } for @{$data->{seats}};
			my ($want, $got) = map { join ' ', @$_ } $m->{seats}{$self->{block}}, [map { $_->{id} } @{$data->{seats}}];
			$m->complain(stream => "$life->{name}: init has other seats than the block") if $want ne $got;
		} elsif ($e->{type} eq 'update') {
			$m->{count}{updates}++;
			push @{$life->{seen}{$data->{seatId}}}, { at => $e->{at}, status => $data->{status},
				how => !$self->{caught} ? 'resume' : $self->{old_until} ? 'old' : 'update' };
		} elsif ($e->{type} ne 'beat') {
			$m->complain(stream => "$life->{name}: event $e->{type} at " . $m->at($e->{at}) . ": $e->{data}");
		}
		if (!$self->{caught} && ($e->{type} ne 'update' || defined $e->{id})) {
			$self->{caught} = 1;
			$self->now_live($e->{at});
		}
	}
	return;
}

# ---- chance that a seed repeats, whatever the order in which others throw ----

package Model::Dice;

sub new {
	my ($class, $seed) = @_;
	my $self = bless { x => ($seed * 2654435761 ^ $seed >> 7) & 0xffffffff || 1 }, $class;
	$self->throw for 1 .. 8;
	return $self;
}

sub throw {				# xorshift32 (Marsaglia)
	my ($self) = @_;
	my $x = $self->{x};
	$x ^= $x << 13 & 0xffffffff;
	$x ^= $x >> 17;
	$x ^= $x << 5 & 0xffffffff;
	return ($self->{x} = $x) / 4294967296;
}

sub num { my ($self, $low, $high) = @_; return $low + ($high - $low) * $self->throw }
sub int { my ($self, $low, $high) = @_; return CORE::int($self->num($low, $high + 1)) }
sub log { my ($self, $low, $high) = @_; return $low * ($high / $low) ** $self->throw }
sub chance { my ($self, $p) = @_; return $self->throw < $p }
sub of { my ($self, @list) = @_; return $list[$self->int(0, $#list)] }

1;
