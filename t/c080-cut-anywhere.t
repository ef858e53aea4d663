#!/usr/bin/env perl
# SPEC 2: a client holds an id only when it has everything up to it.  The stream is cut after every single byte of init and of
# a batch; the client comes back with its id, and has what is so.  A strict client takes an event and its id with the empty
# line (WHATWG), an early one takes the id as soon as its line has arrived, as some libraries do.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use JSON::PP qw(decode_json);

my $s = Scenario->new(seats => 4, lighttpd => 0);

# What a client shows after these bytes, and its id.  $early: takes an id when its line arrives.
sub browse {
	my ($bytes, $early, $shown, $id) = @_;
	my %shown = %{$shown // {}};
	my ($type, $data, $event_id);
	while ($bytes =~ /\G([^\n]*)\n/gc) {
		my $line = $1;
		if ($line =~ /^event: (.*)/) { $type = $1 }
		elsif ($line =~ /^data: (.*)/) { $data = $1 }
		elsif ($line =~ /^id: (.*)/) { $event_id = $1; $id = $1 if $early }
		elsif ($line eq '') {
			$id = $event_id // $id;
			my $d = defined $data ? decode_json($data)->{data} : {};
			%shown = ((map { ("seat $_->{id}" => $_->{status}) } @{$d->{seats}}), map { ("block $_->{id}" => "$_->{available} $_->{hold} $_->{occupied}") } @{$d->{blocks} // []})
				if ($type // '') eq 'init';
			$shown{"seat $d->{seatId}"} = $d->{status} if ($type // '') eq 'update';
			$shown{"block $d->{blockId}"} = "$d->{available} $d->{hold} $d->{occupied}" if ($type // '') eq 'count';
			($type, $data, $event_id) = ();
		}
	}
	return (\%shown, $id);
}

my $text = sub { my ($shown) = @_; return join ', ', map { "$_ $shown->{$_}" } sort keys %$shown };
my $hold = 0;
for my $path ($s->stream_path(1, 101), '/api/matches/1/status-stream?blocks=101,102') {
	my $c = $s->client("cut $path")->get($path)->expect_event('init');
	my $init = length $c->{body};
	$hold++;
	$s->sql("SELECT seatcast.hold(1, id, 7, '5m') FROM unnest(ARRAY[@{[$hold == 1 ? '101, 103' : '102, 1000002']}]) AS g(id)");
	my $last = $c->{last_id};
	$s->expect('a batch of several events', sub { ($c->{last_id} // '') ne $last });
	my $bytes = $c->{body};
	my ($truth) = browse($bytes);
	my $held = $path =~ /blocks=/ ? 'seat 1000002' : 'seat 103';
	is($truth->{$held}, 'HOLD', "$path: init of $init bytes and a batch of @{[length($bytes) - $init]}");

	my (%answer, %wrong, %comes);
	for my $n (0 .. length $bytes) {
		for my $early (0, 1) {
			my ($shown, $id) = browse(substr($bytes, 0, $n), $early);
			$answer{$id // ''} //= do {
				my $again = $s->client("with $n bytes")->get($path, defined $id ? ('Last-Event-ID' => $id) : ());
				my $end = qr/\n(?:id: \S+|event: beat\ndata: [^\n]*)\n\n\z/;
				$s->wait_for(sub { $again->{body} =~ $end }, 5);
				$again->close;
				$again->{body};
			};
			$comes{$answer{$id // ''} =~ /event: (\w+)/ ? $1 : 'nothing'}++;
			my ($now) = browse($answer{$id // ''}, $early, $shown, $id);
			push @{$wrong{$early}}, $n if $text->($now) ne $text->($truth);
		}
	}
	is(join(' ', sort keys %comes), 'beat init update', "$path: some got init, some updates, some only a beat");
	is("@{$wrong{0} // []}", '', '… cut at whatever byte: a strict client has no gap');
	# Between an id's line and the empty line behind it is one byte, where such a client holds the id of what it has not taken yet.
	my @gap = grep { substr($bytes, 0, $_) !~ /^id: [^\n]*\n\z/m } @{$wrong{1} // []};
	is("@gap", '', '… nor has an early one, but for the byte between the id and the empty line');
	$c->close;
}
$s->done;
