#!/usr/bin/env perl
# seatcast --check: connects as configured, says what is wrong and how to mend it, and exits 0 or 1.  Each finding is
# provoked once; where the finding names a command, that command mends it.
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 4, lighttpd => 0, start => 0);
my $binary = $ENV{SEATCAST} // ($ENV{top_builddir} // "$FindBin::Bin/../build") . '/src/seatcast';
sub check {		# (exit status, output)
	my ($user, @options) = @_;
	local $ENV{SEATCAST_DATABASE} = $s->pg_conninfo(user => $user);
	open my $out, '-|', $binary, '--check', @options or die "$binary: $!";
	my $text = join '', readline $out;
	close $out;
	return ($? >> 8, $text);
}
# Provoke a finding, see it, mend it.
sub finding {
	my ($says, $status, $like, $break, $mend, $user, @options) = @_;
	$s->sql($_) for @$break;
	my ($got, $text) = check($user // 'seatcast_writer', @options);
	like($text, $like, $says);
	is($got, $status, "… exit $status") or diag $text;
	$s->sql($_) for @$mend;
	return;
}

my ($status, $text) = check('seatcast_writer', '--max-streams', '100', '--max-groups', '10');
is($status, 0, 'a fresh installation: exit 0') or diag $text;
unlike($text, qr/^(error|warning)/m, '… and nothing to complain about');
like($text, qr/^database: \S+ at .* as seatcast_writer/m, '… it says where it is');

my @few = ('--max-streams', '100', '--max-groups', '10');
finding('no database', 1, qr/^error: database: .*\n.*--database/, [], [], 'nobody');
finding('a reader can not allocate', 0, qr/^warning: seatcast_reader may not allocate/m, [], [], 'seatcast_reader', @few);
finding('a superuser', 0, qr/^warning: postgres is a superuser/m, [], [], 'postgres', @few);
finding('a missing function', 1, qr/^error: the port function seatcast\.changes.* is missing: run psql/m,
	['ALTER FUNCTION seatcast.changes RENAME TO lost'], ['ALTER FUNCTION seatcast.lost RENAME TO changes'], undef, @few);
finding('a missing privilege', 1, qr/^error: seatcast_writer may not execute seatcast\.changes/m,
	['REVOKE EXECUTE ON FUNCTION seatcast.changes FROM seatcast_reader, seatcast_writer'],
	['GRANT EXECUTE ON FUNCTION seatcast.changes TO seatcast_reader, seatcast_writer'], undef, @few);
finding('a VOLATILE port function', 1, qr/^error: seatcast\.changes is VOLATILE/m,
	['ALTER FUNCTION seatcast.changes VOLATILE'], ['ALTER FUNCTION seatcast.changes STABLE'], undef, @few);
finding('a disabled trigger', 1, qr/^error: the trigger .* of allocations is missing or not ENABLE ALWAYS/m,
	['ALTER TABLE allocations DISABLE TRIGGER zz_seatcast_track'], ['ALTER TABLE allocations ENABLE ALWAYS TRIGGER zz_seatcast_track'], undef, @few);
finding('a trigger that is not ALWAYS', 1, qr/^error: the trigger/m,
	['ALTER TABLE allocations ENABLE TRIGGER zz_seatcast_track'], ['ALTER TABLE allocations ENABLE ALWAYS TRIGGER zz_seatcast_track'], undef, @few);
finding('privileges that are too wide', 0, qr/^warning: seatcast_writer may write or read allocations directly: (REVOKE .*)/m,
	['GRANT UPDATE ON allocations TO seatcast_writer'], ['REVOKE ALL ON allocations FROM seatcast_writer'], undef, @few);
finding('no time zone', 1, qr/^error: seatcast\.time_zone is 'Asia\/Soul'/m,
	["ALTER DATABASE seatcast SET seatcast.time_zone = 'Asia/Soul'"], ['ALTER DATABASE seatcast RESET seatcast.time_zone'], undef, @few);
my ($index) = $s->sql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'allocations'::regclass
	AND pg_get_indexdef(indexrelid) ~ 'match_id, block_id, changed_xid'");
my ($definition) = $s->sql("SELECT pg_get_indexdef('$index->[0]'::regclass)");
finding('a missing index', 0, qr/^warning: no index on allocations \(match_id, block_id, changed_xid\)/m,
	["DROP INDEX $index->[0]"], [$definition->[0]], undef, @few);
$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 101, 'HOLD')");
finding('changed_xid of another cluster', 0, qr/^warning: 1 rows of allocations carry changed_xid of another cluster/m,
	['ALTER TABLE allocations DISABLE TRIGGER zz_seatcast_track', "UPDATE allocations SET changed_xid = '99999999999'", 'ALTER TABLE allocations ENABLE ALWAYS TRIGGER zz_seatcast_track'],
	['UPDATE allocations SET changed_xid = NULL'], undef, @few);
finding('too few connections', 0, qr/^warning: max_connections leaves \d+ connections; .* may need 4004/m, [], [], undef, '--max-groups', '4000');
finding('too few descriptors', 0, qr/^warning: a process may open \d+ files here, too few for --max-streams 1000000/m, [], [], undef, '--max-streams', '1000000');
finding('a TCP socket', 0, qr/^warning: --listen 127\.0\.0\.1:9000 is TCP/m, [], [], undef, @few, '--listen', '127.0.0.1:9000');
finding('a socket for everybody', 0, qr/^warning: --listen-mode lets every user/m, [], [], undef, @few, '--listen', '/run/x.sock', '--listen-mode', '0666');
($status, $text) = check('seatcast_writer', @few);
is($text =~ /^(error|warning)/m ? $text : '', '', 'all is mended');
$s->done;
