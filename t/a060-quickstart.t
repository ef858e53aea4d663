#!/usr/bin/env perl
# quickstart: wrong options are said before anything is built; what an interrupted bootstrap left is not taken for the whole; a second
# try is a pass for a person and a failure in CI; the show says how to see it from elsewhere, and leaves nothing behind, whatever ends it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use Cwd qw(abs_path); use File::Temp qw(tempdir); use FindBin; use IO::Socket::INET; use Test::More; use Time::HiRes qw(time sleep);

my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/..");
plan(skip_all => 'this is about build/, and that is not built') if abs_path($ENV{top_builddir} // "$src/build") ne "$src/build" || !-x "$src/build/src/seatcast";
my $patience = $ENV{SEATCAST_PATIENCE} // 1;
my $tmp = tempdir('sq-XXXXXX', DIR => '/tmp', CLEANUP => 1);
chmod 0755, $tmp;
delete @ENV{qw(CI SSH_CONNECTION QUICKSTART_TAP)};

# Exit status and output.
sub quickstart {
	my (@with) = @_;
	open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', "$src/quickstart", @with or die "quickstart: $!";
	my $text = join '', readline $out;
	close $out;
	return ($? >> 8, $text);
}
sub leftovers { opendir my $d, "$tmp/show" or die; return grep { !/^\./ } readdir $d }

# ---- options ----

for (['--wrong', 1], ['--buyers', 'many'], ['--buyers', 0], ['--speed', 0], ['--port', 70000], ['--bind', 'here'], ['--for'], ['what'], ['check', '--wrong'], ['check', 't/none.t']) {
	my $start = time;
	my ($status, $text) = quickstart(@$_);
	is($status, 1, "@$_: refused");
	like($text, qr/\Aquickstart: [^\n]+\n\z/, '… in one line, before the build') or diag $text;
}
my ($status, $help) = quickstart('--help');
like($help, qr/--$_\b/, "--help has --$_") for qw(buyers speed port bind for slow sanitizers build);

# ---- what is there ----

my ($made) = do { local $/; open my $fh, '<', "$src/quickstart" or die; readline($fh) =~ /^(bootstrapped\(\) \{.*?^\})/ms };
sub bootstrapped { return system('bash', '-c', "cd '$tmp/tree' && $made\nbootstrapped") == 0 }
my @aux = qw(compile depcomp install-sh missing tap-driver.sh);
my @files = (qw(configure Makefile.in config.h.in aclocal.m4), map { "build-aux/$_" } @aux);
mkdir "$tmp/tree";
mkdir "$tmp/tree/build-aux";
for my $name ('configure.ac', @files) {
	open my $fh, '>', "$tmp/tree/$name" or die "$name: $!";
	print $fh $name eq 'configure' ? "ac_aux_files=\"@aux\"\n" : "x\n";
}
utime((time + 5) x 2, "$tmp/tree/configure") or die;
ok(bootstrapped(), 'all of what bootstrap makes is there');
for (@files) {
	rename "$tmp/tree/$_", "$tmp/aside";
	ok(!bootstrapped(), "$_ is missing");
	rename "$tmp/aside", "$tmp/tree/$_";
}
utime((time + 10) x 2, "$tmp/tree/configure.ac") or die;
ok(!bootstrapped(), 'configure.ac has become another since');

# ---- a second try ----

open my $t, '>', "$tmp/flaky.t" or die;
print $t qq{use Test::More; ok(-e "$tmp/once", 'the second time'); open my \$f, '>', "$tmp/once"; done_testing;};
close $t;
open $t, '>', "$tmp/broken.t" or die;
print $t q{use Test::More; ok(0, 'never'); done_testing;};
close $t;
sub check { my (@tests) = @_; unlink "$tmp/once"; return quickstart('check', @tests) }
my ($person, $said) = check("$tmp/flaky.t");
is($person, 0, 'a test that passes when it is run again, alone: for a person that is enough') or diag $said;
like($said, qr/^Result: PASS \(at the second try: \Q$tmp\E\/flaky\.t; in CI/m, '… and is said');
{
	local $ENV{CI} = 'true';
	my ($machine, $text) = check("$tmp/flaky.t");
	is($machine, 1, '… in CI it is a failure');
	like($text, qr/^Result: FAIL \(passed at the second try only.*: \Q$tmp\E\/flaky\.t\)$/m, '… which says what it was');
}
my ($again, $text) = check("$tmp/flaky.t", "$tmp/broken.t");
is($again, 1, 'what fails again is a failure for all');
like($text, qr/^Result: FAIL \(again: \Q$tmp\E\/broken\.t;/m, '… by name');
like($text, qr/^not ok 1 - never$/m, '… with what failed');

# ---- the show ----

mkdir "$tmp/show";
chmod 0755, "$tmp/show";
$ENV{TMPDIR} = "$tmp/show";
my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
my $port = $probe->sockport;
close $probe;
{
	local $ENV{SSH_CONNECTION} = '192.0.2.7 50022 192.0.2.1 22';
	my ($shown, $page) = quickstart('--port', $port, '--for', 1);
	is($shown, 0, 'it ends by itself') or diag $page;
	like($page, qr{http://127\.0\.0\.1:$port/\?match=1&block=101}, '… and was where --port said');
	like($page, qr{ssh -N -L $port:127\.0\.0\.1:$port \S+\@192\.0\.2\.1$}m, '… with the line for a tunnel, over ssh');
}
is(join(' ', leftovers()), '', '… and left nothing');
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
SKIP: {
	skip "port $port is somebody's by now", 1 if !$taken;
	like((quickstart('--port', $port))[1], qr/^quickstart: cannot listen on 127\.0\.0\.1, port $port: /m, 'a port that is taken');
}
for my $how ('two quick Ctrl-C', 'nobody reads any more') {
	my $pid = open my $out, '-|', 'setsid', "$src/quickstart" or die;
	my $line = '';
	while ($line !~ /Buyers are coming/) { $line = readline($out) // die "quickstart ended early" }
	if ($how =~ /Ctrl-C/) {
		kill 'INT', -$pid;
		sleep 0.02;
		kill 'INT', -$pid;
		1 while defined readline $out;
	}
	local $SIG{ALRM} = sub { kill 'TERM', -$pid };
	alarm 60 * $patience;
	close $out;			# waits for it
	alarm 0;
	is(join(' ', leftovers()), '', "$how: it leaves nothing");
}
done_testing;
