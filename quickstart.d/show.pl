#!/usr/bin/env perl
# A ticket sale to watch: private PostgreSQL, seatcast and lighttpd, and simulated buyers who write to the
# database as a shop would, with SQL.  Started by ../quickstart; ends with Ctrl-C and leaves nothing behind.
#
# Its options, and their bounds, are ../quickstart's.
#
# A sale has acts: a rush, waves, the last seats of the block that everybody wants, sold out; then the match is moved,
# all is refunded, and it begins again.  A buyer sees a plan of seats, takes a second or three to click, and may be too
# late by then: so the last seats are fought for.

# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use POSIX qw(strftime);
use Time::HiRes qw(time sleep);
use Stage;

use constant { MATCH => 1, STAR => 101 };	# the block everybody wants; the page shows it first
use constant HOLD_SECONDS => 30;		# short, so that holds can be seen to expire

my %o = (buyers => 80, speed => 1, for => 0, bind => '127.0.0.1');
GetOptions(\%o, 'buyers=i', 'speed=f', 'for=f', 'port=i', 'bind=s') && !@ARGV or die "quickstart --help says how\n";
$| = 1;

$SIG{__DIE__} = sub { die @_ if $^S; print STDERR 'quickstart: ', @_; exit 1 };

my $stage = Stage->new;
$SIG{PIPE} = sub { $SIG{PIPE} = 'IGNORE'; exit 141 };	# quickstart | head: END cleans up then too
if ($o{port}) {
	IO::Socket::INET->new(LocalAddr => $o{bind}, LocalPort => $o{port}, Listen => 1, ReuseAddr => 1)
	    or die "cannot listen on $o{bind}, port $o{port}: $!\n";
}
say 'Starting a private PostgreSQL, with a stadium of 40,000 seats ...';
$stage->pg_start->pg_install(demo => 1);
say 'Starting seatcast and lighttpd ...';
$stage->start_seatcast(workers => 2)->start_lighttpd(bind => $o{bind}, $o{port} ? (port => $o{port}) : ());

# What to type elsewhere: the address as it is seen from there, or a tunnel to this machine.
my ($here, $there) = ("127.0.0.1:$stage->{port}", '');
if ($o{bind} ne '127.0.0.1') {
	my $name = $o{bind} eq '0.0.0.0' ? (split ' ', `hostname -I 2>/dev/null`)[0] // '127.0.0.1' : $o{bind};
	$here = "$name:$stage->{port}";
	$there = "\n\t(Everybody who reaches this machine can see it: --bind $o{bind}.)\n";
} elsif (my (undef, undef, $address) = split ' ', $ENV{SSH_CONNECTION} // '') {
	$there = sprintf "\n\tYou are here by ssh.  On your own machine, first:\n\n\t  ssh -N -L %d:127.0.0.1:%d %s@%s\n",
	    ($stage->{port}) x 2, scalar getpwuid($<) // 'user', $address =~ /:/ ? "[$address]" : $address;
}
my $path = sprintf '/api/matches/%d/blocks/%d/seats/status-stream', MATCH, STAR;
my $page = sprintf 'http://%s/?match=%d&block=%d', $here, MATCH, STAR;
print <<~END;
	$there
	  Watch the seats:   $page
	  or the stream:     curl -N http://$here$path
	  or the service:    http://$here/status

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

my (@buyers, %count, %sale);
my $next_user = 1000000;
my ($begin, $now, $last, $act, $act_from) = (time, 0, 0, '', 0);

# How many people want seats at once (of --buyers), how many of them in the star block, how many come a second, and how sure
# those who hold a seat are to buy it.
my %acts = (
	rush => { crowd => 1, star => 0.7, rate => 0.15, sure => 0.55, says => 'The sale opens: a rush.' },
	waves => { crowd => 0.5, star => 0.6, rate => 0.1, sure => 0.6, says => 'The rush is over; people come in waves.' },
	last => { crowd => 1, star => 0.95, rate => 0.3, sure => 0.9 },
	'sold out' => { crowd => 0.3, star => 0.05, rate => 0.05, sure => 0.5 },
	refund => { crowd => 0, star => 0, rate => 0, sure => 0, says => 'The match is moved to another day: everything is refunded, row by row.' },
);

sub begin {
	my ($name, $says) = @_;
	($act, $act_from) = ($name, $now);
	%sale = (from => $now, late => 0) if $name eq 'rush';
	printf "%s  %s\n", strftime('%H:%M:%S', localtime), $says // $acts{$name}{says};
	return;
}

# A buyer comes and sees the plan; the click follows a moment later.
sub arrive {
	my $block = rand() < $acts{$act}{star} ? STAR : $blocks[int(@blocks * rand() ** 2)];
	my @seats = choose($block) or return;
	push @buyers, { user => $next_user++, block => $block, seats => \@seats, does => 'click', tries => 3, at => $now + 1 + 2 * rand };
	return;
}

