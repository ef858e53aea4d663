# SPDX-License-Identifier: ISC
package Day;

# A small day of a seatcast whose calls fail as t/fail/fail.c is told: three EventSources watch two blocks and their
# match, seats are held, confirmed, released and sold by somebody else, one viewer leaves and comes back, everything
# else is asked once, and in the end all is drained.
#
#	my $day = Day->new($scenario, "$build/t/fail/fail.so");
#	my $r = $day->play(target => $key, mode => Day::ONCE, hour => 'morning');
#
# play returns what was wrong {faults}, what was to be seen of it, and what a day without failures is compared by:
# {fds} of each kind of process, {cpu}, {sites} with how often each was called in each hour.  Knows nothing of TAP.

use v5.32;
use warnings;
use JSON::PP qw(decode_json encode_json);
use Time::HiRes qw(time);
use Stage;

use constant { COUNT => 0, ONCE => 1, FOR_A_WHILE => 2, FROM_THEN_ON => 3 };
use constant { HEADER => 64, SITE => 232, SITES => 4096 };	# struct state, struct site

my $WHILE_MS = 600;
my $SLOW = $ENV{SEATCAST_PATIENCE} // 1;
my $EVENT = qr/(?:retry: \d+\n)?(?:event: (?:init|update|count|beat|stale|fresh|busy)\ndata: \{[^\n]*\}\n(?:id: [0-9a-f]+-\d+\n)?)?\n/;

sub new {
	my ($class, $s, $so) = @_;
	my $self = bless { s => $s, so => $so, state => $s->dir . '/fail.state', viewers => [] }, $class;
	$s->{stage}{tick} = sub { $s->serve(0.01); $self->look($_) for @{$self->{viewers}} };
	return $self;
}

# ---- orders and counts: the file that all processes share ----

sub give_order {
	my ($self, %o) = @_;
	open my $f, '>:raw', $self->{state} or die "$self->{state}: $!";
	truncate $f, HEADER + SITES * SITE;
	print $f pack 'Q L3', $o{target} // 0, $o{mode} // COUNT, $WHILE_MS, 0;
	close $f;
	return;
}

