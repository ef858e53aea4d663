#!/usr/bin/env perl
# The Debian package: built in a bare Debian 12 from the release archive by what debian/control asks for, lintian has no word against it, and its own
# tests (autopkgtest) pass there: a stream from the installed program; the service with its units, peer authentication and lighttpd; a restart.
# SPDX-License-Identifier: ISC
use strict; use warnings; use Cwd qw(abs_path); use File::Glob ':bsd_glob'; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Container; use Stage; use Test::More;

my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/../..");
my $build = abs_path($ENV{top_builddir} // "$src/build");
sub unless_here { my ($try) = @_; my $result = eval { $try->() }; return $result if !$@; chomp(my $why = $@); SKIP: { skip $why, 1 } done_testing; exit }
my $c = unless_here(sub { Container->new });
Container::must('make', '-s', '-C', $build, 'dist');
my ($archive) = glob "$build/seatcast-*.tar.xz";
Container::must('tar', '-xf', $archive, '-C', "$c->{root}/usr/local/src");
unlink $archive;
my ($tree) = glob "$c->{root}/usr/local/src/seatcast-*";
my $where = substr $tree, length $c->{root};

# What its tests need comes now as well: in there is no network.
unless_here(sub {
	my ($status, $text) = $c->before("apt-get -qq update && apt-get -y -qq install dpkg-dev lintian autopkgtest build-essential dbus && apt-get -y -qq build-dep $where && "
	    . 'apt-get -y -qq install ' . join ' ', 'libjson-c5', 'libev4', 'libpq5', 'libbsd0', grep { !/^@/ } map { split /,\s*/ } Stage::slurp("$tree/debian/tests/control") =~ /^Depends: (.*)/mg);
	die 'no packages here: ' . substr($text, -1500) =~ s/\s+/ /gr . "\n" if $status;
	1;
});
unless_here(sub { $c->boot });
sub works { my ($says, $line) = @_; my ($status, $text) = $c->run('bash', '-ec', $line); is($status, 0, $says) or diag(substr $text, -4000); return $text }
works('it is built, and its unit tests pass', "cd $where && dpkg-buildpackage -us -uc -b");
is(works('lintian runs', 'cd /usr/local/src && lintian --allow-root --pedantic --info ./*.changes'), '', '… and has no word against it');
# Its restrictions ask for a container: this is one.
my $said = works('its own tests pass', "cd /usr/local/src && autopkgtest --ignore-restrictions=isolation-container,breaks-testbed ./seatcast_*.deb $where/ -- null");
my %result = $said =~ /^(\w+)\s+(PASS|FAIL|SKIP)/mg;
is(join(' ', map { "$_ $result{$_}" } sort keys %result), 'service PASS stream PASS', '… both');
works('it goes away again', 'apt-get -y -qq purge seatcast');
is(($c->run('sh', '-c', 'find / -xdev -iname "*seatcast*" ' . join ' ', map { "! -path '$_/*'" } qw(/proc /sys /run /tmp /var/tmp /var/log /usr/local/src /var/lib/systemd /var/lib/apt /var/cache /etc/lighttpd)))[1], '', 'nothing of it is left');
$c->end;
done_testing;
