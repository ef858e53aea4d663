#!/usr/bin/env perl
# A ticket sale to watch: private PostgreSQL, seatcast and lighttpd, and simulated buyers who write to the
# database as a shop would, with SQL.  Started by ../quickstart; ends with Ctrl-C and leaves nothing behind.
#
# Options: --buyers N (how many are choosing seats at the height of the rush, 80), --speed N (how fast time goes
# for them, 1), --for SECONDS (end by itself).

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use POSIX qw(strftime);
use Time::HiRes qw(time sleep);
use Stage;

use constant { MATCH => 1, STAR => 101 };	# the block everybody wants; the page shows it first
use constant HOLD_SECONDS => 40;		# short, so that holds can be seen to expire

my %o = (buyers => 80, speed => 1, for => 0);
GetOptions(\%o, 'buyers=i', 'speed=f', 'for=f') && !@ARGV && $o{buyers} > 0 && $o{speed} > 0
    or die "usage: quickstart [--buyers N] [--speed N] [--for SECONDS]\n";
$| = 1;
$o{buyers} = 2000 if $o{buyers} > 2000;

$SIG{__DIE__} = sub { die @_ if $^S; print STDERR 'quickstart: ', @_; exit 1 };

my $stage = Stage->new;
say 'Starting a private PostgreSQL, with a stadium of 40,000 seats ...';
$stage->pg_start->pg_install(demo => 1);
say 'Starting seatcast and lighttpd ...';
$stage->start_seatcast(workers => 2)->start_lighttpd;
my $path = sprintf '/api/matches/%d/blocks/%d/seats/status-stream', MATCH, STAR;
my $page = $stage->url(sprintf '/?match=%d&block=%d', MATCH, STAR);
print <<~END;

	  Watch the seats:   $page
	  or the stream:     curl -N @{[$stage->url($path)]}
	  or the service:    @{[$stage->url('/status')]}

	Buyers are coming.  Ctrl-C ends it and leaves nothing running.

	END

# ---- the seats, as the buyers know them ----

my (%seats, %open);			# block => its seats in order of row and number; block => { seat => 1 }: thought to be free
push @{$seats{$_->[0]}}, $_->[1] for $stage->sql(<<~SQL);
	SELECT block_id, id FROM seats ORDER BY block_id, row_number, seat_number
	SQL
my @blocks = sort { $a <=> $b } keys %seats;
my (%at, %block_of);
for my $block (@blocks) {
	$at{$seats{$block}[$_]} = $_ for 0 .. $#{$seats{$block}};
	$block_of{$_} = $block for @{$seats{$block}};
}

# What is free now, as somebody sees it who opens the page.
sub look {
	%open = map { $_ => {} } @blocks;
	my %taken = map { $_->[0] => 1 } $stage->sql(<<~SQL);
		SELECT seat_id FROM allocations WHERE match_id = @{[MATCH]} AND (status = 'OCCUPIED'
		    OR status = 'HOLD' AND hold_expires_at > timezone('UTC', clock_timestamp()))
		SQL
	for my $seat (keys %block_of) {
		$open{$block_of{$seat}}{$seat} = 1 if !$taken{$seat};
	}
	return;
}

# ---- what buyers do: one statement each, the way a shop writes ----

# Hold seats for a user: those that really were free are returned.
sub hold {
	my ($user, @seats) = @_;
	my $list = join ',', @seats;
	return map { $_->[0] } $stage->sql(<<~SQL);
		INSERT INTO allocations AS a (match_id, seat_id, user_id, status, hold_expires_at)
		SELECT @{[MATCH]}, id, $user, 'HOLD', timezone('UTC', clock_timestamp()) + interval '@{[HOLD_SECONDS / $o{speed}]} s'
		  FROM unnest(ARRAY[$list]::bigint[]) AS id
		ON CONFLICT (match_id, seat_id) DO UPDATE
		   SET user_id = excluded.user_id, status = 'HOLD', hold_expires_at = excluded.hold_expires_at
		 WHERE a.status = 'AVAILABLE' OR a.status = 'HOLD' AND a.hold_expires_at <= timezone('UTC', clock_timestamp())
		RETURNING seat_id
		SQL
}

# From one status to another, if the seats are still this user's.
sub change {
	my ($user, $status, @seats) = @_;
	my $list = join ',', @seats;
	my $owner = $status eq 'AVAILABLE' ? 'NULL' : $user;
	$stage->sql(<<~SQL);
		UPDATE allocations SET status = '$status', user_id = $owner, hold_expires_at = NULL
		 WHERE match_id = @{[MATCH]} AND seat_id IN ($list) AND user_id = $user AND status = 'HOLD'
		   AND hold_expires_at > timezone('UTC', clock_timestamp())
		SQL
	return;
}

# A refund of what was sold: the sale starts anew, a row of seats at a time.
sub refund {
	my (@seats) = @_;
	my $list = join ',', @seats;
	$stage->sql("UPDATE allocations SET status = 'AVAILABLE', user_id = NULL, hold_expires_at = NULL WHERE match_id = @{[MATCH]} AND seat_id IN ($list)");
	return;
}