# The next part of the day; in its hour the failure may begin.
sub begin {
	my ($self, $hour) = @_;
	$self->note_calls;
	$self->{now} = $hour;
	return if $hour ne ($self->{hour} // '');
	open my $f, '+<:raw', $self->{state} or die "$self->{state}: $!";
	sysseek $f, 16, 0;
	syswrite $f, pack 'L', 1;
	return;
}

sub note_calls {
	my ($self) = @_;
	return if defined $self->{hour};
	for (@{($self->read_state)[2]}) {
		$self->{text}{$_->{key}} = $_->{text};
		my $before = 0;
		$before += $_ for values %{$self->{calls}{$_->{key}}};
		$self->{calls}{$_->{key}}{$self->{now}} += $_->{count} - $before if $_->{count} > $before;
	}
	return;
}

sub read_state {
	my ($self) = @_;
	my $bytes = Stage::slurp($self->{state});
	my ($failed, $error) = unpack 'x32 L L', $bytes;
	my @sites;
	for my $i (0 .. SITES - 1) {
		my ($key, $count, $written, $text) = unpack 'Q L L Z*', substr $bytes, HEADER + $i * SITE, SITE;
		push @sites, { key => $key, count => $count, text => $text } if $written;
	}
	return ($failed, $error, \@sites);
}

# ---- viewers: what an EventSource does, but sooner ----

sub watch {
	my ($self, $name, $block, $path) = @_;
	my $v = { name => $name, block => $block, path => $path, client => $self->{s}->client($name), back_at => 0, returns => 0, busy => 0, inits => 0 };
	push @{$self->{viewers}}, $v;
	$v->{client}->get($path);
	return $v;
}

# Its answer has ended: was it one after which an EventSource comes back?
sub look {
	my ($self, $v) = @_;
	my $c = $v->{client};
	if ($v->{back_at}) {
		return if time < $v->{back_at} || $v->{gone};
		$v->{back_at} = 0;
		$c->reconnect;
		return;
	}
	$self->{dusk} ||= $self->over;
	$v->{inits} = 1 if !$v->{inits} && $c->events('init');
	return if !$c->{closed} || $v->{gone};
	$self->judge_stream($v);
	$v->{returns}++;
	$v->{busy}++ if $c->events('busy');
	my $type = $c->{headers}{'content-type'} // '';
	if (!$self->{dusk} && defined $c->{status} && ($c->{status} != 200 || $type !~ m{^text/event-stream})) {
		push @{$self->{dead}}, "$v->{name}: an EventSource ends for good with status $c->{status}: " . substr($c->{body} // '', 0, 80) =~ s/\s+/ /gr;
	}
	$v->{gone} = $self->{dusk};	# nobody would be found
	$v->{back_at} = time + 0.1;
	return;
}

sub judge_stream {
	my ($self, $v) = @_;
	my $c = $v->{client};
	return if ($c->{status} // 0) != 200;
	(my $rest = $c->{body}) =~ s/\A$EVENT+//;
	push @{$self->{faults}}, "$v->{name}: malformed: '" . substr($rest, 0, 100) =~ s/\n/\\n/gr . "'"
	    if length $rest && ($c->{closed} // '') ne 'cut';
	push @{$self->{faults}}, "$v->{name}: no JSON: $_->{data}" for grep { !defined $_->{json} } $c->events;
	return;
}

# ---- requests ----

# Asked again, as a page does, until the answer is one of the good ones: what came before is to be a polite refusal.  Who was
# not told that it is done already, asks for what is over: 409.
sub ask {
	my ($self, $method, $path, $body, @good) = @_;
	my $end = time + $self->{patience};
	my (%seen, $status);
	while (1) {
		my $r = $self->{s}->http($method => $path, {}, $body, $end - time > 0.5 ? $end - time : 0.5);
		$status = $r->{status} // 'none';
		last if grep { $_ eq $status } @good, $status eq '409' && %seen ? 409 : ();
		$seen{$status}++;
		push @{$self->{faults}}, "$path: a 503 that is no envelope: '$r->{body}'"
		    if $status eq '503' && !$self->over && $path ne '/readyz' && (ref $r->{json} ne 'HASH' || ($r->{json}{status} // 0) != 503);
		last if time > $end || $self->over;
		$self->{s}->pass_time(0.1);
	}
	$self->{answers}{$_} += $seen{$_} for keys %seen;
	push @{$self->{late}}, "$method $path: never answered as it is to be: $status" if !grep { $_ eq $status } @good, %seen ? 409 : ();
	return;
}

sub over { my ($self) = @_; return $self->{s}{stage}->ended('seatcast') }

# A condition that comes true, however often somebody has to come back.
sub await {
	my ($self, $says, $cond) = @_;
	return if $self->{s}->wait_for(sub { $self->over || $cond->() }, $self->{patience}) && !$self->over;
	push @{$self->{late}}, "not in $self->{patience} s: $says" if !$self->over;
	return;
}

sub shown { my ($v, $seats) = @_; return join ' ', map { "$_=" . ($v->{client}{seats}{$_} // '?') } sort { $a <=> $b } keys %$seats }

# All of them show what the database has.
sub await_same {
	my ($self, $says) = @_;
	my %in = map { @$_ } $self->{s}->sql("SELECT s.id, CASE WHEN a.status IS NULL OR a.status = 'HOLD' AND a.hold_expires_at < now() THEN 'AVAILABLE'
		ELSE a.status END FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id AND a.match_id = 1");
	my %of = (101 => { map { $_ => $in{$_} } grep { $_ < 1000 } keys %in }, 102 => { map { $_ => $in{$_} } grep { $_ > 1000 } keys %in });
	for my $v (grep { !$_->{gone} } @{$self->{viewers}}) {
		my $seats = $of{$v->{block}};
		my $right = join ' ', map { "$_=$seats->{$_}" } sort { $a <=> $b } keys %$seats;
		$self->await("$says: $v->{name} shows $right", sub { shown($v, $seats) eq $right });
	}
	return;
}

# ---- processes ----

# A text without what is another each day.
sub tame { my ($self, $text) = @_; my $dir = $self->{s}->dir; return $text =~ s/\Q$dir\E\///gr =~ s/pid \d+/pid/gr }

# What each kind of process has open at most, by what it is.
sub fds {
	my ($self) = @_;
	my %most;
	for my $kind (qw(master worker loop)) {
		for my $pid ($self->{s}->pids($kind)) {
			my %n;
			for (glob "/proc/$pid/fd/*") { my $what = $self->tame(readlink // next); $n{$what =~ s/:\[\d+\]//r}++ }
			$most{$kind}{$_} = $n{$_} > ($most{$kind}{$_} // 0) ? $n{$_} : $most{$kind}{$_} for keys %n;
		}
	}
	return \%most;
}

sub leaks {
	my ($self, $clean) = @_;
	my $now = $self->fds;
	return map { my $k = $_; map { $now->{$k}{$_} > ($clean->{$k}{$_} // 0) ? "$k has $now->{$k}{$_} $_ open, not " . ($clean->{$k}{$_} // 0) : () }
		sort keys %{$now->{$k}} } sort keys %$now;
}

sub cpu {
	my ($self) = @_;
	my $ticks = 0;
	for my $pid ($self->{s}{stage}->members('seatcast'), $self->{s}->pid('seatcast') // ()) {
		my @f = split / /, Stage::slurp("/proc/$pid/stat") =~ s/.*\) //sr;
		$ticks += ($f[11] // 0) + ($f[12] // 0);
	}
	return $ticks / 100;
}

# ---- the day ----

sub morning {
	my ($self) = @_;
	my ($s, $b) = ($self->{s}, '/api/matches/1/blocks');
	$self->begin('morning');
	$self->watch(A => 101, "$b/101/seats/status-stream");
	$self->watch(B => 102, "$b/102/seats/status-stream");
	$self->watch(M => 101, '/api/matches/1/status-stream?blocks=101');
	$self->await("$_->{name} has an init", do { my $v = $_; sub { $v->{inits} } }) for @{$self->{viewers}};
	$self->begin('sale');
	my $seats = '/api/matches/1/allocation/seats';
	$self->ask(POST => "$seats/101/hold", { userId => 7 }, 200);
	$self->ask(POST => "$seats/hold", { userId => 7, seatIds => [102, 103] }, 200);
	$self->ask(POST => "$seats/confirm", { userId => 7, seatIds => [102, 103] }, 200);
	$self->ask(POST => "$seats/101/release", { userId => 7 }, 204);
	$self->await_same('held and sold');
	return;
}

sub noon {
	my ($self) = @_;
	my ($s, $b) = ($self->{s}, '/api/matches/1/blocks');
	my ($v) = grep { $_->{name} eq 'B' } @{$self->{viewers}};
	$self->begin('noon');
	$v->{gone} = $v->{back_at} = 1;
	$self->judge_stream($v);
	$v->{client}->close;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 1000001, 'OCCUPIED')");
	$self->ask(GET => $_, undef, 200) for "$b/101/seats", "$b/101/seats/changes?since=", $b, '/api/matches', '/api/site/stadium', '/api/site/areas',
	    '/api/site/blocks/101/seats', '/healthz', '/readyz', '/metrics', '/status';
	$self->ask(GET => "$b/999/seats", undef, 404);
	$self->ask(POST => "$b/101/seats/changed", '', 204);
	$self->{s}->wait_for(sub { $self->over || !$s->pids('loop 1/102') }, 0.6);	# it may have left
	$self->begin('afternoon');
	$v->{gone} = 0;
	$v->{back_at} = time;
	$self->await_same('back again');
	return;
}

sub evening {
	my ($self) = @_;
	$self->begin('evening');
	$self->{s}->sql("UPDATE allocations SET status = 'AVAILABLE' WHERE seat_id = 103; INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 1000002, 'OCCUPIED')");
	$self->await_same('changed by others');
	return;
}

# Seatcast is told to end, and everybody is told that it does.
sub night {
	my ($self) = @_;
	my $stage = $self->{s}{stage};
	my $early = $self->over;
	$self->begin('night');
	$self->{dusk} = 1;
	$stage->{failures} = [];
	my $status = $stage->stop('seatcast', 'TERM', 6 * $SLOW);
	$self->{s}->wait_for(sub { !grep { $_->{client}{fh} } @{$self->{viewers}} }, 1) if !$early;
	push @{$self->{faults}}, 'hangs: did not end when told to' if @{$stage->{failures}};
	push @{$self->{ended}}, ($early ? 'ended by itself' : 'ended') . ($status & 127 ? ' by signal ' . ($status & 127) : ' with status ' . ($status >> 8))
	    if $status || $early;
	my $left = '';
	$stage->wait_until(sub { !($left = join ', ', map { "$_->[0] $_->[3]" } grep { $_->[2] == $stage->{last_group} } Stage::processes()) }, 5 * $SLOW);
	push @{$self->{faults}}, "left behind: $left" if $left;
	kill 'KILL', map { $_->[0] } grep { $_->[2] == $stage->{last_group} } Stage::processes() if $left;
	$stage->{failures} = [];
	return;
}

# clean => what play returned of a day without failures.
sub play {
	my ($self, %order) = @_;
	my ($s, $clean) = ($self->{s}, delete $order{clean});
	my $stage = $s->{stage};
	@$self{qw(viewers faults dead late ended answers)} = ([], [], [], [], [], {});
	@$self{qw(dusk now hour calls text)} = (0, 'start', delete $order{hour}, {}, {});
	$self->{patience} = ($order{mode} // 0) == FROM_THEN_ON ? 0.3 : 10 * $SLOW;
	$s->sql('DELETE FROM allocations');
	$self->give_order(%order);
	$self->begin('start');
	my $log_at = length $s->log_text('seatcast');
	my ($cpu, $fds, @leaks, $began) = (0);
	$began = time;
	local $Stage::PATIENCE = ($order{mode} // 0) == FROM_THEN_ON ? 3 * $SLOW : $Stage::PATIENCE;
	my $up = eval { $s->start_seatcast(env => { LD_PRELOAD => $self->{so}, FAIL_STATE => $self->{state} }); 1 };
	if ($up) {
		# lighttpd may have been told of nobody when the day before ended
		$s->wait_for(sub { $self->over || ($s->http(GET => '/healthz', {}, undef, 1)->{status} // 0) == 200 }, 5);
		$self->morning;
		$self->noon if !$self->over;
		$self->evening if !$self->over;
		if ($clean && !$self->over && $order{mode} != FROM_THEN_ON) {
			$s->wait_for(sub { !(@leaks = $self->leaks($clean->{fds})) || $self->over }, 3 * $SLOW);
			@leaks = () if $self->over;
		}
		$fds = $self->fds;
		$cpu = $self->cpu;
	} else {
		push @{$self->{ended}}, $self->over ? 'does not start' : ();
		push @{$self->{faults}}, 'hangs: neither starts nor ends' if !$self->over && $order{mode} != FROM_THEN_ON;	# it tries again
	}
	my $took = time - $began;
	$self->night;
	$self->judge_stream($_) for @{$self->{viewers}};
	for my $v (@{$self->{viewers}}) { $v->{client}->close; delete $v->{client}{s} }
	@{$s->{clients}} = ();
	my @lines = map { $self->tame(s/^\S+ (?:warn |error) //r) } grep { /^\S+ (?:warn |error) (?!check:)/ } split /\n/, substr $s->log_text('seatcast'), $log_at;
	my @raw = grep { !/^\d{4}-\d\d-\d\dT/ } split /\n/, substr $s->log_text('seatcast'), $log_at;
	# from then on, one that can't hear that it is to end is killed in the end
	push @{$self->{faults}}, map { "crashed: $_" } grep { /ended by signal|must: / && !(/signal 9/ && ($order{mode} // 0) == FROM_THEN_ON) } @lines, @raw;
	$self->note_calls;
	my ($failed, $error) = $self->read_state;
	my $sites = [map { { key => $_, text => $self->{text}{$_}, calls => $self->{calls}{$_} } } keys %{$self->{text}}];
	my $spins = $clean ? $cpu - $clean->{cpu} : 0;
	push @{$self->{faults}}, sprintf 'spins: %.1f s of CPU more', $spins if $spins > 0.7 * $SLOW;
	push @{$self->{faults}}, "seatcast " . join ', ', @{$self->{ended}} if grep { /signal/ } @{$self->{ended}};
	my $gone = @{$self->{ended}} > 0;
	my $for_good = ($order{mode} // 0) == FROM_THEN_ON;	# then a process may say that it can't go on, and end
	push @{$self->{faults}}, "all of it ended: @{$self->{ended}}" if $gone && $up && !$for_good;
	push @{$self->{faults}}, map { "descriptors: $_" } @leaks;
	if (($order{mode} // 0) != FROM_THEN_ON && !$gone) {
		push @{$self->{faults}}, @{$self->{late}};
	}
	push @{$self->{faults}}, @{$self->{dead}} if !$for_good || !grep { /ended with status|event loop|accept: no memory/ } @lines;
	my ($busy, $returns) = (0, 0);
	for (@{$self->{viewers}}) { $busy += $_->{busy}; $returns += $_->{returns} }
	return { faults => $self->{faults}, ended => $self->{ended}, lines => \@lines, raw => \@raw, answers => $self->{answers}, busy => $busy,
		returns => $returns, fds => $fds, cpu => $cpu, sites => $sites, failed => $failed, error => $error, took => $took };
}

1;
