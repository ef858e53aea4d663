#!/usr/bin/env perl
# README's "Install and deploy", word for word, on a bare Debian 12: from the release archive to a stream in curl, and away again with nothing left.
# SPDX-License-Identifier: ISC
use strict; use warnings; use Cwd qw(abs_path); use File::Glob ':bsd_glob'; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Container; use Stage; use Test::More; use Time::HiRes qw(sleep);

my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/../..");
my $build = abs_path($ENV{top_builddir} // "$src/build");

# ---- README's lines ----

my ($section) = Stage::slurp("$src/README") =~ /^Install and deploy\n(.*?)^Where to read on$/ms or die 'README has no "Install and deploy"';
my @lines = map { s/\s*\\\n\s*/ /gr } $section =~ /^ {4}((?:[^\n]*\\\n)*[^\n]+)$/mg;
my ($away) = grep { $lines[$_] =~ /disable --now/ } 0 .. $#lines;
my @fetch = grep { /^apt-get / } @lines[0 .. $away - 1];
my @install = grep { !/^apt-get / } @lines[0 .. $away - 1];
my @remove = @lines[$away .. $#lines];
cmp_ok(scalar @install, '>', 15, @lines . ' lines');

# ---- a bare Debian, and the release in it ----

sub unless_here { my ($try) = @_; my $result = eval { $try->() }; return $result if !$@; chomp(my $why = $@); SKIP: { skip $why, 1 } done_testing; exit }
my $c = unless_here(sub { Container->new });
Container::must('make', '-s', '-C', $build, 'dist');
my ($archive) = glob "$build/seatcast-*.tar.xz";
Container::must('tar', '-xf', $archive, '-C', "$c->{root}/usr/local/src");
unlink $archive;
my ($tree) = glob "$c->{root}/usr/local/src/seatcast-*";
my $where = substr $tree, length $c->{root};
for my $line (@fetch) {
	unless_here(sub { my ($status, $text) = $c->before($line); die "no packages here: $line: " . substr($text, -1500) =~ s/\s+/ /gr . "\n" if $status; 1 });
	pass($line);
}
unless_here(sub { $c->boot });

# A line as it stands, in a shell at the top of the source.  curl -N has no end of its own.
sub line {
	my ($line) = @_;
	my $bounded = $line =~ /^curl -N / ? "timeout 5 $line || [ \$? = 124 ]" : $line;
	# The server has just been told to start: a person's fingers take longer than it does.
	if ($line =~ /^curl /) { for (1 .. 50) { last if !($c->run('bash', '-c', '>/dev/tcp/localhost/80'))[0]; sleep 0.2 } }
	my ($status, $text) = $c->run('bash', '-ec', "cd $where && $bounded");
	is($status, 0, $line =~ s/#/\\#/gr) or diag(substr $text, -3000);
	return $text;
}
my %said = map { $_ => line($_) } @install;
my ($check) = map { $said{$_} } grep { /--check$/ } @install;
like($check, qr/^ok: ready to serve$/m, 'the check ends well');
unlike($check, qr/^(?:error|warning): (?!.*somaxconn)/m, '… without a word of complaint') or diag $check;
my ($ready, $stream) = map { my $what = $_; map { $said{$_} } grep { /\Q$what\E/ } @install } '/readyz', 'status-stream';
like($ready, qr/ready\z/, 'ready');
like($stream, qr/^event: init\ndata: \{"status":200.*"status":"AVAILABLE"/m, 'the stream begins with all seats');
like(($c->run('curl', '-s', 'http://localhost/'))[1], qr/<title>[^<]*/, 'the page is there');
like(($c->run(qw(curl -s -H Content-Type:application/json -d {"userId":7} http://localhost/api/matches/1/allocation/seats/101/hold)))[1], qr/"seatId":101,"status":"HOLD"/, 'a seat can be held, from this machine');
like(($c->run('runuser', '-u', 'nobody', '--', 'curl', '-s', '-S', '--unix-socket', '/run/seatcast/fcgi.sock', 'http://x/'))[1], qr/Couldn't connect|Failed to connect/, 'nobody else may use the socket');
is(($c->run('systemctl', 'is-active', 'seatcast.service'))[1], "active\n", 'the service runs');
like(($c->run('journalctl', '-b', '-o', 'cat', '-u', 'seatcast.service'))[1], qr/check: (?:all is well|--check finds 0 errors)/, 'and has said at its start how it is');

# ---- and away ----

line($_) for @remove;
is(($c->run('sh', '-c', 'find / -xdev -iname "*seatcast*" ' . join ' ', map { "! -path '$_/*'" } qw(/proc /sys /run /tmp /var/tmp /var/log /usr/local/src /var/lib/systemd)))[1], '', 'nothing of it is left');
unlike(($c->run('sh', '-c', 'cat /proc/[0-9]*/cmdline'))[1], qr/seatcast: /, 'nor does it run');
$c->end;
done_testing;
