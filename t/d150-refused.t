#!/usr/bin/env perl
# What waiting does not mend is said as such, with what does: a role that is not there or may not log in, a wrong password, no
# database of that name.  It is tried again all the same, and works when it is mended.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 2, lighttpd => 0, start => 0);
sub refused {
	my ($says, $like, $broken, $mended, %conninfo) = @_;
	$s->sql($_) for @$broken;
	$s->{stage}->start_seatcast(workers => 1, database => $s->pg_conninfo(user => 'seatcast_writer', %conninfo));
	$s->expect_log(qr/database: refused: .*; waiting does not mend that: .*$like/);
	$s->sql($_) for @$mended;
	if (@$mended) {
		$s->expect("$says: served when it is mended", sub { $s->fcgi->request(path => '/readyz')->answer->{status} == 200 });
	}
	$s->stop_seatcast;
	unlink $s->{stage}->log_path('seatcast');
}
refused('a role that may not log in', qr/ALTER ROLE \.\.\. LOGIN/, ['ALTER ROLE seatcast_writer NOLOGIN'], ['ALTER ROLE seatcast_writer LOGIN']);
refused('no such role', qr/make the roles/, [], [], user => 'nobody');
refused('no such database', qr/make it: createdb/, [], [], dbname => 'nowhere');
my ($hba) = map { $_->[0] } $s->sql('SHOW hba_file');
my $trust = Stage::slurp($hba);
sub hba { my ($text) = @_; open my $fh, '>', $hba or die "$hba: $!"; print $fh $text; close $fh; $s->sql('SELECT pg_reload_conf()') }
hba("local all postgres trust\nlocal all all scram-sha-256\n");
$s->sql("ALTER ROLE seatcast_writer PASSWORD 'right'");
refused('a wrong password', qr/ALTER ROLE \.\.\. PASSWORD/, [], ["ALTER ROLE seatcast_writer PASSWORD 'wrong'"], password => 'wrong');
refused('no password', qr/PGPASSWORD or a passfile/, [], []);
hba("local all postgres trust\nlocal all all peer\n");
refused('peer authentication', qr/pg_ident\.conf/, [], []);
hba("local all postgres trust\n");
refused('no line for us', qr/add a line/, [], []);
hba($trust);
$s->done;
