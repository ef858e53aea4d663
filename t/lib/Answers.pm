package Answers;

# What tests have been answered, for t/z010-openapi.t to hold against doc/openapi.yaml.
#
# With SEATCAST_ANSWERS=directory, which quickstart sets, each process of a test appends to a file of its own
# there: one JSON line for each answer, and for each event of a stream, that it has not seen before in
# the very same words; at its end how many there were in all.

use v5.32;
use warnings;
use Digest::MD5 qw(md5);
use Encode ();
use JSON::PP ();

my ($dir, $json, $fh, $owner) = ($ENV{SEATCAST_ANSWERS}, JSON::PP->new->ascii->canonical);
my (%seen, %count);

sub to { my ($where) = @_; $dir = $where; undef $fh; %seen = %count = (); return }

# kind "answer": method, path, status, headers, body; kind "event": path, type, data, id.
sub record {
	my (%what) = @_;
	return if !defined $dir;
	$count{$what{kind}}++;
	$_ = Encode::decode('UTF-8', $_) for grep { defined } @what{qw(body data)};
	my $line = $json->encode(\%what);
	return if $seen{md5($line)}++;
	if (!$fh || $owner != $$) {
		$owner = $$;
		open $fh, '>>', "$dir/$$.jsonl" or die "$dir/$$.jsonl: $!";
		$fh->autoflush;
	}
	print $fh "$line\n";
	return;
}

END { print $fh $json->encode({ kind => 'count', %count }), "\n" if $fh && $owner == $$ }

1;
