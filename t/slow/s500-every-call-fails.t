#!/usr/bin/env perl
# Each allocation and each system call of master, workers and loops fails, once, for a while, and from then on, while a small day is
# played (lib/Day.pm): nothing crashes, hangs, spins, leaks a descriptor or shows a wrong seat, and no EventSource is ended for good.
#	perl t/slow/s500-every-call-fails.t [--sample N] [--modes once,while,on] [PATTERN ...]
# --sample 20: each twentieth site; PATTERN: only sites whose name has it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Day; use Getopt::Long; use JSON::PP (); use POSIX ();
use Time::HiRes qw(time);

GetOptions('sample=i' => \(my $sample = 1), 'modes=s' => \(my $wanted = 'once,while,on'), 'jobs=i' => \(my $jobs = 2)) or die "options?\n";
my $build = $ENV{top_builddir} // "$FindBin::Bin/../../build";
my $so = Cwd::abs_path("$build/t/fail/fail.so");
my $program = $ENV{SEATCAST} // "$build/src/seatcast";
plan skip_all => "$build/t/fail/fail.so: not built (make check builds it)" if !$so || !-e $so;
plan skip_all => 'sanitizers have an allocator of their own' if Stage::slurp($program) =~ /__asan_init/;

my %MODES = (once => [Day::ONCE, 'once'], while => [Day::FOR_A_WHILE, 'for a while'], on => [Day::FROM_THEN_ON, 'from then on']);
my @HOURS = qw(start morning sale noon afternoon evening night);

# What is left, and why: a failure that is none of ours.
my @KNOWN = (
	[qr/in libfcgi/, qr/ended by signal 6|EventSource ends for good with status 500/, 'libfcgi aborts without memory; the worker looks whether there is some before it calls it (request.c)'],
	[qr/^start: .* conninfo_prepare /, qr/signal/, 'glibc aborts while it reads nsswitch.conf; before anything is served'],
	[qr/^master: epoll_ctl in libev.* < master_main/, qr/signal 6|all of it ended/, 'libev asserts that the kernel takes its own pipe; before anything is served'],
	[qr/^master: epoll_ctl in libev/, qr/did not end when told to|ended by signal 9/, 'libev hears of a signal that came in that moment with the next one only'],
	[qr/^worker: recv in recv .* (?:admit|worker_main) /, qr/ends for good with status 500/, 'a request that was seen (MSG_PEEK) and then is refused to be read is dropped (acceptor.c)'],
	[qr/: eventfd in libev/, qr/pipe open, not/, 'libev takes a pipe instead'],
);

# Where it is: "worker: malloc in libfcgi.so.0 < read_request request.c:91 < request_new request.c:120".
my %where;
sub name {
	my ($text) = @_;
	my ($kind, $function, @frames) = split ' ', $text;
	my @names;
	for (@frames) {
		my ($module, $at) = /^(.*)\+([0-9a-f]+)$/ or next;
		push @names, $where{$_} //= $module ne 'seatcast' ? $module : do {
			my ($in, $line) = split /\n/, `addr2line -s -f -e '$program' 0x$at`;
			($in // '?') . ' ' . (($line // '?') =~ s/ \(disc.*//r);
		};
	}
	return "$kind: $function in " . join ' < ', @names;
}

sub world {
	return Scenario->new(seats => 3, start => 0, poll_interval => '100ms', linger => '100ms', drain_timeout => '200ms', pg => { log_statement => 'none' });
}

# What came of it, in a few words.
sub came {
	my ($r) = @_;
	my @said = (@{$r->{lines}}, @{$r->{raw}});
	my @came = (@{$r->{ended}}, @said > 2 ? (@said[0, 1], (@said - 2) . ' more lines') : @said);
	push @came, "answered " . join ', ', map { "$_ ($r->{answers}{$_} times)" } sort keys %{$r->{answers}} if %{$r->{answers}};
	push @came, "told busy $r->{busy} times" if $r->{busy};
	push @came, 'viewers came back ' . ($r->{returns} - $r->{drained}) . ' times' if $r->{returns} > $r->{drained};
	return @came ? join '; ', @came : $r->{failed} ? 'nobody noticed' : 'it was not called';
}

# ---- the sites: three days without failures ----

