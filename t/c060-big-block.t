#!/usr/bin/env perl
# FastCGI 1.0, 3.3: a record's content ends at 65535 bytes.  The init of a block of 40,000 seats is split into records and
# arrives whole; so does an update of all of them.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI;

my $s = Scenario->new(seats => 40_000, heartbeat => '5m');	# no beat between bytes that are compared, however slow the machine
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
is(scalar(keys %{$c->{seats}}), 40_000, 'all seats through lighttpd');
cmp_ok(length $c->{body}, '>', 1_000_000, '… ' . length($c->{body}) . ' bytes');

my $f = $s->fcgi->request(path => $s->stream_path(1, 101), id => 7, headers => { Accept => 'text/event-stream' });
ok($f->read_until(sub { $f->{stdout} =~ /\n\n\z/ && $f->{stdout} =~ /^event: init/m }), 'over bare FastCGI, for request 7');
cmp_ok(scalar(@{$f->{records}}), '>', 16, '… in ' . @{$f->{records}} . ' records');
is(scalar(grep { $_->{id} != 7 || $_->{type} != FCGI_STDOUT || !length $_->{content} } @{$f->{records}}), 0, '… all STDOUT of request 7, none empty');
is(fcgi_cgi_answer($f->{stdout})->{body} =~ s/\Aretry: \d+\n\n//r, $c->{body} =~ s/\Aretry: \d+\n\n//r, '… the same bytes');
my $snapshot = $s->http(GET => $s->snapshot_path(1, 101));
is($snapshot->{body}, ($c->events('init'))[0]{data}, 'the snapshot has them too');

$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'OCCUPIED' FROM seats WHERE block_id = 101");
$c->expect_seat(101 => 'OCCUPIED', 40_100 => 'OCCUPIED', 20_000 => 'OCCUPIED');
is(scalar(grep { $_ ne 'OCCUPIED' } values %{$c->{seats}}), 0, 'all 40,000 change at once');
is(scalar(grep { defined $_->{id} } $c->events('update')), 1, '… as one batch');
ok($f->read_until(sub { $f->{stdout} =~ /"seatId":40100,"status":"OCCUPIED"\}\}\nid: .*\n\n\z/ }), '… for request 7 as well');
is(scalar(grep { $_->{id} != 7 } @{$f->{records}}), 0, '… under its id');
$s->done;
