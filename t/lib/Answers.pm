# SPDX-License-Identifier: ISC
package Answers;

# What tests have been answered, for t/z010-openapi.t to hold against doc/openapi.yaml.
#
# With SEATCAST_ANSWERS=directory, which quickstart sets, each process of a test appends to a file of its own
# there: one JSON line for each answer, and for each event of a stream, that it has not seen before in
# the very same words; at its end how many there were in all.

use v5.32;
use warnings;
use Digest::MD5 qw(md5);
use JSON::PP ();
use MIME::Base64 qw(encode_base64);

my ($dir, $json, $fh, $owner) = ($ENV{SEATCAST_ANSWERS}, JSON::PP->new->ascii->canonical);
my (%seen, %count);

sub to { my ($where) = @_; $dir = $where; undef $fh; %seen = %count = (); return }

# kind "answer": method, path, status, headers, body; kind "event": path, type, data.  A block of 40,000 seats comes by as well, and
# nobody is to wait for this: bytes travel as base64, and what was seen is known by its digest.
sub record {
	my (%what) = @_;
	return if !defined $dir;
	$count{$what{kind}}++;
	my $bytes = delete $what{body} // delete $what{data} // '';
	my $rest = $json->encode(\%what);
	return if $seen{md5($rest, $bytes)}++;
	if (!$fh || $owner != $$) {
		$owner = $$;
		open $fh, '>>', "$dir/$$.jsonl" or die "$dir/$$.jsonl: $!";
		$fh->autoflush;
	}
	chop $rest;
	print $fh $rest, ',"bytes":"', encode_base64($bytes, ''), "\"}\n";
	return;
}

END { print $fh $json->encode({ kind => 'count', %count }), "\n" if $fh && $owner == $$ }

1;