sub count_sites {
	my $s = world();
	my $day = Day->new($s, $so);
	my (%calls, %text, %clean);
	for (1 .. 3) {
		my $r = $day->play;
		die join "\n", 'a day without failures is not clean:', @{$r->{faults}}, @{$r->{ended}}, '' if @{$r->{faults}} || @{$r->{ended}};
		for my $site (@{$r->{sites}}) { $text{$site->{key}} = $site->{text}; $calls{$site->{key}}{$_}++ for keys %{$site->{calls}} }
		$clean{cpu} = $r->{cpu} if $r->{cpu} > ($clean{cpu} // 0);
		for my $k (keys %{$r->{fds}}) {
			for (keys %{$r->{fds}{$k}}) { $clean{fds}{$k}{$_} = $r->{fds}{$k}{$_} if $r->{fds}{$k}{$_} > ($clean{fds}{$k}{$_} // 0) }
		}
	}
	$s->{stage}->strike;
	return ([map { { key => $_, text => $text{$_}, calls => $calls{$_} } } sort { $text{$a} cmp $text{$b} } grep { $text{$_} !~ /^check / } keys %text], \%clean);
}

# ---- the days ----

# A process that plays each $jobs-th day, in a world of its own, and writes what came of it, one line of JSON each.
sub player {
	my ($n, $days, $clean) = @_;
	pipe my $from, my $to or die "pipe: $!";
	my $pid = fork // die "fork: $!";
	return ($from, $pid) if $pid;
	close $from;
	$to->autoflush(1);
	my $s = world();
	my $day = Day->new($s, $so);
	for my $i (grep { $_ % $jobs == $n } 0 .. $#$days) {
		my $d = $days->[$i];
		my $r = eval { $day->play(target => $d->{site}{key}, mode => $d->{mode}, hour => $d->{hour}, clean => $clean) };
		$r //= { faults => ["the day is not over: $@"], ended => [], lines => [], raw => [], answers => {}, busy => 0, returns => 0, failed => 0 };
		$r->{drained} = 3;
		print $to JSON::PP->new->canonical->encode({ day => $i, faults => $r->{faults}, came => came($r), failed => $r->{failed}, error => $r->{error} }), "\n";
	}
	$s->{stage}->strike;
	close $to;
	POSIX::_exit(0);
}

my ($sites, $clean) = count_sites();
my %kinds;
$kinds{(split ' ', $_->{text})[0]}++ for @$sites;
note(scalar(@$sites), ' sites: ', join ', ', map { "$kinds{$_} $_" } sort keys %kinds);
my @days;
for my $site (@$sites) {
	$site->{name} = name($site->{text});
	next if @ARGV && !grep { $site->{name} =~ /$_/ } @ARGV;
	for my $mode (split /,/, $wanted) {
		my ($how, $says) = @{$MODES{$mode} // die "no mode '$mode'\n"};
		my @hours = grep { ($site->{calls}{$_} // 0) >= 2 } @HOURS;		# in two days of the three: surely
		@hours = (grep({ $_ ne 'start' } @hours), @hours)[0] // () if $how != Day::ONCE;
		push @days, map { { site => $site, mode => $how, hour => $_, says => "$says, from the $_" =~ s/once, from/once, in/r } } @hours;
	}
}
@days = @days[grep { $_ % $sample == 0 } 0 .. $#days] if $sample > 1;
note(scalar(@days), ' days');

my $began = time;
my @players = map { [player($_, \@days, $clean)] } 0 .. $jobs - 1;
my (%came, %buffer, @left);
while (my @open = grep { $_->[0] } @players) {
	my $bits = '';
	vec($bits, fileno $_->[0], 1) = 1 for @open;
	select($bits, undef, undef, 60) or next;
	for my $p (grep { vec($bits, fileno $_->[0], 1) } @open) {
		if (!sysread $p->[0], $buffer{$p->[1]}, 65536, length($buffer{$p->[1]} // '')) { close $p->[0]; $p->[0] = undef; next }
		while ($buffer{$p->[1]} =~ s/\A([^\n]*)\n//) {
			my $r = JSON::PP::decode_json($1);
			my $d = $days[$r->{day}];
			my $says = "$d->{site}{name}, $d->{says}";
			$came{!$r->{failed} ? 'not called' : @{$r->{faults}} ? 'at fault' : $r->{came} eq 'nobody noticed' ? 'nobody noticed' : 'seen, and got over'}++;
			my ($known) = @{$r->{faults}} ? grep { my ($where, $what) = @$_; $d->{site}{name} =~ $where && !grep { $_ !~ $what } @{$r->{faults}} } @KNOWN : ();
			local $! = $r->{error} // 0;
			my $what = "$!" . ($r->{failed} > 1 ? " ($r->{failed} times)" : '');
			ok(!@{$r->{faults}} || $known, "$says: $what: $r->{came}");
			diag(map { "  $_\n" } @{$r->{faults}}) if @{$r->{faults}} && !$known;
			note("  known: $known->[2]: ", join '; ', @{$r->{faults}}) if $known;
		}
	}
}
waitpid $_->[1], 0 for @players;
note(sprintf '%d days in %.0f s: %s', scalar @days, time - $began, join ', ', map { "$came{$_} $_" } sort keys %came);
done_testing;
