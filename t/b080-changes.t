#!/usr/bin/env perl
# SPEC 2b: the seats that changed since an id, for caches and pollers; how old an answer is, while the database is away.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 3);
my $path = $s->snapshot_path(1, 101) . '/changes';
my $time = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;
my $fresh = 'public, max-age=1, stale-while-revalidate=5';
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $get = sub { my ($since, %h) = @_; return $s->http(GET => $path . (defined $since ? "?since=$since" : ''), \%h) };
my $full = sub { join ',', map { qq({"id":$_->[0],"status":"$_->[1]"}) } @_ };

my $all = $get->();
is($all->{status}, 200, 'since nothing');
like($all->{body}, qr/\A\{"status":200,"data":\{"id":"[0-9a-f]{8}-1","asOf":"$time","seats":\[\Q@{[$full->(map { [$_, 'AVAILABLE'] } 101 .. 103)]}\E\],"full":true\}\}\z/,
	'… all seats, and it says so');
is($all->{headers}{'cache-control'}, $fresh, '… may be cached');
is($all->{headers}{'content-type'}, 'application/json', '… JSON');
is($all->{headers}{$_}, undef, "… no $_") for qw(set-cookie vary age);
my $id = $all->{json}{data}{id};
is($id, $c->{last_id}, 'its id is that of the stream');
like($get->($id)->{body}, qr/\A\{"status":200,"data":\{"id":"$id","asOf":"$time","seats":\[\]\}\}\z/, 'since that id: nothing');

$s->sql("SELECT seatcast.hold(1, 103, 7, '5m'); SELECT seatcast.hold(1, 101, 7, '5m')");
$c->expect_seat(101 => 'HOLD', 103 => 'HOLD');
my $news = $get->($id);
is($news->{body} =~ s/.*"seats"://r, qq([@{[$full->([101, 'HOLD'], [103, 'HOLD'])]}]}}), 'what changed since, by id');
is($news->{json}{data}{id}, $c->{last_id}, '… and the id of now');
ok(!exists $news->{json}{data}{full}, '… which is not everything');
is($get->($news->{json}{data}{id})->{json}{data}{seats}->@*, 0, 'since then nothing');

my ($epoch) = split /-/, $id;
for my $odd ('', 'garbage', sprintf('%08x-1', hex($epoch) ^ 0x5555), "$epoch-99", "$epoch-0") {
	my $r = $get->($odd);
	is($r->{status}, 200, "since=$odd");
	ok($r->{json}{data}{full} && @{$r->{json}{data}{seats}} == 3, '… all seats');
}
my $head = $s->http(HEAD => "$path?since=$id");
is("$head->{status} $head->{body}", '200 ', 'HEAD has no body');
is($s->http(GET => $s->snapshot_path(1, 999) . '/changes')->{status}, 404, 'an unknown block: 404');
is($s->http(GET => $s->snapshot_path(1, 0) . '/changes')->{status}, 400, 'a malformed one: 400');
is($s->http(POST => $path, {}, q())->{status}, 405, 'POST: 405');

# While the database is away: from memory, as old as it is, and not to be kept for longer than a second more.
my $snapshot = $s->http(GET => $s->snapshot_path(1, 101));
like($snapshot->{headers}{'as-of'}, qr/\A$time\z/, 'a snapshot says when it was so');
is($snapshot->{headers}{age}, undef, '… and has no age');
$s->pg_freeze;
$c->expect_event('stale', within => 15);
my ($as_of) = $c->{event_seen}{json}{data}{asOf};
for my $p ($s->snapshot_path(1, 101), "$path?since=$id") {
	my $r = $s->http(GET => $p);
	is($r->{status}, 200, "stale: $p");
	my $age = $r->{headers}{age} // -1;
	cmp_ok($age, '>=', 2, "… $age s old");
	is($r->{headers}{'cache-control'}, 'public, max-age=' . ($age + 1), '… and not for longer than a second more');
	is($r->{headers}{'as-of'}, $as_of, '… as of the last good poll');
}
my $same = $s->http(GET => $s->snapshot_path(1, 101), { 'If-None-Match' => $snapshot->{headers}{etag} });
is($same->{status}, 304, 'the same seats have the same tag, also when they are old');
ok(defined $same->{headers}{age}, '… and 304 says that they are');
$s->pg_thaw;
$c->expect_event('fresh', within => 15);
is($s->http(GET => $s->snapshot_path(1, 101))->{headers}{'cache-control'}, $fresh, 'good again');
$s->done;