# Whoever gets none of the seats looks again, twice.
sub click {
	my ($b) = @_;
	my @got = hold($b->{user}, @{$b->{seats}});
	delete $open{$b->{block}}{$_} for @{$b->{seats}};
	my $late = @{$b->{seats}} - @got;
	$count{late} += $late;
	$sale{late} += $late;
	if (!@got) {
		my @seats = --$b->{tries} > 0 ? choose($b->{block}) : ();
		push @buyers, { %$b, seats => \@seats, at => $now + 1 + 2 * rand } if @seats;
		return;
	}
	$count{held} += @got;
	my $sure = $acts{$act}{sure};
	my $dice = rand;
	my $does = $dice < $sure ? 'OCCUPIED' : $dice < $sure + (1 - $sure) * 0.6 ? 'AVAILABLE' : 'forgets';
	push @buyers, { %$b, seats => \@got, does => $does, at => $now + ($does eq 'forgets' ? HOLD_SECONDS : 3 + rand() * 18) };
	return;
}

sub act {
	my ($b) = @_;
	return click($b) if $b->{does} eq 'click';
	if ($b->{does} eq 'forgets') {	# nobody writes anything: the hold ends by its time alone
		$count{expired} += @{$b->{seats}};
	} else {
		change($b->{user}, $b->{does}, @{$b->{seats}});
		$count{$b->{does}} += @{$b->{seats}};
	}
	$open{$b->{block}}{$_} = 1 for $b->{does} eq 'OCCUPIED' ? () : @{$b->{seats}};
	return;
}

# How the star block stands.
sub standing {
	my %n = (AVAILABLE => scalar @{$seats{+STAR}}, HOLD => 0, OCCUPIED => 0);
	for ($stage->sql(<<~SQL)) {
		SELECT status, count(*) FROM allocations WHERE match_id = @{[MATCH]} AND block_id = @{[STAR]} AND (status = 'OCCUPIED'
		    OR status = 'HOLD' AND hold_expires_at > timezone('UTC', clock_timestamp())) GROUP BY 1
		SQL
		$n{$_->[0]} = $_->[1];
		$n{AVAILABLE} -= $_->[1];
	}
	return \%n;
}

sub line {
	my ($n) = @_;
	my $c = FastCGI->connect($stage->{listen}, try => 1);
	my $metrics = $c ? $c->request(path => '/metrics')->answer(1)->{body} // '' : '';
	my $viewers = 0;
	$viewers += $_ for $metrics =~ /^seatcast_viewers(?:\{[^}]*\})? (\d+)/mg;
	printf "%s  block %d: %3d free, %3d on hold, %3d sold | just now: %d held, %d bought, %d given back, %d expired, %d too late | %d watching\n",
	    strftime('%H:%M:%S', localtime), STAR, @{$n}{qw(AVAILABLE HOLD OCCUPIED)},
	    (map { $count{$_} // 0 } qw(held OCCUPIED AVAILABLE expired late)), $viewers;
	%count = ();
	return;
}

# Does the next act begin?
sub turn {
	my ($n) = @_;
	my $age = $now - $act_from;
	my $all = @{$seats{+STAR}};
	if ($act =~ /^(?:rush|waves)$/ && $n->{AVAILABLE} <= 0.15 * $all && $n->{OCCUPIED} > 0.5 * $all) {
		begin(last => sprintf 'The last seats of block %d: %d are left, and many want them.', STAR, $n->{AVAILABLE});
	} elsif ($act eq 'rush' && $age > 25) {
		begin('waves');
	} elsif ($act eq 'last' && $n->{OCCUPIED} == $all) {
		begin('sold out' => sprintf 'Block %d is sold out after %d s; %d times somebody was too late for a seat.', STAR,
		    ($now - $sale{from}) / $o{speed}, $sale{late});
	} elsif ($act eq 'sold out' && $age > 15 || $act eq 'last' && $age > 150) {
		begin('refund');
	}
	return;
}

sub refund_rows {
	my ($all, $n) = ($seats{+STAR}, 20);
	my $from = $n * int(2 * ($now - $act_from));
	return refund(@$all[$from .. ($from + $n > @$all ? @$all : $from + $n) - 1]) if $from < @$all;
	$stage->sql("UPDATE allocations SET status = 'AVAILABLE', user_id = NULL, hold_expires_at = NULL WHERE match_id = @{[MATCH]} AND status <> 'AVAILABLE'");
	@buyers = ();
	look();
	return begin('rush', 'The sale opens again.');
}

look();
begin('rush');
my ($next_line, $next_look) = (0, 0);
while (!$o{for} || time - $begin < $o{for}) {
	$now = (time - $begin) * $o{speed};
	die "seatcast has ended:\n" . $stage->log_text('seatcast') if $stage->ended('seatcast');
	die "PostgreSQL has ended:\n" . $stage->log_text('postgresql') if $stage->ended('postgresql');
	die "lighttpd has ended:\n" . $stage->log_text('error') if $stage->ended('lighttpd');

	my $a = $acts{$act};
	my $wave = $act eq 'waves' ? 1 + 0.9 * sin(($now - $act_from) / 5) : 1;
	my $come = ($now - $last) * $o{buyers} * $a->{rate} * $wave;
	$come = int($come) + (rand() < $come - int $come);
	arrive() for 1 .. (@buyers < $o{buyers} * $a->{crowd} * $wave ? $come : 0);
	$last = $now;
	my @due = grep { $_->{at} <= $now } @buyers;
	@buyers = grep { $_->{at} > $now } @buyers;
	act($_) for @due;

	if ($now >= $next_look) {		# others may buy through the page
		look();
		$next_look = $now + 5;
	}
	if (time >= $next_line) {
		my $n = standing();
		line($n);
		turn($n);
		$next_line = time + 3;
	}
	refund_rows() if $act eq 'refund';
	sleep 0.1;
}
