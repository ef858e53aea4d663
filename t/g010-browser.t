#!/usr/bin/env perl
# The page in a real browser (headless Chromium), against the real thing: t/browser/page.test.js says what it promises.
# Needs node, Chromium and playwright-core, which ./quickstart check installs; where they are missing the test fails and
# says so.  Screenshots stay in browser-artefacts/ in the build directory.
use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX qw(mkfifo WNOHANG);
use Scenario;

my $build = $ENV{top_builddir} // "$FindBin::Bin/../build";
my $playwright = $ENV{SEATCAST_PLAYWRIGHT} // "$build/browser/node_modules/playwright-core";
my $chromium = $ENV{SEATCAST_CHROMIUM} // '/usr/bin/chromium';
for (['node', scalar grep { -x "$_/node" } split /:/, $ENV{PATH}], ["$chromium", -x $chromium], [$playwright, -d $playwright]) {
	BAIL() if !ok $_->[1], "$_->[0] is there" or 0;
}
sub BAIL { diag 'run ./quickstart check, which installs it'; done_testing; exit 1 }

my $s = Scenario->new(demo => 1, poll_interval => '500ms', linger => '2s');
my $dir = $s->dir;
mkfifo("$dir/$_", 0600) or die "$dir/$_: $!" for qw(order done);

# What the browser test may ask for: it writes a word to one pipe and waits for the other.
my %orders = (
	'db-stop' => sub { $s->pg_stop('immediate') },
	'db-start' => sub { $s->pg_start },
	'seatcast-restart' => sub { $s->restart_seatcast('TERM') },
	'lighttpd-restart' => sub { $s->stop_lighttpd; $s->start_lighttpd(port => $s->{stage}{port}) },
);
my %env = (
	SEATCAST_URL => $s->url(''),
	SEATCAST_SQL => "psql -X -q -v ON_ERROR_STOP=1 '" . $s->pg_conninfo . "'",
	SEATCAST_PLAYWRIGHT => $playwright,
	SEATCAST_CHROMIUM => $chromium,
	SEATCAST_ARTEFACTS => "$build/browser-artefacts",
	SEATCAST_DB_STOP => "echo db-stop >$dir/order; cat $dir/done",
	SEATCAST_DB_START => "echo db-start >$dir/order; cat $dir/done",
	SEATCAST_RESTART => "echo seatcast-restart >$dir/order; cat $dir/done",
	LIGHTTPD_RESTART => "echo lighttpd-restart >$dir/order; cat $dir/done",
);
defined(my $node = fork) or die "fork: $!";
if (!$node) {
	%ENV = (%ENV, %env);
	open STDOUT, '>', "$dir/node.tap" or die $!;
	exec 'node', '--test', '--test-reporter=tap', "$FindBin::Bin/browser/page.test.js" or die "node: $!";
}
# Open for reading and writing, so that it never ends between two orders.
open my $order, '+<', "$dir/order" or die $!;
my $until = time + 300;
my $ended = 0;
while (!($ended = waitpid $node, WNOHANG) && time < $until) {
	my $r = '';
	vec($r, fileno $order, 1) = 1;
	next if !select $r, undef, undef, 0.1;
	chomp(my $word = readline $order);
	$orders{$word} ? $orders{$word}->() : diag "no such order: $word";
	open my $done, '>', "$dir/done" or die $!;
	say $done 'done';
}
my $status = $?;
if (!$ended) {
	kill KILL => $node;
	waitpid $node, 0;
}
ok $ended, 'the browser test came to its end';
open my $tap, '<', "$dir/node.tap" or die $!;
my ($n, $all) = (0, '');
while (<$tap>) {
	$all .= $_;
	next if !/^\s*(not ok|ok) \d+ - (.*?)( # SKIP.*)?$/ || $2 =~ /page\.test\.js$/;
	$n++;
	ok $1 eq 'ok' && !$3, "browser: $2" . ($3 // '');
}
cmp_ok $n, '>=', 10, 'all cases ran';
is $status, 0, 'node says so too' or diag $all;
$s->done;