# One to four seats side by side, rather in front than behind.
sub choose {
	my ($block) = @_;
	my $all = $seats{$block};
	for (1 .. 6) {
		my $from = int(@$all * rand() ** 1.6);
		my @run;
		for my $i ($from .. $#$all) {
			last if !$open{$block}{$all->[$i]} || @run >= 1 + int rand 4;
			push @run, $all->[$i];
		}
		return @run if @run;
	}
	my @any = keys %{$open{$block}};
	return @any ? $any[rand @any] : ();
}

# ---- the sale ----

my (@buyers, %count);
my $next_user = 1000000;
my ($begin, $now, $phase, $phase_from) = (time, 0, '', 0);
my ($next_line, $next_look) = (0, 0);

sub phase {
	($phase, $phase_from) = ($_[0], $now);
	printf "%s  %s\n", strftime('%H:%M:%S', localtime), $_[1];
	return;
}

# A buyer comes, holds seats and goes away to think.
sub arrive {
	my $block = rand() < 0.6 ? STAR : $blocks[int(@blocks * rand() ** 2)];
	my @seats = choose($block) or return;
	my $user = $next_user++;
	my @got = hold($user, @seats);
	delete $open{$block}{$_} for @seats;
	$count{beaten} += @seats - @got;
	return if !@got;
	$count{held} += @got;
	my $dice = rand;
	my $decides = $dice < 0.55 ? 'OCCUPIED' : $dice < 0.80 ? 'AVAILABLE' : 'forgets';
	push @buyers, { user => $user, block => $block, seats => \@got, decides => $decides,
		at => $now + ($decides eq 'forgets' ? HOLD_SECONDS : 4 + rand() * 24) };
	return;
}

sub decide {
	my ($b) = @_;
	if ($b->{decides} eq 'forgets') {	# nobody writes anything: the hold ends by its time alone
		$count{expired} += @{$b->{seats}};
	} else {
		change($b->{user}, $b->{decides}, @{$b->{seats}});
		$count{$b->{decides}} += @{$b->{seats}};
	}
	$open{$b->{block}}{$_} = 1 for $b->{decides} eq 'OCCUPIED' ? () : @{$b->{seats}};
	return;
}

sub line {
	my %n = (AVAILABLE => scalar @{$seats{+STAR}}, HOLD => 0, OCCUPIED => 0);
	for ($stage->sql(<<~SQL)) {
		SELECT status, count(*) FROM allocations WHERE match_id = @{[MATCH]} AND block_id = @{[STAR]} AND (status = 'OCCUPIED'
		    OR status = 'HOLD' AND hold_expires_at > timezone('UTC', clock_timestamp())) GROUP BY 1
		SQL
		$n{$_->[0]} = $_->[1];
		$n{AVAILABLE} -= $_->[1];
	}
	my $c = FastCGI->connect($stage->{listen}, try => 1);
	my $metrics = $c ? $c->request(path => '/metrics')->answer(1)->{body} // '' : '';
	my $viewers = 0;
	$viewers += $_ for $metrics =~ /^seatcast_viewers(?:\{[^}]*\})? (\d+)/mg;
	printf "%s  block %d: %3d free, %3d on hold, %3d sold | just now: %d held, %d bought, %d given back, %d expired, %d too late | %d watching\n",
	    strftime('%H:%M:%S', localtime), STAR, @n{qw(AVAILABLE HOLD OCCUPIED)},
	    (map { $count{$_} // 0 } qw(held OCCUPIED AVAILABLE expired beaten)), $viewers;
	%count = ();
	return \%n;
}

look();
phase('rush', 'The sale opens: a rush.');
my $last = 0;
while (!$o{for} || time - $begin < $o{for}) {
	$now = (time - $begin) * $o{speed};
	die "seatcast has ended:\n" . $stage->log_text('seatcast') if $stage->ended('seatcast');
	die "PostgreSQL has ended:\n" . $stage->log_text('postgresql') if $stage->ended('postgresql');
	die "lighttpd has ended:\n" . $stage->log_text('error') if $stage->ended('lighttpd');

	my $age = $now - $phase_from;
	if ($phase ne 'refund') {
		my $wanted = $o{buyers} * ($phase eq 'rush' ? 1 : 0.35 + 0.25 * sin($age / 7));
		my $rate = $phase eq 'rush' ? $o{buyers} / 8 : $o{buyers} / 20;	# arrivals a second
		my $come = ($now - $last) * $rate;
		$come = int($come) + (rand() < $come - int $come);
		arrive() for 1 .. (@buyers < $wanted ? $come : 0);
	}
	$last = $now;
	my @due = grep { $_->{at} <= $now } @buyers;
	@buyers = grep { $_->{at} > $now } @buyers;
	decide($_) for @due;

	if ($now >= $next_look) {		# others may buy through the page
		look();
		$next_look = $now + 5;
	}
	if (time >= $next_line) {
		my $n = line();
		$next_line = time + 3;
		phase('calm', 'The rush is over; people still come.') if $phase eq 'rush' && $age > 20;
		phase('refund', 'Nearly sold out.  The match is moved: everything is refunded, row by row.')
		    if $phase eq 'calm' && $n->{OCCUPIED} >= 0.9 * @{$seats{+STAR}};
	}
	if ($phase eq 'refund') {
		my ($row, $n) = (int $age * 2, 20);
		my @seats = grep { defined } @{$seats{+STAR}}[$row * $n .. $row * $n + $n - 1];
		refund(@seats) if @seats;
		if (!@seats) {
			look();
			phase('rush', 'The sale opens again.');
		}
	}
	sleep 0.1;
}
