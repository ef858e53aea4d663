# SPDX-License-Identifier: ISC
# The tests in t/browser, run by node and told as ours: one case, one line.
package Browser;
use v5.32;
use warnings;
use Exporter 'import';
use FindBin;
use POSIX qw(mkfifo WNOHANG);
use Test::More;
our @EXPORT = qw(browser_needs browser_tests);

my $build = $ENV{top_builddir} // "$FindBin::Bin/../build";
my $playwright = $ENV{SEATCAST_PLAYWRIGHT} // "$build/browser/node_modules/playwright-core";
my %program = (chromium => $ENV{SEATCAST_CHROMIUM} // '/usr/bin/chromium', firefox => $ENV{SEATCAST_FIREFOX} // '/usr/bin/firefox-esr');

# What a file of tests needs besides node and playwright-core: browsers, packages beside playwright-core.  Where something is
# missing the test fails and says so: a page that nobody looked at is not a page that works.
sub browser_needs {
	my @needs = (['node', scalar grep { -x "$_/node" } split /:/, $ENV{PATH}], [$playwright, -d $playwright]);
	for my $what (@_) {
		my $package = $playwright =~ s{[^/]+$}{$what}r;
		push @needs, $program{$what} ? [$program{$what}, -x $program{$what}] : [$package, -d $package];
	}
	my @missing = grep { !ok $_->[1], "$_->[0] is there" } @needs;
	return if !@missing;
	diag 'run ./quickstart check, which installs it';
	done_testing;
	exit 1;
}

# Runs t/browser/FILE against a scenario (undef: it needs none).
sub browser_tests {
	my ($file, $s, %o) = @_;
	my $dir = $s ? $s->dir : File::Temp::tempdir('seatcast-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %env = (SEATCAST_PLAYWRIGHT => $playwright, SEATCAST_CHROMIUM => $program{chromium}, SEATCAST_FIREFOX => $program{firefox},
		SEATCAST_ARTEFACTS => "$build/browser-artefacts", %{$o{env} // {}});
	my %orders = $s ? orders($s, $dir, \%env) : ();
	defined(my $node = fork) or die "fork: $!";
	if (!$node) {
		%ENV = (%ENV, %env);
		open STDOUT, '>', "$dir/node.tap" or die $!;
		my @only = $ENV{SEATCAST_ONLY} ? "--test-name-pattern=$ENV{SEATCAST_ONLY}" : ();	# one case, by hand
		exec 'node', '--test', '--test-reporter=tap', @only, "$FindBin::Bin/browser/$file" or die "node: $!";
	}
	my $ended = wait_for_node($node, $dir, \%orders, $o{within} // 300);
	my $status = $?;
	ok $ended, 'the browser test came to its end';
	open my $tap, '<', "$dir/node.tap" or die $!;
	my ($n, $all) = (0, '');
	while (<$tap>) {
		$all .= $_;
		next if !/^\s*(not ok|ok) \d+ - (.*?)( # SKIP.*)?$/ || $2 =~ /\.test\.js$/;
		$n++;
		ok $1 eq 'ok' && !$3, "browser: $2" . ($3 // '');
	}
	cmp_ok $n, '>=', $o{cases}, 'all cases ran';
	is $status, 0, 'node says so too' or diag $all;
	return;
}

# What the tests may ask for: they write a word to one pipe and wait for the other.
sub orders {
	my ($s, $dir, $env) = @_;
	mkfifo("$dir/$_", 0600) or die "$dir/$_: $!" for qw(order done);
	my %word = (SEATCAST_DB_STOP => 'db-stop', SEATCAST_DB_START => 'db-start', SEATCAST_RESTART => 'seatcast-restart', LIGHTTPD_RESTART => 'lighttpd-restart');
	%$env = (SEATCAST_URL => $s->url(''), SEATCAST_SQL => "psql -X -q -v ON_ERROR_STOP=1 '" . $s->pg_conninfo . "'",
		(map { $_ => "echo $word{$_} >$dir/order; cat $dir/done" } keys %word), %$env);
	return (
		'db-stop' => sub { $s->pg_stop('immediate') },
		'db-start' => sub { $s->pg_start },
		'seatcast-restart' => sub { $s->restart_seatcast('TERM') },
		'lighttpd-restart' => sub { $s->stop_lighttpd; $s->start_lighttpd(port => $s->{stage}{port}) },
	);
}

sub wait_for_node {
	my ($node, $dir, $orders, $within) = @_;
	my $order;
	# Open for reading and writing, so that it never ends between two orders.
	open $order, '+<', "$dir/order" or die $! if %$orders;
	my $until = time + $within;
	while (!waitpid $node, WNOHANG) {
		if (time > $until) {
			kill KILL => $node;
			waitpid $node, 0;
			return 0;
		}
		my $r = '';
		vec($r, fileno $order, 1) = 1 if $order;
		next if select($r, undef, undef, 0.1) <= 0;
		chomp(my $word = readline $order);
		$orders->{$word} ? $orders->{$word}->() : diag "no such order: $word";
		open my $done, '>', "$dir/done" or die $!;
		say $done 'done';
	}
	return 1;
}

1;
