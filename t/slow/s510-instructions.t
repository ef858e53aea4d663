#!/usr/bin/env perl
# What a poll and a stream's arrival cost, in instructions (callgrind): within 5 % of instructions.txt, on any machine, however busy it is.
# The kernel's part is not in them: bench/table.pl measures all of it.
#
#	perl t/slow/s510-instructions.t			compares: half a minute
#	perl t/slow/s510-instructions.t --renew		writes instructions.txt anew: when other costs are meant; the commit says why
#
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Deploy; use File::Temp qw(tempdir); use List::Util qw(sum0);

my $FILE = "$FindBin::Bin/instructions.txt";
my $TOLERANCE = 0.05;
my $CHANCE = 150;	# instructions: how often the master looks for what it may give up depends on the clock
my $VIEWERS = 100;
my $build = Stage->new->{build};
my $renew = grep { $_ eq '--renew' } @ARGV;

# What makes other instructions of the same source.
sub surroundings {
	my $make = Stage::slurp("$build/Makefile");
	my ($cc, $flags) = map { $make =~ /^\Q$_\E = (.*)$/m } qw(CC CFLAGS);
	my ($version, $libc, $libpq, $machine) = map { `$_ 2>/dev/null` =~ /(\d+\.\d+|\d+|x86_64|aarch64)/ ? $1 : '?' }
	    "$cc -dumpversion", 'getconf GNU_LIBC_VERSION', 'pg_config --version | sed "s/[.].*//"', 'uname -m';
	return "$cc $version $flags, glibc $libc, libpq $libpq, $machine";
}

plan skip_all => 'for a build without sanitizers' if $build =~ /sanitizers/;
plan skip_all => 'valgrind is not installed' if !have('valgrind') || !have('vgdb');
my $here = surroundings();
my ($there) = $renew ? $here : Stage::slurp($FILE) =~ /^surroundings: (.*)$/m;
plan skip_all => "instructions.txt is of other surroundings: $there; here: $here" if $here ne $there;

# ---- reading callgrind ----

