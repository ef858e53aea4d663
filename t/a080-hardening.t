#!/usr/bin/env perl
# The program is built with what compiler and linker have against exploits, unless configure was told otherwise.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use Test::More; use File::Spec;

my $build = File::Spec->rel2abs($ENV{top_builddir} // "$FindBin::Bin/../build");
my $binary = $ENV{SEATCAST} // "$build/src/seatcast";
sub slurp { my ($path) = @_; open my $f, '<', $path or return ''; local $/; return <$f> // '' }
my $config = slurp("$build/config.h");
plan(skip_all => 'configured with --disable-hardening') if $config !~ /^#define HARDENED 1/m;
my $flags = join ' ', slurp("$build/Makefile") =~ /^(?:HARDENING_CFLAGS|HARDENING_LDFLAGS|CFLAGS|LDFLAGS|SANITIZER_CFLAGS) = ?(.*)$/mg;
my $elf = qx{LC_ALL=C readelf -hlWdn --dyn-syms '$binary' 2>&1};
plan(skip_all => 'readelf is not installed') if $? == -1 || $? >> 8 == 127;

sub has { my ($flag, $like, $says) = @_; SKIP: { skip "$says: not with this compiler, or these flags", 1 if $flags !~ /\Q$flag\E/ || $flags =~ /\Q$flag\E.* -fno/; like($elf, $like, $says) } }
has('-pie', qr/^\s*Type:\s+DYN/m, 'the address of the program is drawn (PIE)');
has('-z,relro', qr/GNU_RELRO/, 'what is relocated is read-only then (RELRO)');
has('-z,now', qr/BIND_NOW|FLAGS_1.*\bNOW\b/, '… all of it, since nothing is bound later (BIND_NOW)');
has('noexecstack', qr/GNU_STACK\s+(?:\S+\s+){5}RW\s/, 'the stack is not executable');
has('-fstack-protector-strong', qr/__stack_chk_fail/, 'a stack that was written over ends the process');
has('-D_FORTIFY_SOURCE', qr/__(?:snprintf|memcpy|vsnprintf)_chk/, 'sizes are checked where they are known (FORTIFY)');
like($flags, qr/-D_FORTIFY_SOURCE=3/, '… at the level that this compiler and library have') if qx{printf '#include <features.h>\n__GLIBC_MINOR__' | cc -E -P - 2>/dev/null} =~ /^(\d+)\s*\z/m && $1 >= 34 && qx{cc -dumpversion} >= 12 && $flags =~ /FORTIFY/;
is(scalar(() = qx{LC_ALL=C readelf -lW '$binary'} =~ /^\s*LOAD\s.*\bRWE\b/mg), 0, 'nothing is writable and executable');
unlike($elf, qr/R(?:UN)?PATH/, 'no library is looked for in odd places');
done_testing;
