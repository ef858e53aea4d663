#!/usr/bin/env perl
# make install puts everything where it belongs; make uninstall takes all of it away again, and nothing else; with another --prefix too.
# SPDX-License-Identifier: ISC
use strict; use warnings; use Cwd qw(abs_path); use File::Find; use File::Glob ':bsd_glob'; use File::Temp qw(tempdir); use FindBin; use Test::More;

my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/..");
my $build = abs_path($ENV{top_builddir} // "$src/build");
plan(skip_all => "nothing is configured in $build") if !-e "$build/Makefile";
# Other tests run meanwhile: make may copy here, but not build.
my %from = ("$build/src/seatcast" => "$src/src/{,*/}*.[ch]", "$build/Makefile" => "$src/{Makefile.am,configure.ac}");
for my $made (sort keys %from) {
	my $at = (stat $made)[9] // 0;
	my ($newer) = grep { (stat)[9] > $at } glob $from{$made};
	plan(skip_all => "$made is older than $newer: make") if $newer;
}

my $tmp = tempdir('seatcast-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# Everything below a directory: path => what it is.
sub found {
	my ($top) = @_;
	my %is;
	find({ no_chdir => 1, wanted => sub {
		my $path = substr $File::Find::name, length $top;
		$is{$path} = -d ? 'directory' : sprintf '%o', (stat _)[2] & 07777 if length $path;
	} }, $top) if -d $top;
	return \%is;
}

sub make {
	my ($target, @with) = @_;
	my $with = join ' ', map { "'$_'" } @with;
	my $said = `umask 022; env -u MAKEFLAGS -u MAKELEVEL make -s -C '$build' $target $with 2>&1`;
	is($?, 0, "make $target @{[ map { s/\Q$tmp\E/.../r } @with ]}") or diag($said);
	return $said;
}

sub installs {
	my ($prefix, @with) = @_;
	my $root = "$tmp/root$prefix";
	make('install', "DESTDIR=$root", @with);
	my $is = found($root);
	my $share = "$prefix/share";
	my %file = ("$prefix/sbin/seatcast" => 755, "$share/man/man8/seatcast.8" => 644, "$share/man/man7/seatcast-sql.7" => 644);
	my $add = sub { my ($to, $mode, @from) = @_; $file{"$share/$to/" . s{.*/}{}r} = $mode for @from };
	$add->('seatcast/sql', 644, glob "$src/sql/*.sql");
	$add->('seatcast/web', 644, glob "$src/web/*.*");
	$add->('doc/seatcast', 644, 'lighttpd.conf.sample', qw(README README.ko COPYING NEWS SECURITY CONTRIBUTING HACKING), glob "$src/doc/[a-z]*.*");	# in capitals: for who works on it
	$add->('doc/seatcast/decisions', 644, glob "$src/doc/decisions/*");
	$add->('doc/seatcast/examples', -x ? 755 : 644, $_) for grep { !/completion/ } glob "$src/etc/*";
	$file{"$share/bash-completion/completions/seatcast"} = 644;
	my @files = grep { $is->{$_} ne 'directory' } sort keys %$is;
	is(join("\n", grep { !$is->{$_} } sort keys %file), '', "$prefix: everything is there");
	is(join("\n", grep { !$file{$_} } @files), '', '… and nothing besides');
	is(join("\n", map { "$_ $is->{$_}" } grep { $file{$_} && $file{$_} != $is->{$_} } @files), '', '… with the right modes');

	# What is installed works: the program starts, and every file that install.sql includes is there.
	like(qx{'$root$prefix/sbin/seatcast' --version 2>&1}, qr/\Aseatcast \Q$1\E \((?:release|commit [0-9a-f]+(?:-dirty)?|commit unknown)\)\n\z/, 'the program runs, and says of which source it is') if slurp("$build/config.h") =~ /PACKAGE_VERSION "([^"]*)"/;
	my @wanted = map { slurp($_) =~ /^\\ir\s+(\S+)/mg } glob "$root$share/seatcast/sql/*.sql";
	ok(@wanted > 3, 'install.sql includes files');
	is(join(' ', grep { !-e "$root$share/seatcast/sql/$_" } @wanted), '', '… which are there');

	# Ours among others'
	my $other = "$root$share/seatcast/web/theirs.html";
	open my $fh, '>', $other or die "$other: $!";
	close $fh;
	make('uninstall', "DESTDIR=$root", @with);
	is(join("\n", grep { found($root)->{$_} ne 'directory' } sort keys %{found($root)}), "$share/seatcast/web/theirs.html", 'uninstall takes all of it, and nothing that is another\'s');
	unlink $other;
	make('install', "DESTDIR=$root", @with);
	make('uninstall', "DESTDIR=$root", @with);
	is(join("\n", grep { m{/seatcast} } sort keys %{found($root)}), '', '… and leaves no directory of ours');
	return;
}

sub slurp {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return readline($fh) // '';
}

my ($configured) = slurp("$build/Makefile") =~ /^prefix = (.*)/m;
installs($configured);
installs('/opt/tickets', 'prefix=/opt/tickets');
done_testing;