my $dir = tempdir('seatcast-XXXXXX', DIR => '/tmp', CLEANUP => 1);
$ENV{SEATCAST_WRAP} = "valgrind -q --tool=callgrind --trace-children=yes --callgrind-out-file=$dir/%p";
$ENV{SEATCAST_UNCONFINED} = 1;		# valgrind makes system calls of its own
$ENV{SEATCAST_PATIENCE} = 5 * ($ENV{SEATCAST_PATIENCE} // 1);
my $s = Scenario->new(seats => 400, lighttpd => 0, workers => 1, poll_interval => '100ms', heartbeat => '60m', reconcile_interval => '60m',
	pg => { log_statement => 'none' });

sub processes { return ($s->pid('seatcast'), $s->members('seatcast')) }
sub control { my ($what) = @_; system "vgdb --pid=$_ $what >/dev/null 2>&1" for processes(); return }

# What each process has done since the last control('zero'): { 'file.c:function' => [times it was called, instructions in it and below] }.
sub profiles {
	my %old = map { $_ => 1 } glob "$dir/*";
	my (@of, @new) = processes();
	control('dump');
	$s->wait_for(sub { (@new = grep { !$old{$_} && Stage::slurp($_) =~ /^totals: /m } glob "$dir/*") == @of }, 20)
	    or die "callgrind does not say what it has counted\n";
	return map { profile($_) } @new;
}

# Each call in the file says what was spent in the callee; a process says the name of file and function once, and then their numbers.
my (%path, %name);
sub profile {
	my ($file) = @_;
	my ($pid) = $file =~ m{([0-9]+)[.][0-9]+$};
	my (%f, $calls, $of);
	my ($in, $from, $callee) = ('', undef, '');
	for (split /\n/, Stage::slurp($file)) {
		if (/^(c?)f[ile]=\((\d+)\)(?: (?:.*\/)?(.*))?/) {
			my $path = $path{$pid}{$2} //= $3;
			$1 ? ($from = $path) : ($in = $path);
		} elsif (/^c?fn=\((\d+)\)(?: ([^'.]*))?/) {
			$callee = $name{$pid}{$1} //= $2;
		} elsif (/^calls=(\d+)/) {
			$of = ($from // $in) . ":$callee";
			$calls = $1;
			undef $from;
		} elsif (defined $calls && /^\S+ (\d+)$/) {
			my $e = $f{$of} //= [0, 0];
			$e->[0] += $calls;
			$e->[1] += $1;
			undef $calls;
		}
	}
	return \%f;
}

sub how_often { my ($f, $name) = @_; return $f->{$name} ? $f->{$name}[0] : 0 }
sub spent { my ($f, @names) = @_; return sum0 map { $f->{$_} ? $f->{$_}[1] : 0 } @names }
sub who_does { my ($name, @f) = @_; my ($most) = sort { how_often($b, $name) <=> how_often($a, $name) } @f; return $most }

# ---- measuring ----

my %count;
my @POLL = ('poller.c:on_due', 'db.c:on_io');
$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'AVAILABLE' FROM seats ON CONFLICT DO NOTHING");
my @viewers = map { $s->client("viewer $_")->watch(1, 101) } 1 .. 2;
$_->expect_event('init', within => 10) for @viewers;
$s->pass_time(1);

control('zero');
$s->pass_time(3);
my $loop = who_does('port.c:port_mark', profiles());
my $polls = how_often($loop, 'port.c:port_mark');
cmp_ok($polls, '>=', 5, "$polls polls without news") or BAIL_OUT('nothing to count');
$count{'a poll without news'} = spent($loop, @POLL) / $polls;

control('zero');
push @viewers, map { $s->client("viewer $_")->watch(1, 101) } 3 .. $VIEWERS;
$_->expect_event('init', within => 10) for @viewers[2 .. $#viewers];
my @f = profiles();
for (['worker', 'request.c:request_new', 'acceptor.c:read_on'], ['master', 'group.c:group_handover', 'group.c:group_handover', 'master.c:on_transfer_look'],
    ['loop', 'fanout.c:fanout_attach', 'fanout.c:fanout_attach']) {
	my ($who, $each, @in) = @$_;
	my $f = who_does($each, @f);
	is(how_often($f, $each), $VIEWERS - 2, "the $who had each of those who came");
	$count{"an arrival, $who"} = spent($f, @in) / $VIEWERS;
}

my @seats = map { $_->[0] } $s->sql('SELECT id FROM seats WHERE block_id = 101 ORDER BY id LIMIT 15');
control('zero');
for my $seat (@seats) {
	$s->sql("UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = $seat");
	$s->wait_for(sub { !grep { ($_->{seats}{$seat} // '') ne 'OCCUPIED' } @viewers }, 10) or die "seat $seat: not told\n";
}
$loop = who_does('port.c:port_mark', profiles());
my ($all, $news) = (how_often($loop, 'port.c:port_mark'), how_often($loop, 'fanout.c:fanout_publish'));
is($news, 15, 'each change had its poll');
$count{"a poll with one change, $VIEWERS viewers"} = (spent($loop, @POLL) - ($all - $news) * $count{'a poll without news'}) / ($news || 1);

# ---- comparing ----

if ($renew) {
	open my $out, '>', $FILE or die "$FILE: $!\n";
	print $out "# Instructions of the program and its libraries, without the kernel. s510-instructions.t compares, and with --renew writes this.\n",
	    "# SPDX-License-Identifier: " . "ISC\nsurroundings: $here\n", map { sprintf "%s: %d\n", $_, $count{$_} } sort keys %count;
	close $out or die "$FILE: $!\n";
}
my %said = Stage::slurp($FILE) =~ /^(an? [^:]+): (\d+)$/mg;
for (sort keys %count) {
	my $off = $said{$_} ? $count{$_} / $said{$_} - 1 : 9;
	cmp_ok(abs($count{$_} - ($said{$_} // 0)), '<=', $CHANCE + $TOLERANCE * ($said{$_} // 0), sprintf '%s: %d instructions, %+.1f %%', $_, $count{$_}, 100 * $off);
}
diag('meant? perl t/slow/s510-instructions.t --renew, and say in the commit why') if grep { !$_ } Test::More->builder->summary;
$s->done;
